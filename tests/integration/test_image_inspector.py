"""What PillowInspector says, held against Pillow's own full decoding and against hostile bytes."""

import errno
import struct
import time
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO, cast

import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from adapters.imaging import reader
from adapters.imaging.inspector import PillowInspector
from application.content import Content
from application.ports import Inspection
from domain.errors import Invalid, Unavailable
from domain.limits import Limits
from domain.values import MediaType
from tests import hostile, pictures

INSPECTOR = PillowInspector()
MOST_CPU_S = 5  # of this thread; without a limit it would be minutes
ORIENTATIONS = range(1, 9)
CODES = {"unsupported_image", "unreadable_image", "too_many_pixels", "too_much_metadata"}

# Whole files in which every byte up to the end belongs to the picture.
WHOLE: dict[str, bytes] = {
    **{media_type: build() for media_type, build in pictures.EVERY_FORMAT.items()},
    "turned jpeg": pictures.jpeg(orientation=6),
    "progressive jpeg": pictures.jpeg(progressive=True),
    "cmyk jpeg": pictures.cmyk_jpeg(),
    "jpeg with a thumbnail": pictures.jpeg_with_thumbnail(),
    "16-bit png": pictures.png_16bit(),
    "interlaced png": pictures.interlaced_png(),
    "palette png": pictures.png(mode="P"),
    "animated png": pictures.apng(),
    "animated gif": pictures.gif(frames=3),
    "lossless webp": pictures.webp(lossless=True),
    "transparent webp": pictures.webp(mode="RGBA"),
    "turned webp": pictures.webp(orientation=6),
    "animated webp": pictures.animated_webp(),
    "animated avif": pictures.animated_avif(),
    "turned avif": pictures.avif(orientation=6),
    "turned heic": pictures.heic(orientation=6),
    "heic of two": pictures.heic(images=2),
    "tiff of three pages": pictures.tiff(pages=3),
    "lzw tiff": pictures.tiff(compression="tiff_lzw"),
    "jpeg tiff": pictures.tiff(compression="jpeg"),
    "palette tiff": pictures.tiff(mode="P"),
    "palette bmp": pictures.bmp(mode="P"),
}


def inspect(data: bytes, limits: Limits | None = None) -> Inspection:
    """Inspect it as an upload's bytes at hand, and as a file: it must be the same."""
    at_hand, in_pieces = (outcome(stream, limits or Limits()) for stream in (Content.of(data).stream, BytesIO(data)))
    if isinstance(at_hand, Invalid) and isinstance(in_pieces, Invalid):
        assert (at_hand.field, at_hand.code, at_hand.reason) == (in_pieces.field, in_pieces.code, in_pieces.reason)
        raise at_hand
    assert isinstance(at_hand, Inspection)
    assert at_hand == in_pieces
    return at_hand


def outcome(stream: BinaryIO, limits: Limits) -> Inspection | Invalid:
    try:
        return INSPECTOR.inspect(stream, limits=limits)
    except Invalid as refused:
        return refused


def refusal(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Invalid) as caught:
        inspect(data, limits)
    assert caught.value.field == "file"
    assert caught.value.reason
    return caught.value.code


@pytest.mark.parametrize("size_bytes", [512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1])
def test_a_file_is_read_the_same_in_one_piece_and_in_several(size_bytes: int) -> None:
    whole = pictures.jpeg()
    assert inspect(whole + bytes(size_bytes - len(whole))) == inspect(whole)
    segments = whole[:2] + b"\xff\xfe\xff\xff" + bytes(65_533)
    long = segments + whole[2:-2]
    assert refusal(long + bytes(size_bytes - len(long))) == "unreadable_image"


# ---- what is accepted, and what is said of it


@pytest.mark.parametrize("media_type", pictures.EVERY_FORMAT)
def test_every_format_is_known_by_its_bytes(media_type: str) -> None:
    assert inspect(pictures.EVERY_FORMAT[media_type](width=70, height=50)) == Inspection(
        media_type=MediaType(media_type), width=70, height=50, frames=1, orientation=1
    )


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_of_every_kind_are_accepted(name: str) -> None:
    seen = inspect(WHOLE[name])
    turned = seen.orientation >= 5 or name == "turned heic"
    assert (seen.width, seen.height) == ((48, 64) if turned else (64, 48))


