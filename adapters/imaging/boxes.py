"""AVIF and HEIC, which are made of boxes (ISO/IEC 14496-12, 23008-12), made harmless for the libraries that read them.

What a library does with a header may cost the square of its lists' lengths, or a copy of a profile for each of a
thousand pictures. So the header is walked first: its lists have an end, and metadata is hidden.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import ClassVar, Final, NamedTuple

from adapters.imaging.reader import MAX_FRAMES, BrokenError, Reader, TooManyFramesError

# The header says how pictures are stored, and has profiles; pixels of small pictures may lie in it too.
_MAX_HEADER_BYTES: Final = 4 * 1024 * 1024
# libavif wants the whole file in memory.
_MAX_HELD_BYTES: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024
_MAX_BOXES: Final = 10_000
# Libraries look each item up in a list of all. A picture of many tiles has hundreds; libheif has the same limit.
_MAX_ITEMS: Final = 1_000
_MAX_REFERENCES_BYTES: Final = 16 * 1024
# A film may have a track of colours and one of transparency, with as many samples each as it has frames.
_MAX_SAMPLES: Final = 2 * MAX_FRAMES
# What copies of a picture's properties may take: libavif makes one for each item that has the property.
_MAX_PROPERTY_COPIES_BYTES: Final = 64 * 1024 * 1024
# Items of EXIF, XMP and the like. Their type is changed, so that nobody looks for them: how the picture is turned
# stands in its `irot` and `imir` properties, and EXIF does not count (23008-12, section 6.5.10).
_METADATA_ITEMS: Final = frozenset({b"Exif", b"mime", b"uri "})
_HIDDEN: Final = b"skip"
_SRGB: Final = b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80)
# A coded picture is padded to whole blocks of 64 at most, and cut to its size by a `clap` property.
_BLOCK: Final = 64
_TOP: Final = frozenset({b"meta", b"moov"})

# Which boxes are looked for inside of which.
_INSIDE: Final[dict[bytes, frozenset[bytes]]] = {
    b"": _TOP,
    b"meta": frozenset({b"iinf", b"iloc", b"iref", b"iprp"}),
    b"iinf": frozenset({b"infe"}),
    b"iref": frozenset({b"cdsc"}),
    b"iprp": frozenset({b"ipco", b"ipma"}),
    b"ipco": frozenset({b"ispe", b"colr"}),
    b"moov": frozenset({b"trak"}),
    b"trak": frozenset({b"mdia", b"meta"}),
    b"mdia": frozenset({b"minf"}),
    b"minf": frozenset({b"stbl"}),
    b"stbl": frozenset({b"stsz", b"stz2", b"stts", b"ctts", b"stss", b"stsc", b"stco", b"co64"}),
}


def walk_boxes(file: Reader, *, with_data: bool) -> tuple[bytes, int]:
    """Walk a whole file; return its head, made harmless, and the pixels of the largest picture.

    The head ends with the header, or, for a library that wants the data too, with the file. The pixels are those of
    the picture's properties, less what may be padding.
    """
    if with_data and file.size > _MAX_HELD_BYTES:
        raise BrokenError(f"is an AVIF of more than {_MAX_HELD_BYTES} bytes")
    head, header = BytesIO(), _Header(file, with_profiles=with_data)
    header_bytes = 0
    described = has_data = False
    while (start := file.at) < file.size:
        file.count_part()
        kind, length = _top_box(file)
        file.skip(start + length - file.at)
        if kind in _TOP or kind == b"ftyp":
            header_bytes += length
            if header_bytes > _MAX_HEADER_BYTES:
                raise BrokenError(f"has a header of more than {_MAX_HEADER_BYTES} bytes")
            file.at = start
            box = bytearray(file.take(length))
            header.tame(box)
            head.write(box)
            described = described or kind in _TOP
            # Small pictures may lie inside the header.
            has_data = has_data or b"idat" in box
        elif with_data:
            for piece in range(start, start + length, _PIECE_BYTES):
                file.at = piece
                head.write(file.take(min(_PIECE_BYTES, start + length - piece)))
        if kind == b"uuid":
            file.count_metadata(length)
        has_data = has_data or kind == b"mdat"
    if not described or not has_data:
        raise BrokenError("ends before its image does")
    return head.getvalue(), header.largest_pixels


def _top_box(file: Reader) -> tuple[bytes, int]:
    start = file.at
    length, kind = struct.unpack(">I4s", file.take(8))
    if length == 1:
        length = int.from_bytes(file.take(8), "big")
    elif length == 0:
        length = file.size - start
    if length < file.at - start:
        raise BrokenError("has a box that is shorter than its own header")
    return kind, length


class _Box(NamedTuple):
    """A box inside a header: it begins at ``at``, and its content is from ``start`` to ``stop``."""

    header: bytearray
    kind: bytes
    at: int
    start: int
    stop: int

    def number(self, offset: int, size: int) -> int:
        at = self.start + offset
        if at + size > self.stop:
            raise BrokenError("has a box that ends before its content does")
        return int.from_bytes(self.header[at : at + size], "big")

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start

    def inner(self, offset: int = 0) -> "Iterator[_Box]":
        """Yield the boxes behind the first ``offset`` bytes of the content."""
        at = self.start + offset
        while self.stop - at >= 8:  # noqa: PLR2004 (length and kind)
            length, kind = struct.unpack_from(">I4s", self.header, at)
            start = at + 8
            if length == 1:
                length, start = self.number(start - self.start, 8), start + 8
            stop = at + length if length else self.stop
            if not start <= stop <= self.stop:
                raise BrokenError("has boxes that leave each other")
            yield _Box(self.header, kind, at, start, stop)
            at = stop


class _Header:
    """The header boxes of a file, and what was counted in them."""

    def __init__(self, file: Reader, *, with_profiles: bool) -> None:
        self.largest_pixels = 0
        self._file = file
        self._with_profiles = with_profiles
        self._boxes = 0
        self._entries: Counter[bytes] = Counter()
        # Of one `meta` box: the items that are metadata, and the tables of where items lie; the largest property,
        # and the lists of which item has which.
        self._metadata_items: set[int] = set()
        self._locations: list[_Box] = []
        self._property_bytes = self._associations_bytes = 0
        # Of one track: how many chunks it has, and the runs of chunks alike: the first, and samples in each.
        self._chunks = 0
        self._runs: list[tuple[int, int]] = []

    def tame(self, header: bytearray) -> None:
        """Check a box of the top level, and change it in place; everything stays where it is.

        Raises:
            BrokenError: there are boxes that leave each other, or more of them than any picture needs.
            TooManyFramesError: there is a film of too many frames.
            TooMuchMetadataError: there is too much of that, here or where this points to.
        """
        self._look_inside(_Box(header, b"", 0, 0, len(header)))

    def _look_inside(self, parent: _Box, offset: int = 0) -> None:
        inside = _INSIDE[parent.kind]
        for box in parent.inner(offset):
            self._boxes += 1
            if self._boxes > _MAX_BOXES:
                raise BrokenError(f"has more than {_MAX_BOXES} boxes in its header")
            if box.kind in inside:
                self._LOOKS.get(box.kind, _Header._look_inside)(self, box)

    def _count(self, box: _Box, entries: int, most: int) -> None:
        self._entries[box.kind] += entries
        if self._entries[box.kind] > most:
            if box.kind in _INSIDE[b"stbl"]:
                raise TooManyFramesError
            raise BrokenError("has more items in its header than can be read")

    # ---- still pictures are items of a `meta` box

    def _meta(self, box: _Box) -> None:
        self._metadata_items.clear()
        self._locations.clear()
        self._property_bytes = self._associations_bytes = 0
        self._look_inside(box, 4)
        # An association takes one byte at least.
        if self._property_bytes * self._associations_bytes > _MAX_PROPERTY_COPIES_BYTES:
            raise BrokenError("has properties in its header that are too large to be read")
        for locations in self._locations:
            self._count_metadata(locations)

    def _iinf(self, box: _Box) -> None:
        count_size = 4 if box.number(0, 1) else 2
        self._count(box, box.number(4, count_size), _MAX_ITEMS)
        self._look_inside(box, 4 + count_size)

    def _infe(self, box: _Box) -> None:
        version = box.number(0, 1)
        if version < 2:  # noqa: PLR2004 (they had no type yet)
            return
        id_size = 2 if version == 2 else 4  # noqa: PLR2004
        kind_at = box.start + 4 + id_size + 2
        if bytes(box.header[kind_at : kind_at + 4]) in _METADATA_ITEMS:
            self._metadata_items.add(box.number(4, id_size))
            box.header[kind_at : kind_at + 4] = _HIDDEN

    def _iloc(self, box: _Box) -> None:
        self._count(box, box.number(6, 2 if box.number(0, 1) < 2 else 4), _MAX_ITEMS)  # noqa: PLR2004
        self._locations.append(box)

    def _count_metadata(self, iloc: _Box) -> None:
        version, sizes = iloc.number(0, 1), iloc.number(4, 2)
        offset_size, length_size, base_size, index_size = (sizes >> shift & 0xF for shift in (12, 8, 4, 0))
        id_size = 2 if version < 2 else 4  # noqa: PLR2004
        extent_size = (index_size if version else 0) + offset_size + length_size
        at = 6 + id_size
        for _ in range(iloc.number(6, id_size)):
            item = iloc.number(at, id_size)
            at += id_size + (2 if version else 0) + 2 + base_size
            extents = iloc.number(at, 2)
            at += 2
            for extent in range(1, 1 + extents if item in self._metadata_items else 0):
                self._file.count_part()
                length = iloc.number(at + extent * extent_size - length_size, length_size)
                self._file.count_metadata(min(length, self._file.size))
            at += extents * extent_size

    def _iref(self, box: _Box) -> None:
        self._count(box, box.size_bytes, _MAX_REFERENCES_BYTES)
        self._look_inside(box, 4)

    def _cdsc(self, box: _Box) -> None:
        # From metadata, of whatever type, to the pictures that it describes: pillow-heif copies it for each.
        box.header[box.at + 4 : box.at + 8] = _HIDDEN

    def _ipco(self, box: _Box) -> None:
        self._look_inside(box)
        others = (each.size_bytes for each in box.inner() if each.kind != b"colr")
        self._property_bytes = max(self._property_bytes, *others, 0)

    def _ipma(self, box: _Box) -> None:
        self._count(box, box.number(4, 4), _MAX_ITEMS)
        self._associations_bytes += box.size_bytes

    def _ispe(self, box: _Box) -> None:
        width, height = (max(box.number(at, 4) - _BLOCK + 1, 1) for at in (4, 8))
        self.largest_pixels = max(self.largest_pixels, width * height)

    def _colr(self, box: _Box) -> None:
        self._file.count_metadata(box.size_bytes)
        # pillow-heif copies a profile for each picture that has it.
        if not self._with_profiles and box.size_bytes >= len(_SRGB):
            box.header[box.start : box.start + len(_SRGB)] = _SRGB

    # ---- films are tracks of a `moov` box, and their frames samples

    def _stbl(self, box: _Box) -> None:
        self._chunks = samples = 0
        self._runs.clear()
        self._look_inside(box)
        behind = self._chunks + 1
        for first, in_each in reversed(self._runs):
            if first > behind:
                raise BrokenError("has a film whose tables disagree")
            samples += (behind - first) * in_each
            behind = first
        if samples > MAX_FRAMES:
            raise TooManyFramesError

    def _sample_sizes(self, box: _Box) -> None:
        self._count(box, box.number(8, 4), _MAX_SAMPLES)

    def _sample_table(self, box: _Box) -> None:
        entries = box.number(4, 4)
        self._count(box, entries, _MAX_SAMPLES)
        if box.kind in {b"stco", b"co64"}:
            self._chunks += entries
        elif box.kind == b"stsc":
            self._runs += [(box.number(at, 4), box.number(at + 4, 4)) for at in range(8, 8 + 12 * entries, 12)]

    _LOOKS: ClassVar[dict[bytes, Callable[["_Header", _Box], None]]] = {
        b"meta": _meta,
        b"iinf": _iinf,
        b"infe": _infe,
        b"iloc": _iloc,
        b"iref": _iref,
        b"cdsc": _cdsc,
        b"ipco": _ipco,
        b"ipma": _ipma,
        b"ispe": _ispe,
        b"colr": _colr,
        b"stbl": _stbl,
        b"stsz": _sample_sizes,
        b"stz2": _sample_sizes,
        **dict.fromkeys((b"stts", b"ctts", b"stss", b"stsc", b"stco", b"co64"), _sample_table),
    }
