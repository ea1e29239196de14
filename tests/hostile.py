"""Files that were made to do harm, each by its name: bombs, loops, lies, and what fuzzing has found.

Each is small to send and dear to whoever believes it. ``HOSTILE`` maps names to how a file is built and to what an
inspection must answer: ``accepted``, where all that is wrong is never looked at, or the code of the refusal.
"""

import struct
import zlib
from collections.abc import Callable, Iterable
from functools import cache, partial

from tests import pictures

MB = 1_000_000
LARGEST = 25 * 1024 * 1024

_Build = Callable[[], bytes]


# ---- JPEG


def jpeg_with(*segments: tuple[int, bytes], times: int = 1) -> bytes:
    """A sound JPEG with more segments behind its SOI."""
    whole = pictures.jpeg()
    more = b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data for marker, data in segments)
    return whole[:2] + more * times + whole[2:]


def jpeg_of_one_scan(filling: bytes) -> bytes:
    whole = pictures.jpeg()
    room = LARGEST - len(whole)
    return whole[:-2] + (filling * (room // len(filling) + 1))[:room] + whole[-2:]


def exif(entries: Iterable[tuple[int, int, int, int]], *, then: int = 0) -> bytes:
    return b"Exif\0\0" + b"II" + struct.pack("<HI", 42, 8) + directory(entries, then)


# ---- PNG


def png_with(*chunks: tuple[bytes, bytes], times: int = 1) -> bytes:
    """A sound PNG with more chunks behind its IHDR."""
    whole = pictures.png()
    return whole[:33] + pictures.png_of(*chunks)[8:] * times + whole[33:]


@cache
def deflated_zeros() -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(MB)) for _ in range(300)), packer.flush()])


