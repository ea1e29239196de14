"""Walks over image containers: is the file whole, how many frames has it, and which bytes describe its pixels.

A walk follows the container's own lengths from part to part and never looks inside compressed data: it costs little
and decodes nothing. It returns a small stand-in for the file, its ``head``, for the library that reads the header:
pixels are cut out of it, and so is metadata. Libraries hold every text, profile and comment in memory, and answer odd
ones with a warning, a process-wide thing that a guest in another program's process must not cause.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from operator import add
from typing import BinaryIO, NamedTuple

from adapters.imaging.boxes import walk_boxes
from adapters.imaging.reader import MAX_FRAMES, BrokenError, Reader, TooManyFramesError
from domain.values import MediaType


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """What a walk found.

    ``frame_pixels`` is the size of the largest frame and ``file_pixels`` that of all together; 0 where only a library
    can tell. ``orientation`` is that of EXIF, 1-8.
    """

    head: bytes
    frames: int = 1
    frame_pixels: int = 0
    file_pixels: int = 0
    orientation: int = 1


def walk(stream: BinaryIO, media_type: MediaType, *, max_metadata_bytes: int) -> Container:
    """Walk a whole file of the given format, in memory that doesn't grow with the file (AVIF apart).

    Metadata is all that is not picture: EXIF, XMP, ICC profiles, texts, comments. It is counted as it is stored.

    Raises:
        BrokenError: it is cut short, not made as its format says, or made to keep us busy.
        TooManyFramesError: it has more than MAX_FRAMES frames.
        TooMuchMetadataError: it has more than ``max_metadata_bytes`` of that.
    """
    return _WALKS[media_type](Reader(stream, max_metadata_bytes=max_metadata_bytes))


def orientation_of(exif: bytes) -> int:
    """Return the orientation, 1-8, that an EXIF block states (EXIF 2.32, tag 0x0112); 1 if there is none to be read.

    The block may begin with its ``Exif`` signature.
    """
    block = re.sub(rb"\A(?:Exif\0\0){1,2}", b"", exif)
    order = _BYTE_ORDERS.get(block[:2])
    if order is None or len(block) < _TIFF_HEADER_BYTES:
        return 1
    file = Reader(BytesIO(block), max_metadata_bytes=len(block))
    try:
        return _orientation(file, order, _directory(file, order, struct.unpack_from(order + "I", block, 4)[0]))
    except BrokenError:
        return 1


# ---- JPEG (ITU-T T.81, annex B)

_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_JPEG_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})
# Frames that a decoder exists for: not the hierarchical ones. 0xC4, 0xC8 and 0xCC are no frames.
_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})
# The others, and DHP, which comes before all frames of such a file.
_HIERARCHICAL = frozenset({0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE})
# Frames that are not progressive: a scan has the components that it names whole.
_SOF_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC3, 0xC9})
_SOF_MIN_BYTES = 10  # from its marker to its number of components
# In a scan 0xFF00 is a byte of data and D0-D7 are restarts; repeated 0xFF are padding before a marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_EXIF_SIGNATURE = b"Exif\0\0"
_SEGMENT_START_BYTES = 4 + len(_EXIF_SIGNATURE)  # marker and length stand before it


def _walk_jpeg(file: Reader) -> Container:
    frame = exif = scan = b""
    file.skip(2)
    # An EOI inside a segment is a thumbnail's. Behind the real one anything may follow: more pictures, a film.
    while (start := _next_segment(file))[1] != _EOI:
        marker = start[1]
        file.count_part()
        if marker in _HIERARCHICAL:
            raise BrokenError("is a hierarchical JPEG, which is not supported")
        if marker == _SOI or marker <= 0x01:
            file.skip(2)
            continue
        segment_bytes = 2 + int.from_bytes(start[2:4], "big")
        after = file.at + segment_bytes
        if marker in _SOF and not frame:
            frame = file.take(segment_bytes)
        elif marker == _SOS and not scan:
            scan = file.take(segment_bytes)
            if _is_all_of(frame, scan) and file.ends_with(b"\xff\xd9"):
                break
        elif marker == _APP1 and not exif and start[4:] == _EXIF_SIGNATURE and segment_bytes >= _SEGMENT_START_BYTES:
            exif = file.take(segment_bytes)[4:]
        file.skip(after - file.at)
        if marker in _JPEG_METADATA:
            file.count_metadata(segment_bytes - 2)
    if len(frame) < _SOF_MIN_BYTES or not scan:
        raise BrokenError("has no picture in it")
    height, width = struct.unpack_from(">HH", frame, 5)
    return _container(b"\xff\xd8" + frame + scan, width, height, turned=orientation_of(exif))


def _next_segment(file: Reader) -> bytes:
    """Move to the next marker, and return the first bytes from there on."""
    start = file.peek(_SEGMENT_START_BYTES)
    if not _MARKER.match(start):
        file.find(_MARKER)
        start = file.peek(_SEGMENT_START_BYTES)
    return start


def _is_all_of(frame: bytes, scan: bytes) -> bool:
    """Tell whether a scan has all of a frame's components, so that nothing but an EOI may follow its data.

    Most photos are like that. If such a file ends in an EOI, its data, nearly all of it, needn't be searched for one:
    none can stand in sound data. Whatever does stand there, or behind it, is as little looked at as what is behind an
    EOI.
    """
    if len(frame) < _SOF_MIN_BYTES or frame[1] not in _SOF_SEQUENTIAL:
        return False
    count = frame[9]
    ids = frame[_SOF_MIN_BYTES : _SOF_MIN_BYTES + 3 * count : 3]
    return len(scan) == 8 + 2 * count and scan[4] == count and scan[5 : 5 + 2 * count : 2] == ids


# ---- PNG, with APNG (https://www.w3.org/TR/png-3/)

_PNG_SIGNATURE_BYTES = 8
_PNG_PICTURE = frozenset({b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"fdAT"})
_EXIF_MAX_BYTES = 64 * 1024


def _walk_png(file: Reader) -> Container:
    head = file.take(_PNG_SIGNATURE_BYTES)
    header = exif = b""
    animated = has_data = False
    frames = 0
    kind = b""
    while kind != b"IEND":
        file.count_part()
        length, kind = struct.unpack(">I4s", file.take(8))
        after = file.at + length + 4
        if not header:
            if kind != b"IHDR" or length != 13:  # noqa: PLR2004
                raise BrokenError("does not begin with a PNG header")
            file.at -= 8
            header = file.take(8 + length + 4)
        elif kind == b"IDAT":
            has_data = True
        elif kind == b"acTL":
            animated = animated or not has_data
        elif kind == b"fcTL":
            frames = _counted(frames)
        elif kind == b"eXIf" and not exif:
            exif = file.take(min(length, _EXIF_MAX_BYTES))
        file.skip(after - file.at)
        if kind not in _PNG_PICTURE:
            file.count_metadata(length)
    if not has_data:
        raise BrokenError("has no picture in it")
    width, height = struct.unpack_from(">II", header, 8)
    frames = max(frames, 1) if animated else 1
    return _container(head + header + b"\0\0\0\0IDAT", width, height, frames, orientation_of(exif))


# ---- GIF (https://www.w3.org/Graphics/GIF/spec-gif89a.txt)

_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def _walk_gif(file: Reader) -> Container:
    signature, width, height, flags = struct.unpack("<6sHHBxx", file.take(13))
    _skip_palette(file, flags)
    largest = (width, height)
    frames = 0
    while (kind := file.take(1)[0]) != _GIF_TRAILER:
        file.count_part()
        at = file.at
        if kind == _GIF_EXTENSION:
            file.skip(1)
        elif kind == _GIF_IMAGE:
            left, top, frame_width, frame_height, flags = struct.unpack("<HHHHB", file.take(9))
            _skip_palette(file, flags)
            file.skip(1)
            largest = max(largest[0], left + frame_width), max(largest[1], top + frame_height)
            if not frames:  # the first frame may widen the canvas; later ones are clipped to it
                width, height = largest
            frames = _counted(frames)
        elif kind:
            raise BrokenError("has something between its frames")
        else:
            continue  # some writers pad
        file.skip_sub_blocks()
        if kind == _GIF_EXTENSION:
            file.count_metadata(file.at - at)
    if not frames:
        raise BrokenError("has no picture in it")
    # The canvas stands in the head already widened: Pillow would do it, but under its own, process-wide pixel limit.
    if max(width, height) > 0xFFFF:  # noqa: PLR2004
        raise BrokenError("has a frame outside its canvas")
    head = struct.pack("<6sHHBxx", signature, width, height, 0)
    head += struct.pack("<BHHHHBB", _GIF_IMAGE, 0, 0, width, height, 0, 8)
    pixels = largest[0] * largest[1]
    return Container(head=head, frames=frames, frame_pixels=pixels, file_pixels=frames * pixels)


def _skip_palette(file: Reader, flags: int) -> None:
    if flags & 0x80:
        file.skip(3 << ((flags & 7) + 1))


# ---- WebP (RFC 9649)

# libwebp looks at the header of the picture's data and checks that its first partition, 19 bits long, is there.
_WEBP_PICTURE_BYTES = (1 << 19) + 16
_WEBP_KEPT = {b"VP8 ": _WEBP_PICTURE_BYTES, b"VP8L": 16, b"ALPH": 16, b"ANIM": 16}
_WEBP_PICTURE = frozenset({b"VP8X", b"ANMF", *_WEBP_KEPT})


def _walk_webp(file: Reader) -> Container:
    file.skip(4)
    stop = 8 + int.from_bytes(file.take(4), "little")
    if stop > file.size:
        raise BrokenError("ends before its image does")
    file.skip(4)
    chunks: dict[bytes, bytes] = {}
    exif = b""
    size = (0, 0)
    frames = 0
    for kind, length in _riff_chunks(file, stop):
        at = file.at
        if kind == b"VP8X" and not chunks and length >= 10:  # noqa: PLR2004
            chunks[kind] = canvas = file.take(10)
            size = int.from_bytes(canvas[4:7], "little") + 1, int.from_bytes(canvas[7:10], "little") + 1
        elif kind == b"ANMF":
            if not frames:
                chunks[kind] = _webp_frame(file, length)
            frames = _counted(frames)
        elif kind in _WEBP_KEPT and kind not in chunks:
            chunks[kind] = file.take(min(length, _WEBP_KEPT[kind]))
            if size == (0, 0):
                size = _webp_size(kind, chunks[kind])
        elif kind == b"EXIF" and not exif:
            exif = file.take(min(length, _EXIF_MAX_BYTES))
        if kind not in _WEBP_PICTURE:
            file.count_metadata(length)
        file.at = at
    body = b"WEBP" + b"".join(_riff_chunk(*chunk) for chunk in chunks.items())
    return _container(_riff_chunk(b"RIFF", body), *size, max(frames, 1), orientation_of(exif))


def _webp_frame(file: Reader, length: int) -> bytes:
    if length < 16:  # noqa: PLR2004
        raise BrokenError("has an empty frame")
    stop = file.at + length
    start = file.take(16)
    chunks: dict[bytes, bytes] = {}
    for kind, part in _riff_chunks(file, stop):
        at = file.at
        if kind in _WEBP_KEPT and kind not in chunks:
            chunks[kind] = file.take(min(part, _WEBP_KEPT[kind]))
        file.at = at
    return start + b"".join(_riff_chunk(*chunk) for chunk in chunks.items())


def _webp_size(kind: bytes, data: bytes) -> tuple[int, int]:
    """Read the size out of a picture's own header: libwebp allocates the canvas as soon as it sees the file."""
    if kind == b"VP8 " and len(data) >= 10:  # noqa: PLR2004
        width, height = struct.unpack_from("<HH", data, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(data) >= 5:  # noqa: PLR2004
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0


def _riff_chunks(file: Reader, stop: int) -> Iterator[tuple[bytes, int]]:
    """Yield kind and length with the file at the chunk's data; expect it there again."""
    while stop - file.at >= 8:  # noqa: PLR2004
        file.count_part()
        kind, length = struct.unpack("<4sI", file.take(8))
        if length > stop - file.at:
            raise BrokenError("ends before its image does")
        yield kind, length
        file.at = min(file.at + length + (length & 1), stop)


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(data)) + data + b"\0" * (len(data) & 1)