@given(
    media_type=st.sampled_from(sorted(set(pictures.EVERY_FORMAT) - {"image/heic"})),
    width=st.integers(1, 130),
    height=st.integers(1, 130),
)
@settings(max_examples=80, deadline=None)
def test_the_size_is_the_one_that_a_real_decoding_shows(media_type: str, width: int, height: int) -> None:
    data = pictures.EVERY_FORMAT[media_type](width=width, height=height)
    seen = inspect(data)
    assert (seen.width, seen.height) == shown(data)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("build", [pictures.jpeg, pictures.png, pictures.webp, pictures.avif, pictures.tiff])
def test_a_picture_on_its_side_is_measured_as_it_is_shown(build: Callable[..., bytes], orientation: int) -> None:
    data = build(orientation=orientation)
    seen = inspect(data)
    assert seen.orientation == orientation
    assert (seen.width, seen.height) == shown(data) == ((48, 64) if orientation >= 5 else (64, 48))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_heic_on_its_side_is_turned_once_by_its_container_and_not_again_by_exif(orientation: int) -> None:
    data = pictures.heic(orientation=orientation)
    seen = inspect(data)
    assert (seen.width, seen.height) == pillow_heif.open_heif(BytesIO(data)).to_pillow().size
    assert (seen.width, seen.height) == ((48, 64) if orientation >= 5 else (64, 48))
    assert seen.orientation == 1


def test_exif_behind_the_pixels_of_a_png_counts() -> None:
    whole = pictures.png(orientation=6)
    start = whole.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(whole[start : start + 4], "big")
    moved = whole[:start] + whole[stop:-12] + whole[start:stop] + whole[-12:]
    assert inspect(moved) == inspect(whole)


@pytest.mark.parametrize("frames", [2, 7])
@pytest.mark.parametrize(
    "build",
    [pictures.gif, pictures.apng, pictures.animated_webp, pictures.animated_avif],
    ids=lambda each: each.__name__,
)
def test_frames_are_counted(build: Callable[..., bytes], frames: int) -> None:
    data = build(frames=frames)
    assert inspect(data).frames == frames == getattr(Image.open(BytesIO(data)), "n_frames", None)


def test_pages_and_collections_are_counted() -> None:
    assert inspect(pictures.tiff(pages=5)).frames == 5
    assert inspect(pictures.heic(images=2)).frames == 2


def test_an_mpo_is_one_jpeg_as_every_viewer_shows_it() -> None:
    seen = inspect(pictures.mpo(frames=2))
    assert (seen.media_type, seen.frames) == (MediaType.JPEG, 1)


def test_a_film_behind_a_jpeg_does_no_harm() -> None:
    assert inspect(pictures.jpeg() + b"\0\0\0\x18ftypmp42" + bytes(5_000)) == inspect(pictures.jpeg())


def test_the_position_of_the_file_and_its_claims_play_no_part() -> None:
    file = BytesIO(pictures.png())
    file.seek(1_000)
    file.name = "holiday.jpg"
    assert INSPECTOR.inspect(file, limits=Limits()).media_type is MediaType.PNG


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0junk"]
)
@pytest.mark.parametrize("build", [pictures.jpeg, pictures.png, pictures.webp])
def test_unreadable_exif_turns_nothing(build: Callable[..., bytes], exif: bytes) -> None:
    assert inspect(build(exif=exif)) == inspect(build())


def test_an_orientation_that_exif_does_not_know_turns_nothing() -> None:
    assert inspect(pictures.jpeg(orientation=9)).orientation == 1


@given(exif=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_exif_is_a_reason_to_refuse_a_jpeg(exif: bytes) -> None:
    assert inspect(pictures.jpeg(8, 8, exif=b"Exif\0\0II*\0\x08\0\0\0" + exif)).media_type is MediaType.JPEG


# ---- what is cut short


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_beginning_of_a_file_is_refused(name: str, data: st.DataObject) -> None:
    whole = WHOLE[name]
    cut = data.draw(st.integers(0, len(whole) - 16))
    assert refusal(whole[:cut]) in {"unreadable_image", "unsupported_image"}


@pytest.mark.parametrize("name", WHOLE)
def test_files_that_lack_their_last_bytes_are_refused(name: str) -> None:
    whole = WHOLE[name]
    assert {refusal(whole[:-lost]) for lost in range(16, min(600, len(whole) - 64), 7)} == {"unreadable_image"}


def test_a_jpeg_that_lacks_only_its_end_marker_is_refused() -> None:
    assert refusal(pictures.jpeg()[:-2]) == "unreadable_image"
    assert refusal(pictures.jpeg()[:-1]) == "unreadable_image"


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    assert pictures.jpeg_with_thumbnail().count(b"\xff\xd9") == 2
    assert refusal(pictures.jpeg_with_thumbnail()[:-2]) == "unreadable_image"


def of_two_scans() -> bytes:
    """A JPEG whose first scan has one of three components, as far as the headers tell."""
    whole = pictures.jpeg()
    at = whole.index(b"\xff\xda")
    first = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 0, 63, 0)
    return whole[:at] + first + b"\x11" * 40 + whole[at:]


