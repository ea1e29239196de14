"""Pictures for tests, made on the spot: whole files as bytes. Another seed gives other bytes."""

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import pillow_heif
from PIL import Image

WIDTH, HEIGHT = 64, 48


def jpeg(
    width: int = WIDTH,
    height: int = HEIGHT,
    *,
    orientation: int = 1,
    quality: int = 80,
    seed: int = 0,
    comment: bytes = b"",
    progressive: bool = False,
    exif: bytes | None = None,
) -> bytes:
    block = _exif(orientation) if exif is None else exif
    return _saved(
        _noise(width, height, seed=seed),
        "JPEG",
        quality=quality,
        exif=block,
        comment=comment,
        progressive=progressive,
    )


def cmyk_jpeg(width: int = WIDTH, height: int = HEIGHT, *, seed: int = 0) -> bytes:
    return _saved(_noise(width, height, seed=seed, mode="CMYK"), "JPEG")


def jpeg_with_thumbnail(width: int = WIDTH, height: int = HEIGHT, *, seed: int = 0) -> bytes:
    # The whole small JPEG, its EOI included, lies in a JFXX segment behind the SOI.
    inner = b"JFXX\0\x10" + jpeg(16, 16, seed=seed)
    outer = jpeg(width, height, seed=seed)
    return outer[:2] + b"\xff\xe0" + struct.pack(">H", len(inner) + 2) + inner + outer[2:]


@cache
def big_jpeg(size_bytes: int, *, seed: int = 0) -> bytes:
    # At this quality noise in grey takes some 0.85 bytes a pixel; a comment makes up for the rest.
    side = max(8, int((size_bytes * 1.12) ** 0.5))
    data = _saved(_noise(side, side, seed=seed, mode="L"), "JPEG", quality=92)
    return data[:2] + _padding(size_bytes - len(data)) + data[2:]


def mpo(width: int = WIDTH, height: int = HEIGHT, *, frames: int = 2, seed: int = 0) -> bytes:
    return _saved_all([_noise(width, height, seed=seed + number) for number in range(frames)], "MPO")


def png(
    width: int = WIDTH,
    height: int = HEIGHT,
    *,
    orientation: int = 1,
    seed: int = 0,
    mode: str = "RGB",
    exif: bytes | None = None,
) -> bytes:
    return _saved(_noise(width, height, seed=seed, mode=mode), "PNG", exif=_exif(orientation) if exif is None else exif)


def png_16bit(width: int = WIDTH, height: int = HEIGHT, *, seed: int = 0) -> bytes:
    return _saved(_noise(width, height, seed=seed, mode="I;16"), "PNG")


def interlaced_png(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    # Adam7 by hand, as Pillow does not write it: seven passes of black.
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for x, y, step_x, step_y in passes:
        columns, lines = -(-(width - x) // step_x), -(-(height - y) // step_y)
        rows += (b"\0" + b"\0" * columns) * lines if columns > 0 and lines > 0 else b""
    return png_of(
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    )


def apng(width: int = WIDTH, height: int = HEIGHT, *, frames: int = 3, seed: int = 0) -> bytes:
    return _saved_all([_noise(width, height, seed=seed + number) for number in range(frames)], "PNG")


def png_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    # As many pixels as its header says would come out of a few KB more; nobody should try.
    return png_of(
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 3_000_000)),
        (b"IEND", b""),
    )


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def gif(width: int = WIDTH, height: int = HEIGHT, *, frames: int = 1, seed: int = 0) -> bytes:
    return _saved_all([_noise(width, height, seed=seed + number, mode="P") for number in range(frames)], "GIF")


def gif_of_tiny_frames(frames: int, width: int = 1, height: int = 1) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def webp(
    width: int = WIDTH,
    height: int = HEIGHT,
    *,
    orientation: int = 1,
    seed: int = 0,
    lossless: bool = False,
    mode: str = "RGB",
    exif: bytes | None = None,
) -> bytes:
    block = _exif(orientation) if exif is None else exif
    return _saved(_noise(width, height, seed=seed, mode=mode), "WEBP", lossless=lossless, exif=block)