# ---- AVIF and HEIC


def _walk_heic(file: Reader) -> Container:
    head, largest = walk_boxes(file, with_data=False)
    return Container(head=head, frame_pixels=largest)


def _walk_avif(file: Reader) -> Container:
    # libavif checks its items against the length of what it is given, so it has to be given everything.
    head, largest = walk_boxes(file, with_data=True)
    return Container(head=head, frame_pixels=largest)


# ---- TIFF 6.0; EXIF blocks are built alike

_TIFF_HEADER_BYTES = 8
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I"}
_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_STRIPS, _TILES = (273, 279), (324, 325)
# What may be large and is picture: the strips and tiles, and the layers that Photoshop keeps.
_TIFF_PICTURE = frozenset({*_STRIPS, *_TILES, 37724})
_SAMPLES = 277
_MAX_SAMPLES = 6  # that Pillow knows; it would complain of more in the log
# What says how the pixels are laid out: compression, photometric interpretation, fill order, samples and planes, each
# one number; and bits a sample, colour map, extra samples and sample format, which are lists.
_ONE_NUMBER = frozenset({_WIDTH, _HEIGHT, 259, 262, 266, 277, 284})
_LAYOUT = _ONE_NUMBER | {258, 320, 338, 339}
_LAYOUT_MAX_BYTES = 64 * 1024
_TAGS_A_PART = 4  # a page has a dozen or two
_TABLE_PIECE = 16 * 1024