@pytest.mark.parametrize("whole", [pictures.jpeg(progressive=True), of_two_scans()], ids=["progressive", "one by one"])
def test_what_stands_between_the_scans_of_a_jpeg_is_looked_at(whole: bytes) -> None:
    assert inspect(whole) == inspect(pictures.jpeg())
    second = whole.index(b"\xff\xda", whole.index(b"\xff\xda") + 2)
    comment = struct.pack(">BBH", 0xFF, 0xFE, 10_002) + bytes(10_000)
    assert refusal(whole[:second] + comment + whole[second:], Limits(max_metadata_bytes=9_999)) == "too_much_metadata"


TURNED = pictures.jpeg(orientation=6)
JUNK = {
    "metadata over the limit": struct.pack(">BBH", 0xFF, 0xFE, 10_002) + bytes(10_000),
    "a segment longer than the file": b"\xff\xe2\xff\xff1234",
    "a frame of another size": struct.pack(">BBHBHH", 0xFF, 0xC0, 17, 8, 9_999, 9_999) + bytes(10),
    "an orientation": TURNED[2 : TURNED.index(b"\xff\xdb")],
    "a picture": pictures.jpeg(16, 8)[:-2],
}


@pytest.mark.parametrize("junk", JUNK)
def test_what_stands_behind_a_scan_of_the_whole_picture_counts_as_little_as_what_is_behind_the_end(junk: str) -> None:
    whole, limits = pictures.jpeg(), Limits(max_metadata_bytes=9_999)
    before_the_end = inspect(whole[:-2] + JUNK[junk] + b"\xff\xd9", limits)
    assert before_the_end == inspect(whole + JUNK[junk] + b"\xff\xd9", limits) == inspect(whole)


@pytest.mark.parametrize(
    "scan",
    [
        struct.pack(">BBHB6xBBB", 0xFF, 0xDA, 12, 3, 0, 63, 0),
        struct.pack(">BBHB6xBBB2x", 0xFF, 0xDA, 14, 3, 0, 63, 0),
        struct.pack(">BBHB", 0xFF, 0xDA, 3, 3),
    ],
    ids=["of other components", "too long", "too short"],
)
def test_a_scan_that_is_not_sound_lets_nothing_go_unseen(scan: bytes) -> None:
    whole = pictures.jpeg()
    at = whole.index(b"\xff\xda")
    data = whole[at + 14 : -2]
    for junk in ("metadata over the limit", "a segment longer than the file"):
        assert refusal(whole[:at] + scan + data + JUNK[junk] + b"\xff\xd9", Limits(max_metadata_bytes=9_999))


@pytest.mark.parametrize("length", range(2, 8))
def test_exif_begins_inside_its_segment(length: int) -> None:
    whole = pictures.jpeg(orientation=6)
    empty = struct.pack(">BBH", 0xFF, 0xE1, length) + b"Exif\0\0"
    assert inspect(whole[:2] + empty + whole[2:]).orientation == 6