def png_of_pixels(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return pictures.png_of((b"IHDR", header), (b"IDAT", deflated_zeros()), (b"IEND", b""))


# ---- GIF


def gif_of(body: bytes, width: int = 64, height: int = 48) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + body + b";"


def gif_frame(blocks: bytes = b"\x02D\x01\0", width: int = 1, height: int = 1) -> bytes:
    return b"," + struct.pack("<HHHHBB", 0, 0, width, height, 0, 2) + blocks


# ---- WebP


def webp_with(*chunks: tuple[bytes, bytes], times: int = 1) -> bytes:
    """An animated WebP with more chunks at its end."""
    whole = pictures.animated_webp()
    more = b"".join(struct.pack("<4sI", kind, len(data)) + data + bytes(len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(whole) - 8 + len(more) * times) + whole[8:] + more * times


def webp_with_canvas(width: int, height: int) -> bytes:
    whole = bytearray(pictures.animated_webp())
    whole[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(whole)


def webp_of_many_frames(frames: int) -> bytes:
    whole = pictures.animated_webp(8, 8)
    at = whole.index(b"ANMF")
    frame = whole[at : at + 8 + int.from_bytes(whole[at + 4 : at + 8], "little")]
    return b"RIFF" + struct.pack("<I", at - 8 + len(frame) * frames) + whole[8:at] + frame * frames


# ---- TIFF

_SIZE = [(256, 4, 1, 8), (257, 4, 1, 8)]
_STRIP = [(273, 4, 1, 8), (279, 4, 1, 8)]


def directory(entries: Iterable[tuple[int, int, int, int]], then: int = 0) -> bytes:
    packed = [struct.pack("<HHII", *entry) for entry in entries]
    return struct.pack("<H", len(packed)) + b"".join(packed) + struct.pack("<I", then)


def tiff_of(*directories: bytes, first: int = 8, ahead: bytes = b"", behind: bytes = bytes(64)) -> bytes:
    return struct.pack("<2sHI", b"II", 42, first) + ahead + b"".join(directories) + behind


def tiff_with(*tags: tuple[int, bytes]) -> bytes:
    """A sound TIFF with more tags."""
    entries, data, first = [*_SIZE, *_STRIP], b"", 8 + 6 + 12 * (4 + len(tags))
    for tag, value in tags:
        entries.append((tag, 7, len(value), first + len(data)))
        data += value
    return tiff_of(directory(entries), behind=data)


def tiff_of_one_tile(width: int, height: int, compression: int, data: bytes) -> bytes:
    # A tile as large as the picture, in as few bytes as its compression can say.
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    tile = [(322, 4, 1, width), (323, 4, 1, height), (324, 4, 1, 8), (325, 4, 1, len(data))]
    return tiff_of(directory(entries + tile), first=8 + len(data), ahead=data)


def tiff_of_tables(kind: int, unit_bytes: int) -> bytes:
    # Both tables of a page with millions of strips are the same bytes.
    strips = (LARGEST - 1_000) // unit_bytes
    entries = [*_SIZE, (273, kind, strips, 8), (279, kind, strips, 8)]
    return tiff_of(directory(entries), first=8 + strips * unit_bytes, ahead=bytes(strips * unit_bytes))


def tiff_of_many_tags(pages: int) -> bytes:
    # The last page has no strips.
    tags = [(tag, 3, 1, 1) for tag in range(1, 60_001) if tag not in {256, 257, 273, 279}]
    page_bytes = len(directory([*_SIZE, *_STRIP, *tags]))
    whole = [directory([*_SIZE, *_STRIP, *tags], 8 + page_bytes * (page + 1)) for page in range(pages - 1)]
    return tiff_of(*whole, directory(_SIZE))


# ---- BMP


def bmp_of(width: int, height: int, *, bits: int = 1, compression: int = 0, colours: int = 0) -> bytes:
    start = struct.pack("<2sIHHI", b"BM", 1_178, 0, 0, 1_078)
    return (
        start
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 10, 0, 0, colours, 0)
        + bytes(2_000)
    )


def bmp_with_profile(profile: bytes) -> bytes:
    # A header of version 5 is followed by the pixels, and those by the profile.
    header = struct.pack("<IiiHHIIiiII", 124, 8, 8, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(72)
    header += struct.pack("<III", 124 + 192, len(profile), 0)
    return struct.pack("<2sIHHI", b"BM", 14 + 124 + 192 + len(profile), 0, 0, 138) + header + bytes(192) + profile


# ---- AVIF and HEIC


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def long_box(kind: bytes, *content: bytes) -> bytes:
    """A box whose length has 64 bits, which is as good, and easily overlooked."""
    data = b"".join(content)
    return struct.pack(">I4sQ", 1, kind, 16 + len(data)) + data


def full_box(kind: bytes, *content: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *content)


def box_of(whole: bytes, kind: bytes) -> bytes:
    at = whole.index(kind) - 4
    return whole[at : at + int.from_bytes(whole[at : at + 4], "big")]


def references(kind: bytes, *links: tuple[int, list[int]]) -> bytes:
    each = (struct.pack(f">HH{len(to)}H", start, len(to), *to) for start, to in links)
    return full_box(b"iref", *(box(kind, data) for data in each))


def item_list(*ids: int) -> list[tuple[int, bytes | None]]:
    return [(each, None) for each in ids]


def heif(
    brand: bytes,
    items: list[tuple[int, bytes | None]],
    *,
    properties: Iterable[bytes] = (),
    each_has: bytes = b"\1\2",
    more: bytes = b"",
    locations: bytes | None = None,
    item_box: Callable[..., bytes] = box,
    data: bytes = bytes(64),
) -> bytes:
    """A picture of many items, which are coded pictures (None) or of some other type.

    Each has the properties whose numbers are given: 1 is how it is coded, 2 its size, and more follow.
    """
    coded, config = {
        b"heic": (b"hvc1", box_of(pictures.heic(), b"hvcC")),
        b"avif": (b"av01", box_of(pictures.avif(), b"av1C")),
    }[brand]
    entries = [item_box(b"infe", struct.pack(">IHH4sx", 2 << 24, item, 0, kind or coded)) for item, kind in items]
    everywhere = b"".join(struct.pack(">HHHII", item, 0, 1, 0, 1) for item, _ in items)
    iloc = full_box(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), everywhere)
    associations = [struct.pack(">HB", item, len(each_has)) + each_has for item, _ in items]
    ipma = full_box(b"ipma", struct.pack(">I", len(associations)), *associations)
    meta = full_box(
        b"meta",
        full_box(b"hdlr", struct.pack(">4x4s13x", b"pict")),
        full_box(b"pitm", struct.pack(">H", items[0][0])),
        iloc if locations is None else locations,
        full_box(b"iinf", struct.pack(">H", len(items)), *entries),
        box(b"iprp", box(b"ipco", config, full_box(b"ispe", struct.pack(">II", 64, 48)), *properties), ipma),
        more,
    )
    return box(b"ftyp", brand, bytes(4), b"mif1", brand) + meta + box(b"mdat", data)


def film(samples: int, *, chunks: int = 1, in_each: int | None = None, stated: int | None = None) -> bytes:
    """An AVIF film of as many one-byte samples in its tables."""
    runs = range(1, chunks + 1) if chunks > 1 else [1]
    tables = {
        b"stsz": struct.pack(">III", 0, 1, samples if stated is None else stated),
        b"stts": struct.pack(">IIII", 0, 1, samples, 1),
        b"stsc": struct.pack(">II", 0, len(runs))
        + b"".join(struct.pack(">III", run, samples // chunks if in_each is None else in_each, 1) for run in runs),
        b"stco": struct.pack(">II", 0, chunks) + struct.pack(">I", 100) * chunks,
    }

    def remade(boxes: bytes) -> bytes:
        made, at = b"", 0
        while at < len(boxes):
            length, kind = struct.unpack_from(">I4s", boxes, at)
            content = boxes[at + 8 : at + length]
            inside = kind in {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
            made += box(kind, remade(content) if inside else tables.get(kind, content))
            at += length
        return made

    return remade(pictures.animated_avif()) + box(b"free", bytes(min(samples, 20 * MB)))


def _grid(brand: bytes, width: int, height: int) -> bytes:
    tiles = list(range(2, 900))
    items: list[tuple[int, bytes | None]] = [(1, b"grid"), *item_list(*tiles)]
    places = [struct.pack(">HHHHII", item, int(item == 1), 0, 1, 0, 12) for item, _ in items]
    return heif(
        brand,
        items,
        properties=[full_box(b"ispe", struct.pack(">II", width, height))],
        each_has=b"\1\2\3",
        locations=full_box(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), *places, version=1),
        more=references(b"dimg", (1, tiles)) + box(b"idat", struct.pack(">BBBBII", 0, 1, 28, 30, width, height)),
    )


_PICTURES = item_list(*range(1, 1_001))
_BUT_ONE = item_list(*range(1, 1_000))


def _both(build: Callable[[bytes], bytes]) -> dict[str, _Build]:
    return {"heic": partial(build, b"heic"), "avif": partial(build, b"avif")}


def heif_with_profile(brand: bytes, size_bytes: int, *, pictures_in_it: int = 1) -> bytes:
    profile = box(b"colr", b"prof", bytes(size_bytes))
    return heif(brand, item_list(*range(1, 1 + pictures_in_it)), properties=[profile], each_has=b"\1\2\3")


def _described_by(brand: bytes, kind: bytes, item_box: Callable[..., bytes]) -> bytes:
    # One item of 3 MB is metadata of 999 pictures; it lies in the header, where it can be read.
    items = [*_BUT_ONE, (1_000, kind)]
    places = [struct.pack(">HHHII", item, 0, 1, 60_000, 3 * MB if item == 1_000 else 1) for item, _ in items]
    return heif(
        brand,
        items,
        item_box=item_box,
        locations=full_box(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), *places),
        more=references(b"cdsc", (1_000, list(range(1, 1_000)))) + box(b"free", bytes(3 * MB + 300_000)),
    )


def _extents(brand: bytes, extents: int) -> bytes:
    everywhere = struct.pack(">HHH", 1, 0, extents) + struct.pack(">II", 0, 1_000) * extents
    return heif(brand, item_list(1), locations=full_box(b"iloc", struct.pack(">BBH", 0x44, 0, 1), everywhere))


def _places(brand: bytes, items: int) -> bytes:
    everywhere = b"".join(struct.pack(">HHHII", item, 0, 1, 0, 1) for item in range(1, items + 1))
    return heif(brand, item_list(1), locations=full_box(b"iloc", struct.pack(">BBH", 0x44, 0, items), everywhere))


def _nested(brand: bytes, depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = box(b"iprp", inner)
    return heif(brand, item_list(1), more=inner)


def _chain(brand: bytes, kind: bytes, items: int, *, closed: bool) -> bytes:
    links = [(item, [item + 1]) for item in range(1, items)] + ([(items, [1])] if closed else [])
    derived: list[tuple[int, bytes | None]] = [(item, kind) for item in range(1, items)]
    return heif(brand, [*derived, (items, kind if closed else None)], more=references(b"dimg", *links))


def heif_with_xmp(brand: bytes, size_bytes: int) -> bytes:
    places = struct.pack(">HHHII", 1, 0, 1, 0, 1) + struct.pack(">HHHII", 2, 0, 1, 1_000, size_bytes)
    return heif(
        brand,
        [(1, None), (2, b"mime")],
        locations=full_box(b"iloc", struct.pack(">BBH", 0x44, 0, 2), places),
        more=references(b"cdsc", (2, [1])),
        data=bytes(size_bytes + 2_000),
    )


HOSTILE: dict[str, tuple[_Build, str]] = {
    # The pixels.
    "png of 60,000 x 60,000": (partial(png_of_pixels, 60_000, 60_000), "too_many_pixels"),
    "png whose pixels inflate to 300 MB": (partial(png_of_pixels, 10_000, 10_000), "accepted"),
    "gif with a canvas of 65,535 x 65,535": (partial(gif_of, gif_frame(), 65_535, 65_535), "too_many_pixels"),
    "gif with a frame beyond its canvas": (partial(gif_of, gif_frame(width=65_535, height=65_535)), "too_many_pixels"),
    "webp with a canvas of 10,000 x 10,000": (partial(webp_with_canvas, 10_000, 10_000), "accepted"),
    "webp with a canvas of 2^48": (partial(webp_with_canvas, 1 << 24, 1 << 24), "too_many_pixels"),
    "tiff of 2^64": (
        lambda: tiff_of(directory([(256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1), *_STRIP])),
        "too_many_pixels",
    ),
    "tiff of one tile, deflated": (
        lambda: tiff_of_one_tile(10_000, 10_000, 8, deflated_zeros()),
        "accepted",
    ),
    "tiff of one tile, LZMA": (
        lambda: tiff_of_one_tile(10_000, 10_000, 34_925, b"\xfd7zXZ\0\0\x04" + bytes(100)),
        "accepted",
    ),
    "tiff of one huge tile": (lambda: tiff_of_one_tile(2**31, 2**31, 8, bytes(8)), "too_many_pixels"),
    "tiff of 65,535 samples a pixel": (
        lambda: tiff_of(directory([*_SIZE, (258, 3, 1, 8), *_STRIP[:1], (277, 3, 1, 65_535), *_STRIP[1:]])),
        "unreadable_image",
    ),
    "bmp of 2^62": (partial(bmp_of, 2**31 - 1, 2**31 - 1, bits=8, compression=1), "too_many_pixels"),
    "bmp of a height of -2^31": (partial(bmp_of, 1, -(2**31), bits=8, compression=1), "too_many_pixels"),
    "bmp of RLE": (partial(bmp_of, 10_000, 10_000, bits=8, compression=1, colours=256), "accepted"),
    "bmp of 2^31 colours": (partial(bmp_of, 100, 100, bits=8, compression=1, colours=2**31), "unreadable_image"),
    **{
        f"{name} of a grid of 65,535 x 65,535": (build, "too_many_pixels")
        for name, build in _both(lambda brand: _grid(brand, 65_535, 65_535)).items()
    },
    # The frames.
    "gif of 10,000 frames": (partial(pictures.gif_of_tiny_frames, 10_000), "accepted"),
    "gif of 10,001 frames": (partial(pictures.gif_of_tiny_frames, 10_001), "too_many_pixels"),
    "gif of 9,999 frames as large as can be": (
        lambda: gif_of(gif_frame(width=65_535, height=65_535) * 9_999, 65_535, 65_535),
        "too_many_pixels",
    ),
    "png of 10,001 frames": (
        lambda: png_with((b"acTL", struct.pack(">II", 10_001, 0)), *[(b"fcTL", bytes(26))] * 10_001),
        "too_many_pixels",
    ),
    "webp of 10,000 frames": (partial(webp_of_many_frames, 10_000), "accepted"),
    "webp of 10,001 frames": (partial(webp_of_many_frames, 10_001), "too_many_pixels"),
    "webp of empty frames": (
        lambda: webp_with((b"ANMF", bytes(16) + b"VP8L\0\0\0\0"), times=9_000),
        "accepted",
    ),
    "tiff of 10,001 pages": (
        lambda: tiff_of(*(directory([*_SIZE, *_STRIP], 8 + 54 * page) for page in range(1, 10_002))),
        "too_many_pixels",
    ),
    "avif film of 9,999 frames": (partial(film, 9_999), "accepted"),
    "avif film of 2,500,000 frames": (partial(film, 2_500_000), "too_many_pixels"),
    "avif film of 2^32 frames": (partial(film, 2**32 - 1), "too_many_pixels"),
    "avif film of more samples than it states": (partial(film, 2_500_000, stated=1), "too_many_pixels"),
    "avif film of chunks without samples": (partial(film, 0, chunks=19_999, in_each=0), "unreadable_image"),
    "avif film of a chunk for each sample": (partial(film, 10_000, chunks=10_000), "accepted"),
    "avif film of 200,000 chunks": (partial(film, 200_000, chunks=200_000), "too_many_pixels"),
    # The metadata.
    "jpeg with 20 MB of XMP": (
        partial(jpeg_with, (0xE1, b"http://ns.adobe.com/xap/1.0/\0".ljust(65_000, b"x")), times=308),
        "too_much_metadata",
    ),
    "jpeg with 20 MB of ICC": (
        partial(jpeg_with, (0xE2, b"ICC_PROFILE\0\x01\xff".ljust(65_000, b"x")), times=308),
        "too_much_metadata",
    ),
    "jpeg with 15 MB of comments": (partial(jpeg_with, (0xFE, bytes(60_000)), times=250), "accepted"),
    "jpeg with EXIF of 5,000 tags": (
        lambda: jpeg_with((0xE1, exif((tag, 3, 1, 1) for tag in range(5_000))), times=200),
        "accepted",
    ),
    "jpeg whose EXIF follows itself": (lambda: jpeg_with((0xE1, exif([(274, 3, 1, 6)], then=8))), "accepted"),
    "jpeg whose EXIF is its own sub-directory": (
        lambda: jpeg_with((0xE1, exif([(34_665, 4, 1, 8), (34_853, 4, 1, 8), (40_965, 4, 1, 8)]))),
        "accepted",
    ),
    "jpeg whose EXIF claims values of 4 GB": (
        lambda: jpeg_with((0xE1, exif([(274, 4, 2**32 - 1, 2**32 - 1), (700, 1, 2**32 - 1, 0)]))),
        "accepted",
    ),
    **{
        f"png whose {kind.decode()} inflates to 300 MB": (
            partial(lambda kind, start: png_with((kind, start + deflated_zeros())), kind, start),
            "accepted",
        )
        for kind, start in ((b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0"))
    },
    "png with 20 MB of XMP": (
        lambda: png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(20 * MB))),
        "too_much_metadata",
    ),
    "png with 20 MB of EXIF": (lambda: png_with((b"eXIf", b"II*\0\x08\0\0\0" + bytes(20 * MB))), "too_much_metadata"),
    "png whose EXIF follows itself": (lambda: png_with((b"eXIf", exif([(274, 3, 1, 6)], then=8)[6:])), "accepted"),
    "gif with 20 MB of comments": (
        lambda: gif_of(b"!\xfe" + (b"\xff" + bytes(255)) * 78_500 + b"\0" + gif_frame()),
        "too_much_metadata",
    ),
    "gif with 20 MB for some application": (
        lambda: gif_of(b"!\xff\x0bXMP DataXMP" + (b"\xff" + bytes(255)) * 78_500 + b"\0" + gif_frame()),
        "too_much_metadata",
    ),
    "webp with 20 MB of XMP": (lambda: webp_with((b"XMP ", bytes(20 * MB))), "too_much_metadata"),
    "webp with 20 MB of ICC": (lambda: webp_with((b"ICCP", bytes(20 * MB))), "too_much_metadata"),
    "tiff with 20 MB of ICC": (
        lambda: tiff_with((34_675, bytes(20 * MB))),
        "too_much_metadata",
    ),
    "tiff with 20 MB of layers": (
        lambda: tiff_with((37_724, bytes(20 * MB))),
        "accepted",
    ),
    **{
        f"{name} with {words}": (build, outcome)
        for words, outcome, make in (
            ("20 MB of XMP", "too_much_metadata", lambda brand: heif_with_xmp(brand, 20 * MB)),
            ("5 MB of ICC", "unreadable_image", lambda brand: heif_with_profile(brand, 5 * MB)),
            ("3 MB of ICC", "accepted", lambda brand: heif_with_profile(brand, 3 * MB)),
            (
                "3 MB of ICC for each of 1,000",
                "accepted",
                lambda brand: heif_with_profile(brand, 3 * MB, pictures_in_it=1_000),
            ),
            ("3 MB of EXIF for each of 999", "accepted", lambda brand: _described_by(brand, b"Exif", box)),
            ("3 MB of EXIF, hidden", "accepted", lambda brand: _described_by(brand, b"Exif", long_box)),
            ("3 MB of nothing known for each", "accepted", lambda brand: _described_by(brand, b"abcd", box)),
            (
                "3 MB of a property for each",
                "unreadable_image",
                lambda brand: heif(brand, _PICTURES, properties=[box(b"abcd", bytes(3 * MB))], each_has=b"\1\2\3"),
            ),
        )
        for name, build in _both(make).items()
    },
    # The parts.
    "jpeg of 190,000 empty segments": (partial(jpeg_with, (0xFE, b""), times=190_000), "accepted"),
    "jpeg of 300,000 empty segments": (partial(jpeg_with, (0xFE, b""), times=300_000), "unreadable_image"),
    "jpeg whose scan is one long padding": (partial(jpeg_of_one_scan, b"\xff"), "accepted"),
    "jpeg whose scan is all escapes": (partial(jpeg_of_one_scan, b"\xff\0"), "accepted"),
    "jpeg whose scan is all restarts": (partial(jpeg_of_one_scan, b"\xff\xd0"), "accepted"),
    "png of 190,000 empty chunks": (partial(png_with, (b"tEXt", b""), times=190_000), "accepted"),
    "gif of blocks of one byte": (lambda: gif_of(gif_frame(b"\1x" * (LARGEST // 2 - 100) + b"\0")), "accepted"),
    "webp of 190,000 empty chunks": (partial(webp_with, (b"junk", b""), times=190_000), "accepted"),
    "tiff that follows itself": (lambda: tiff_of(directory([*_SIZE, *_STRIP], 8)), "accepted"),
    "tiff of two that follow each other": (
        lambda: tiff_of(directory([*_SIZE, *_STRIP], 62), directory([*_SIZE, *_STRIP], 8)),
        "accepted",
    ),
    "tiff that is its own sub-directory": (
        lambda: tiff_of(directory([*_SIZE, *_STRIP, (330, 4, 1, 8), (34_665, 4, 1, 8)])),
        "accepted",
    ),
    "tiff of 26,000,000 strips in bytes": (partial(tiff_of_tables, 1, 1), "accepted"),
    "tiff of 13,000,000 strips in shorts": (partial(tiff_of_tables, 3, 2), "accepted"),
    "tiff of 6,500,000 strips": (partial(tiff_of_tables, 4, 4), "accepted"),
    "tiff of 2,000,000 tags": (partial(tiff_of_many_tags, 36), "unreadable_image"),
    **{
        f"{name} {words}": (build, outcome if isinstance(outcome, str) else outcome[name])
        for words, outcome, make in (
            ("of 65,535 items", "unreadable_image", lambda brand: heif(brand, item_list(*range(1, 65_536)))),
            (
                "of 400,000 boxes",
                "unreadable_image",
                lambda brand: heif(brand, item_list(1), more=box(b"free") * 400_000),
            ),
            (
                "of 400,000 properties",
                "unreadable_image",
                lambda brand: heif(brand, item_list(1), properties=[box(b"free")] * 400_000),
            ),
            ("of boxes 10,000 deep", "unreadable_image", lambda brand: _nested(brand, 10_000)),
            (
                "of 100,000 headers",
                "unreadable_image",
                lambda brand: heif(brand, item_list(1)) + box(b"meta", bytes(4)) * 100_000,
            ),
            ("of 65,535 places", "unreadable_image", lambda brand: _places(brand, 65_535)),
            ("of 65,535 extents", "unreadable_image", lambda brand: _extents(brand, 65_535)),
            (
                "of 60,000 references",
                "unreadable_image",
                lambda brand: heif(brand, item_list(1), more=references(b"dimg", (1, list(range(2, 60_002))))),
            ),
            (
                "of a chain of 900",
                {"heic": "accepted", "avif": "unreadable_image"},
                lambda brand: _chain(brand, b"iden", 900, closed=False),
            ),
            ("of a loop of 900", "unreadable_image", lambda brand: _chain(brand, b"iden", 900, closed=True)),
            ("of a loop of 900 grids", "unreadable_image", lambda brand: _chain(brand, b"grid", 900, closed=True)),
            ("of 25 MiB", "accepted", lambda brand: heif(brand, item_list(1), data=bytes(LARGEST - 10_000))),
        )
        for name, build in _both(make).items()
    },
}