def animated_webp(width: int = WIDTH, height: int = HEIGHT, *, frames: int = 3, seed: int = 0) -> bytes:
    return _saved_all([_noise(width, height, seed=seed + number) for number in range(frames)], "WEBP")


@cache
def avif(
    width: int = WIDTH, height: int = HEIGHT, *, orientation: int = 1, seed: int = 0, exif: bytes | None = None
) -> bytes:
    block = _exif(orientation) if exif is None else exif
    return _saved(_noise(width, height, seed=seed), "AVIF", speed=10, exif=block)


@cache
def animated_avif(width: int = WIDTH, height: int = HEIGHT, *, frames: int = 3, seed: int = 0) -> bytes:
    return _saved_all([_noise(width, height, seed=seed + number) for number in range(frames)], "AVIF", speed=10)


@cache
def heic(width: int = WIDTH, height: int = HEIGHT, *, orientation: int = 1, seed: int = 0, images: int = 1) -> bytes:
    pixels = [_noise(width, height, seed=seed + number).tobytes() for number in range(images)]
    file = pillow_heif.from_bytes("RGB", (width, height), pixels[0])
    for other in pixels[1:]:
        file.add_frombytes("RGB", (width, height), other)
    if orientation != 1:
        file.info["exif"] = _exif(orientation)  # the encoder says it again with irot and imir, which is what counts
    out = BytesIO()
    file.save(out, quality=50)
    return out.getvalue()


def tiff(
    width: int = WIDTH,
    height: int = HEIGHT,
    *,
    pages: int = 1,
    orientation: int = 1,
    seed: int = 0,
    mode: str = "RGB",
    compression: str | None = None,
) -> bytes:
    images = [_noise(width, height, seed=seed + number, mode=mode) for number in range(pages)]
    return _saved_all(images, "TIFF", compression=compression, tiffinfo={274: orientation})


def bmp(width: int = WIDTH, height: int = HEIGHT, *, seed: int = 0, mode: str = "RGB") -> bytes:
    return _saved(_noise(width, height, seed=seed, mode=mode), "BMP")


def svg() -> bytes:
    return b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def html() -> bytes:
    return b"<!doctype html><html><body><script>alert(1)</script></body></html>"


def pdf() -> bytes:
    return b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"


EVERY_FORMAT: dict[str, Callable[..., bytes]] = {
    "image/jpeg": jpeg,
    "image/png": png,
    "image/gif": gif,
    "image/webp": webp,
    "image/avif": avif,
    "image/heic": heic,
    "image/tiff": tiff,
    "image/bmp": bmp,
}
"""One builder a media type; each takes ``width``, ``height`` and ``seed``."""


def _noise(width: int, height: int, *, seed: int, mode: str = "RGB") -> Image.Image:
    bytes_a_pixel = {"L": 1, "P": 1, "I;16": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = random.Random(f"{seed}/{mode}").randbytes(width * height * bytes_a_pixel)  # noqa: S311
    image = Image.frombytes(mode, (width, height), pixels)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    return image


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
        exif[0x010E] = "a picture on its side"
    return exif.tobytes() if orientation != 1 else b""


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, form, **{name: value for name, value in options.items() if value not in (b"", None)})
    return out.getvalue()


def _saved_all(images: list[Image.Image], form: str, **options: Any) -> bytes:
    first, *rest = images
    if rest:
        options |= {"save_all": True, "append_images": rest}
    return _saved(first, form, **options)


def _padding(size_bytes: int) -> bytes:
    segments = []
    while size_bytes > 0:
        length = min(max(size_bytes, 4), 0xFFFF)
        segments.append(b"\xff\xfe" + struct.pack(">H", length - 2) + b"\0" * (length - 4))
        size_bytes -= length
    return b"".join(segments)