@pytest.mark.parametrize("step_bytes", [1, 2, 7, 4096])
@pytest.mark.parametrize("name", [name for name in WHOLE if "jpeg" in name and "tiff" not in name])
def test_how_much_is_read_at_a_time_plays_no_part(name: str, step_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = inspect(WHOLE[name])
    monkeypatch.setattr(reader, "_STEP_BYTES", step_bytes)
    assert inspect(WHOLE[name]) == expected


@pytest.mark.parametrize("marker", [0xC5, 0xDE])
def test_a_hierarchical_jpeg_is_refused(marker: int) -> None:
    assert refusal(hostile.jpeg_with((marker, bytes(15)))) == "unreadable_image"


@pytest.mark.parametrize("length", range(8))
def test_a_jpeg_whose_frame_is_too_short_is_refused(length: int) -> None:
    whole = pictures.jpeg()
    at = whole.index(b"\xff\xc0") + 2
    assert refusal(whole[:at] + length.to_bytes(2, "big") + whole[at + 2 :]) == "unreadable_image"


@pytest.mark.parametrize("length", range(2))
def test_a_jpeg_whose_scan_is_shorter_than_its_length_is_refused(length: int) -> None:
    whole = pictures.jpeg()
    at = whole.index(b"\xff\xda") + 2
    assert refusal(whole[:at] + length.to_bytes(2, "big") + whole[at + 2 :]) == "unreadable_image"


def test_a_jpeg_without_a_scan_is_refused() -> None:
    whole = pictures.jpeg()
    assert refusal(whole[: whole.index(b"\xff\xda")] + b"\xff\xd9") == "unreadable_image"


@pytest.mark.parametrize("build", [pictures.avif, pictures.heic])
def test_a_container_cut_just_before_its_pixels_is_refused(build: Callable[..., bytes]) -> None:
    whole = build()
    assert refusal(whole[: whole.index(b"mdat") - 4]) == "unreadable_image"


def test_a_webp_whose_chunk_leaves_its_riff_is_refused() -> None:
    cut = bytearray(pictures.webp(lossless=True)[:-100])
    cut[4:8] = struct.pack("<I", len(cut) - 8)
    assert refusal(bytes(cut)) == "unreadable_image"


# The first read of a JPEG has 4 KB; from where its last byte is, reads of 64 KB follow.
@pytest.mark.parametrize("border", [4_096, 4_095 + 65_536, 4_094 + 2 * 65_536])
@pytest.mark.parametrize("padding", [b"\xff\x00", b"\xff", b"\x11", b"\xff\xd0"])
def test_an_end_marker_is_found_across_the_border_of_two_reads(border: int, padding: bytes) -> None:
    whole = pictures.jpeg()
    for end in range(border - 5, border + 5):
        room = end - len(whole)
        stretched = whole[:-2] + (padding * room)[:room] + whole[-2:]
        # With a byte behind it the marker has to be searched for; without it is looked for at the end.
        assert inspect(stretched + b"\0") == inspect(stretched) == inspect(whole)
        assert refusal(stretched[:-2]) == refusal(stretched[:-1]) == "unreadable_image"


def test_a_png_without_pixels_is_refused() -> None:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    assert refusal(pictures.png_of((b"IHDR", header), (b"IEND", b""))) == "unreadable_image"


def test_a_tiff_whose_second_page_points_outside_the_file_is_refused() -> None:
    whole = bytearray(pictures.tiff(pages=2))
    at = whole.rindex(struct.pack("<HHI", 273, 4, 1))
    whole[at + 8 : at + 12] = struct.pack("<I", len(whole) - 1)
    assert refusal(bytes(whole)) == "unreadable_image"


# ---- what is no image


@pytest.mark.parametrize("data", [b"", b"hello, world", pictures.html(), pictures.svg(), pictures.pdf(), bytes(100)])
def test_what_is_no_image_is_unsupported(data: bytes) -> None:
    assert refusal(data) == "unsupported_image"


@pytest.mark.parametrize("media_type", pictures.EVERY_FORMAT)
def test_a_lone_magic_number_is_no_image(media_type: str) -> None:
    magic = pictures.EVERY_FORMAT[media_type]()[:12]
    assert refusal(magic) in {"unreadable_image", "unsupported_image"}
    assert refusal(magic + b"<script>alert(1)</script>" * 20) in {"unreadable_image", "unsupported_image"}


def test_a_picture_without_pixels_is_unreadable() -> None:
    def flat(width: int, height: int) -> bytes:
        whole = bytearray(pictures.jpeg())
        at = whole.index(b"\xff\xc0") + 5
        whole[at : at + 4] = struct.pack(">HH", height, width)
        return bytes(whole)

    assert refusal(flat(0, 48)) == refusal(flat(64, 0)) == "unreadable_image"
    assert inspect(flat(64, 1)).height == 1


@pytest.mark.parametrize("media_type", pictures.EVERY_FORMAT)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_files_are_read_or_refused_and_nothing_else(media_type: str, data: st.DataObject) -> None:
    kinds = [whole for whole in WHOLE.values() if MediaType.sniff(whole[:64]) == media_type]
    damaged = bytearray(data.draw(st.sampled_from(kinds)))
    near = st.integers(0, min(600, len(damaged)) - 1)
    for at in data.draw(st.lists(near | st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[at] = data.draw(st.sampled_from([0, 0xFF, damaged[at] ^ 1, damaged[at] ^ 0x80]) | st.integers(0, 255))
    try:
        seen = inspect(bytes(damaged))
    except Invalid as refused:
        assert refused.code in CODES  # noqa: PT017
    else:
        assert seen.width * seen.height <= Limits().max_pixels
        assert min(seen.width, seen.height, seen.frames) >= 1


# ---- what asks for too much


def test_a_small_png_of_billions_of_pixels_is_refused_at_once() -> None:
    bomb = pictures.png_bomb(60_000, 60_000)
    assert len(bomb) < 8_000
    started = time.thread_time()
    assert refusal(bomb) == "too_many_pixels"
    assert time.thread_time() - started < MOST_CPU_S


@pytest.mark.parametrize("media_type", pictures.EVERY_FORMAT)
def test_a_frame_may_have_just_as_many_pixels_as_the_limit_says(media_type: str) -> None:
    data = pictures.EVERY_FORMAT[media_type](width=64, height=64)
    assert inspect(data, Limits(max_pixels=4_096)).width == 64
    assert refusal(data, Limits(max_pixels=4_095)) == "too_many_pixels"


@pytest.mark.parametrize(
    "data",
    [
        pictures.gif(64, 64, frames=3),
        pictures.apng(64, 64, frames=3),
        pictures.animated_webp(64, 64, frames=3),
        pictures.animated_avif(64, 64, frames=3),
        pictures.tiff(64, 64, pages=3),
        pictures.heic(64, 64, images=3),
    ],
    ids=["gif", "png", "webp", "avif", "tiff", "heic"],
)
def test_all_frames_together_may_have_just_as_many_pixels_as_the_limit_says(data: bytes) -> None:
    assert inspect(data, Limits(max_file_pixels=3 * 4_096)).frames == 3
    assert refusal(data, Limits(max_file_pixels=3 * 4_096 - 1)) == "too_many_pixels"


@pytest.mark.parametrize("media_type", ["image/avif", "image/heic"])
def test_a_giant_beyond_the_libraries_own_limits_has_too_many_pixels(media_type: str) -> None:
    giant = bytearray(pictures.EVERY_FORMAT[media_type]())
    at = giant.index(b"ispe") + 8
    giant[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    assert refusal(bytes(giant)) == "too_many_pixels"


def test_a_generous_limit_is_not_narrowed_by_the_limits_that_pillow_warns_at() -> None:
    generous = Limits(max_pixels=10**12, max_file_pixels=10**13)
    assert inspect(pictures.png_bomb(60_000, 60_000), generous).width == 60_000
    assert inspect(pictures.gif_of_tiny_frames(1, width=60_000, height=60_000), generous).width == 60_000


def test_a_webp_beyond_what_pillow_opens_has_too_many_pixels_whatever_the_limit() -> None:
    giant = bytearray(pictures.animated_webp())
    giant[24:30] = b"\xff\x3f\0" * 2
    assert refusal(bytes(giant), Limits(max_pixels=10**12, max_file_pixels=10**13)) == "too_many_pixels"


def test_a_gif_of_absurdly_many_frames_is_refused() -> None:
    assert inspect(pictures.gif_of_tiny_frames(10_000)).frames == 10_000
    assert refusal(pictures.gif_of_tiny_frames(10_001)) == "too_many_pixels"


def test_a_tiff_whose_pages_go_round_in_a_circle_ends_where_it_began() -> None:
    whole = bytearray(pictures.tiff())
    first = struct.unpack_from("<I", whole, 4)[0]
    entries = struct.unpack_from("<H", whole, first)[0]
    whole[first + 2 + 12 * entries : first + 6 + 12 * entries] = struct.pack("<I", first)
    assert inspect(bytes(whole)).frames == 1


def test_tiff_pages_that_share_one_huge_table_are_refused_soon() -> None:
    pages, strips = 500, 100_000
    start = 8 + 4 * strips
    size = 2 + 4 * 12 + 4
    entries = b"".join(
        struct.pack("<HHII", *entry)
        for entry in ((256, 4, 1, 1), (257, 4, 1, 1), (273, 4, strips, 8), (279, 4, strips, 8))
    )
    chain = [struct.pack("<H", 4) + entries + struct.pack("<I", start + size * (page + 1)) for page in range(pages)]
    data = struct.pack("<2sHI", b"II", 42, start) + bytes(4 * strips) + b"".join(chain)
    started = time.thread_time()
    assert refusal(data + struct.pack("<I", 0) * 20) == "unreadable_image"
    assert time.thread_time() - started < MOST_CPU_S


def test_a_file_of_nothing_but_empty_parts_is_refused() -> None:
    whole = pictures.jpeg()
    assert refusal(whole[:2] + b"\xff\xfe\0\x02" * 300_000 + whole[2:]) == "unreadable_image"


TEN_KB = bytes(10_000)
WITH_METADATA: dict[str, bytes] = {
    "jpeg with a comment": hostile.jpeg_with((0xFE, TEN_KB)),
    "jpeg with ICC": hostile.jpeg_with((0xE2, b"ICC_PROFILE\0\1\1" + TEN_KB)),
    "png with text": hostile.png_with((b"zTXt", b"k\0\0" + TEN_KB)),
    "png with a private chunk": hostile.png_with((b"prIv", TEN_KB)),
    "gif with comments": hostile.gif_of(b"!\xfe" + (b"\xff" + bytes(255)) * 40 + b"\0" + hostile.gif_frame()),
    "webp with XMP": hostile.webp_with((b"XMP ", TEN_KB)),
    "tiff with ICC": hostile.tiff_with((34_675, TEN_KB)),
    "bmp with ICC": hostile.bmp_with_profile(TEN_KB),
    **{
        f"{brand.decode()} with {name}": build(brand, len(TEN_KB))
        for brand in (b"avif", b"heic")
        for name, build in (("ICC", hostile.heif_with_profile), ("XMP", hostile.heif_with_xmp))
    },
}


@pytest.mark.parametrize("name", WITH_METADATA)
def test_metadata_may_have_so_many_bytes_in_every_format(name: str) -> None:
    data = WITH_METADATA[name]
    assert refusal(data, Limits(max_metadata_bytes=9_999)) == "too_much_metadata"
    assert inspect(data, Limits(max_metadata_bytes=10_400)) == inspect(data)


class Slow(BytesIO):
    """A file whose every piece costs much work."""

    def read(self, size: int | None = -1, /) -> bytes:
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
        return super().read(size)


def test_a_walk_that_takes_too_much_time_is_broken_off() -> None:
    many = hostile.png_with((b"tEXt", bytes(8_000)), times=300)
    assert inspect(many).media_type is MediaType.PNG
    started = time.thread_time()
    with pytest.raises(Invalid, match="takes too long to read"):
        INSPECTOR.inspect(cast("BinaryIO", Slow(many)), limits=Limits())
    assert time.thread_time() - started < 5


# ---- how it reads


class Watched(BytesIO):
    """Counts the bytes that are read, and the most of a single read."""

    read_bytes = most_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        self.most_bytes = max(self.most_bytes, len(data))
        return data


@pytest.mark.parametrize(
    "media_type", ["image/jpeg", "image/png", "image/tiff", "image/bmp", "image/webp", "image/heic"]
)
def test_pixels_are_passed_over_unread(media_type: str) -> None:
    options = {"lossless": True} if media_type == "image/webp" else {}
    data = pictures.EVERY_FORMAT[media_type](width=400, height=400, **options)
    file = Watched(data)
    INSPECTOR.inspect(file, limits=Limits())
    assert file.read_bytes < len(data) / 2


@pytest.mark.parametrize(
    "data", [pictures.big_jpeg(2_000_000) + b"film", pictures.gif(1_000, 1_000)], ids=["jpeg and more", "gif"]
)
def test_what_has_to_be_read_is_read_in_small_pieces(data: bytes) -> None:
    file = Watched(data)
    INSPECTOR.inspect(file, limits=Limits())
    assert file.most_bytes <= 65_536
    assert file.read_bytes < len(data) * 1.1


class Failing(BytesIO):
    """A file on a disk that fails behind the first bytes."""

    def __init__(self, data: bytes, failure: BaseException) -> None:
        super().__init__(data)
        self.failure = failure

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 0 or size != 64:
            raise self.failure
        return super().read(size)


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), MemoryError()], ids=["disk", "memory"])
def test_a_failing_machine_is_not_the_fault_of_the_file(failure: BaseException) -> None:
    with pytest.raises(Unavailable) as caught:
        INSPECTOR.inspect(cast(BinaryIO, Failing(pictures.png(), failure)), limits=Limits())
    assert caught.value.__cause__ is failure


def shown(data: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).size