class _Entry(NamedTuple):
    """A tag's type, how many values it has, and where in the file they are."""

    kind: int
    values: int
    at: int

    @property
    def size_bytes(self) -> int:
        return self.values * _UNIT_BYTES[self.kind]


_Directory = dict[int, _Entry]


def _walk_tiff(file: Reader) -> Container:
    start = file.take(_TIFF_HEADER_BYTES)
    order = _BYTE_ORDERS[start[:2]]
    at: int = struct.unpack_from(order + "I", start, 4)[0]
    seen: set[int] = set()
    pixels: list[int] = []
    head = b""
    turned = 1
    while at and at not in seen:  # a chain that bites its tail ends there
        seen.add(at)
        _counted(len(pixels))
        directory = _directory(file, order, at)
        at = struct.unpack(order + "I", file.take(4))[0]
        pixels.append(_check_page(file, order, directory))
        if not head:
            head = _tiff_head(file, order, directory)
            turned = _orientation(file, order, directory)
    if not head:
        raise BrokenError("has no picture in it")
    return Container(
        head=head,
        frames=len(pixels),
        frame_pixels=max(pixels),
        file_pixels=sum(pixels),
        orientation=turned,
    )


def _directory(file: Reader, order: str, at: int) -> _Directory:
    """Read the entries of a directory; leave the file behind them. The first of equal tags counts."""
    file.at = at
    (count,) = struct.unpack(order + "H", file.take(2))
    file.count_part(1 + count // _TAGS_A_PART)
    at = file.at
    entries = file.take(12 * count)
    found: _Directory = {}
    for number, (tag, kind, values, offset) in enumerate(struct.iter_unpack(order + "HHII", entries)):
        if kind in _UNIT_BYTES and values and tag not in found:
            inside = values * _UNIT_BYTES[kind] <= 4  # noqa: PLR2004 (the entry has room for four bytes)
            found[tag] = _Entry(kind, values, at + 12 * number + 8 if inside else offset)
    return found


def _check_page(file: Reader, order: str, directory: _Directory) -> int:
    """Return how many pixels the page has. All that it refers to must lie inside the file."""
    if _WIDTH not in directory or _HEIGHT not in directory:
        raise BrokenError("has a page without a size")
    if any(entry.at + entry.size_bytes > file.size for entry in directory.values()):
        raise BrokenError("ends before its image does")
    offsets_tag, lengths_tag = _STRIPS if _STRIPS[0] in directory else _TILES
    if offsets_tag not in directory or lengths_tag not in directory:
        raise BrokenError("has a page without a picture")
    offsets, lengths = directory[offsets_tag], directory[lengths_tag]
    if offsets.values != lengths.values:
        raise BrokenError("has a page whose tables disagree")
    for starts, sizes in zip(_pieces(file, order, offsets), _pieces(file, order, lengths), strict=True):
        if max(map(add, starts, sizes)) > file.size:
            raise BrokenError("ends before its image does")
    file.count_metadata(sum(entry.size_bytes for tag, entry in directory.items() if tag not in _TIFF_PICTURE))
    return _number(file, order, directory[_WIDTH]) * _number(file, order, directory[_HEIGHT])


def _pieces(file: Reader, order: str, entry: _Entry) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of an entry, many at a time."""
    code, unit = _WHOLE_NUMBERS.get(entry.kind), _UNIT_BYTES[entry.kind]
    if code is None:
        raise BrokenError("has words where numbers belong")
    for first in range(0, entry.values, _TABLE_PIECE):
        count = min(_TABLE_PIECE, entry.values - first)
        file.at = entry.at + first * unit
        yield struct.unpack(f"{order}{count}{code}", file.take(count * unit))


def _number(file: Reader, order: str, entry: _Entry) -> int:
    return next(_pieces(file, order, entry._replace(values=1)))[0]


def _tiff_head(file: Reader, order: str, directory: _Directory) -> bytes:
    """Return a TIFF of one page that has the same layout, and one strip of nothing."""
    kept = sorted(directory.keys() & _LAYOUT)
    data_at = _TIFF_HEADER_BYTES + 2 + 12 * (len(kept) + 1) + 4
    entries, data = [], b""
    for tag in kept:
        entry = directory[tag]._replace(values=1) if tag in _ONE_NUMBER else directory[tag]
        if entry.size_bytes > _LAYOUT_MAX_BYTES:
            raise BrokenError("has a page with an absurd layout")
        if tag == _SAMPLES and _number(file, order, entry) > _MAX_SAMPLES:
            raise BrokenError("has more samples a pixel than can be read")
        file.at = entry.at
        value = file.take(entry.size_bytes)
        if len(value) > 4:  # noqa: PLR2004
            value, data = struct.pack(order + "I", data_at + len(data)), data + value
        entries.append(struct.pack(order + "HHI4s", tag, entry.kind, entry.values, value))
    entries.append(struct.pack(order + "HHII", _STRIPS[0], 4, 1, 0))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))
    mark = b"II" if order == "<" else b"MM"
    start = mark + struct.pack(order + "HIH", 42, _TIFF_HEADER_BYTES, len(entries))
    return start + b"".join(entries) + b"\0\0\0\0" + data


def _orientation(file: Reader, order: str, directory: _Directory) -> int:
    entry = directory.get(_ORIENTATION)
    if entry is None or entry.kind not in _WHOLE_NUMBERS:
        return 1
    value = _number(file, order, entry)
    return value if 1 <= value <= 8 else 1  # noqa: PLR2004 (the eight that EXIF knows)


# ---- BMP (https://learn.microsoft.com/windows/win32/gdi/bitmap-storage)

_BMP_HEAD_BYTES = 4 * 1024
_BMP_HEADER_BYTES = frozenset({12, 40, 52, 56, 64, 108, 124})
_BMP_UNCOMPRESSED = frozenset({0, 3, 6})
_BMP_V5_BYTES, _BMP_PROFILE_SIZE_AT = 124, 130


def _walk_bmp(file: Reader) -> Container:
    file_bytes, pixels_at, header_bytes = struct.unpack("<2xI4xII", file.take(18))
    if header_bytes not in _BMP_HEADER_BYTES:
        raise BrokenError("has an unknown BMP header")
    if header_bytes == 12:  # noqa: PLR2004
        width, height, bits = struct.unpack("<HH2xH", file.take(8))
        compression = data_bytes = 0
    else:
        width, height, bits, compression, data_bytes = struct.unpack("<ii2xHII", file.take(20))
    height = abs(height)
    if width <= 0 or not height:
        raise BrokenError("has no pixels")
    if compression in _BMP_UNCOMPRESSED:
        row_bytes = (width * bits + 31) // 32 * 4
        # Some writers leave out the padding of the last row.
        end = pixels_at + row_bytes * (height - 1) + (width * bits + 7) // 8
    else:
        end = max(pixels_at + data_bytes, file_bytes)
    if end > file.size:
        raise BrokenError("ends before its image does")
    if header_bytes == _BMP_V5_BYTES:
        file.at = _BMP_PROFILE_SIZE_AT
        file.count_metadata(min(int.from_bytes(file.take(4), "little"), file.size))
    file.at = 0
    return _container(file.take(min(file.size, _BMP_HEAD_BYTES)), width, height)


# ---- what the walks share


def _counted(frames: int) -> int:
    if frames >= MAX_FRAMES:
        raise TooManyFramesError
    return frames + 1


def _container(head: bytes, width: int, height: int, frames: int = 1, turned: int = 1) -> Container:
    pixels = width * height
    return Container(head=head, frames=frames, frame_pixels=pixels, file_pixels=frames * pixels, orientation=turned)


_WALKS: dict[MediaType, Callable[[Reader], Container]] = {
    MediaType.JPEG: _walk_jpeg,
    MediaType.PNG: _walk_png,
    MediaType.GIF: _walk_gif,
    MediaType.WEBP: _walk_webp,
    MediaType.AVIF: _walk_avif,
    MediaType.HEIC: _walk_heic,
    MediaType.TIFF: _walk_tiff,
    MediaType.BMP: _walk_bmp,
}
