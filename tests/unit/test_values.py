import unicodedata
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.values import Description, Filename, IdempotencyKey, MediaType, Tag, Title, UserId, fold, parse_tags

ODD = "\u0345\u0301\u0327\u0130\u0131\u0149\u00df\u1e9e\u03c2\u01c5\u1fb3\u1100\u1161\u11a8\uac00\ufb03\u212b\u0958"
SPACES = " \t\n\x0b\x1f\x85\xa0\u2000\u2028\u2029\u3000"
MARKS = "\x00\x7f\u200e\u202e\u2066\u2069\u061c\ud800\udfff"
PATHS = "./\\:~$"

# Any text, and often one that is made of nothing but trouble.
texts = st.text() | st.text(st.sampled_from(ODD + SPACES + MARKS + PATHS + "aI\u00e9")) | st.text(min_size=190)
valid_texts = texts.filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
filenames = texts | st.lists(
    st.sampled_from(["con", "COM1", "lpt\u00b9", ".", " ", "/", "x" * 250, "\u5199" * 80, "\u202e"])
).map("".join)

Parser = Callable[[str], str]


@given(raw=texts)
@pytest.mark.parametrize("parse", [Title, Description, Tag, Filename])
def test_parsing_a_parsed_value_gives_the_same_value(parse: Parser, raw: str) -> None:
    try:
        once = parse(raw)
    except Invalid:
        assume(False)
        raise
    assert parse(once) == once
    assert type(parse(once)) is parse


@given(raw=texts)
@pytest.mark.parametrize("parse", [UserId, Title, Description, Tag, IdempotencyKey])
def test_a_parser_refuses_with_invalid_and_nothing_else(parse: Parser, raw: str) -> None:
    try:
        parse(raw)
    except Invalid as refusal:
        assert refusal.field in {"user_id", "title", "description", "tags", "Idempotency-Key"}  # noqa: PT017
        assert refusal.reason  # noqa: PT017


@pytest.mark.parametrize("parse", [Title, Description, Tag])
def test_text_that_is_not_unicode_is_refused(parse: Parser) -> None:
    with pytest.raises(Invalid, match="must be valid Unicode"):
        parse("a\ud800b")


@pytest.mark.parametrize("parse", [Title, Description, Tag])
def test_what_is_not_text_is_refused(parse: Parser) -> None:
    with pytest.raises(Invalid, match="must be text"):
        parse(7)  # type: ignore[arg-type]


# ---- user ids


@pytest.mark.parametrize("raw", ["a", "auth0|5f7c", "ann@example.org", "urn:x:1", "A.b_c-d", "x" * 128])
def test_a_user_id_is_kept_as_it_was_sent(raw: str) -> None:
    assert UserId(raw) == raw


@pytest.mark.parametrize("raw", ["", "x" * 129, "a b", "a/b", "a#b", "a\n", "\u00e4nn", "\u0661"])
def test_a_user_id_with_other_characters_or_length_is_refused(raw: str) -> None:
    with pytest.raises(Invalid) as refusal:
        UserId(raw)
    assert refusal.value.code == "invalid_user"


# ---- titles and descriptions


@given(raw=valid_texts)
def test_a_title_is_trimmed_and_in_normal_form_and_its_length_counts_after_that(raw: str) -> None:
    expected = unicodedata.normalize("NFC", raw).strip()
    good = 1 <= len(expected) <= 200 and not any(unicodedata.category(char) == "Cc" for char in expected)
    if good:
        assert Title(raw) == expected
    else:
        with pytest.raises(Invalid):
            Title(raw)


def test_200_letters_sent_as_400_code_points_are_a_title() -> None:
    assert Title("e\u0301" * 200) == "\u00e9" * 200


def test_a_letter_that_normal_form_takes_apart_counts_as_what_it_becomes() -> None:
    assert len(Title("\u0958" * 100)) == 200
    with pytest.raises(Invalid):
        Title("\u0958" * 101)


@pytest.mark.parametrize("raw", ["", " \t\u3000", "x" * 201, "a\x00b", "a\nb", "a\x9fb"])
def test_an_empty_or_long_title_or_one_with_control_characters_is_refused(raw: str) -> None:
    with pytest.raises(Invalid, match="title must"):
        Title(raw)


@given(raw=filenames)
def test_every_filename_gives_a_title(raw: str) -> None:
    title = Title.from_filename(Filename(raw))
    assert Title(title) == title


@pytest.mark.parametrize(
    ("filename", "title"),
    [
        ("cat.jpg", "cat"),
        ("cat.tar.gz", "cat.tar"),
        (".jpg", ".jpg"),
        ("cat", "cat"),
        ("cat .jpg", "cat"),
        ("e\u0301te\u0301.png", "\u00e9t\u00e9"),
        ("x" * 240 + ".jpg", "x" * 200),
    ],
)
def test_the_default_title_is_the_stem_of_the_filename(filename: str, title: str) -> None:
    assert Title.from_filename(Filename(filename)) == title


@pytest.mark.parametrize(
    ("one", "other"), [("Stra\u00dfe", "STRASSE"), ("\u039f\u03a3", "\u03bf\u03c2"), ("E\u0301", "\u00e9")]
)
def test_titles_that_differ_only_in_case_have_one_folded_form(one: str, other: str) -> None:
    assert Title(one).folded == Title(other).folded


@given(raw=valid_texts)
def test_a_description_is_in_normal_form_and_otherwise_as_it_was_sent(raw: str) -> None:
    assert Description(raw) == unicodedata.normalize("NFC", raw)


def test_a_description_has_at_most_5000_characters_in_normal_form() -> None:
    assert len(Description("e\u0301" * 5_000)) == 5_000
    assert Description("") == ""
    with pytest.raises(Invalid):
        Description("x" * 5_001)


# ---- tags


@given(text=valid_texts)
@example(text="\u0345\u0301")
@example(text="\u1fb3\u0301")
@example(text="\u0130")
def test_folding_twice_is_folding_once_and_stays_in_normal_form(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert unicodedata.is_normalized("NFC", folded)


@given(text=valid_texts)
def test_texts_that_are_canonically_equal_fold_alike(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text)) == fold(text)


@pytest.mark.parametrize(
    ("raw", "tag"),
    [(" Cats ", "cats"), ("STRASSE", "strasse"), ("Stra\u00dfe", "strasse"), ("I", "i"), ("\u0130", "i\u0307"),
     ("\u1112\u1161\u11ab", "\ud55c"), ("two words", "two words"), ("\u1e9e", "ss")],
)  # fmt: skip
def test_a_tag_is_trimmed_folded_and_in_normal_form(raw: str, tag: str) -> None:
    assert Tag(raw) == tag


def test_a_tags_length_counts_after_folding() -> None:
    assert Tag("\u00df" * 32) == "s" * 64
    with pytest.raises(Invalid):
        Tag("\u00df" * 33)


@pytest.mark.parametrize("raw", ["", "  ", "x" * 65])
def test_an_empty_or_long_tag_is_refused(raw: str) -> None:
    with pytest.raises(Invalid, match="tags must have 1-64"):
        Tag(raw)


@given(raw=st.lists(st.sampled_from(["a", "A", " a", "B", "b", "\u00df", "ss", "SS", "c"])))
def test_tags_keep_their_order_and_the_first_of_equals(raw: list[str]) -> None:
    tags = parse_tags(raw)
    firsts = [next(at for at, each in enumerate(raw) if Tag(each) == tag) for tag in tags]
    assert all(one < other for one, other in pairwise(firsts))
    assert set(tags) == {Tag(each) for each in raw}
    assert parse_tags(tags) == tags


def test_there_are_at_most_30_tags_with_equals_counted_once() -> None:
    thirty = [f"tag{number}" for number in range(30)]
    assert len(parse_tags([*thirty, *thirty, "TAG7"])) == 30
    with pytest.raises(Invalid, match="tags must be at most 30"):
        parse_tags([*thirty, "another"])


def test_one_text_is_not_a_list_of_tags() -> None:
    with pytest.raises(Invalid, match="must be a list"):
        parse_tags("cats")


# ---- filenames

WINDOWS_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    device + digit for device in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"
}


@given(raw=filenames)
@example(raw="con" + " " * 300 + "x.jpg")
@example(raw="con" + "." * 300 + "jpg")
@example(raw="nul." + "x" * 251)
@example(raw="." * 300 + "jpg")
def test_any_text_gives_a_filename_that_is_safe_everywhere(raw: str) -> None:
    name = Filename(raw)
    assert 1 <= len(name.encode()) <= 255
    assert not set(name) & set("/\\\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in name)
    assert name.strip(".")
    assert name.strip() == name
    assert not name.endswith(".")
    assert name.split(".")[0].strip().casefold() not in WINDOWS_DEVICES
    assert Filename(name) == name


@pytest.mark.parametrize(
    "name",
    ["cat.jpg", "IMG 0001 (2).JPEG", "\u5199\u771f.png", "\u0444\u043e\u0442\u043e.gif", "e\u0301te\u0301.heic",
     "\U0001f468\u200d\U0001f469.png", "\u0635\u0648\u0631\u0629.webp", ".hidden", "a..b", "console.log",
     "com10", "aux-1.jpg", "100%.jpg", "it's.jpg", "x" * 251 + ".jpg"],
)  # fmt: skip
def test_an_ordinary_name_stays_as_it_was_sent(name: str) -> None:
    assert Filename(name) == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\cat.jpg", "cat.jpg"),
        ("a/b\\c.png", "c.png"),
        ("folder/", "image"),
        ("..", "image"),
        ("", "image"),
        ("cat\x00.jpg\r\n", "cat.jpg"),
        ("cat\u202egpj.exe", "catgpj.exe"),
        ("cat.jpg. . .", "cat.jpg"),
        ("CON", "image"),
        ("con.jpg", "image.jpg"),
        ("Nul .tar.gz", "image.tar.gz"),
        ("com\u00b9.png", "image.png"),
        ("\u202econ", "image"),
        ("\ud800", "image"),
    ],
)
def test_what_is_unsafe_in_a_name_is_removed(raw: str, name: str) -> None:
    assert Filename(raw) == name


@given(
    stem=st.text(st.sampled_from("a\u00e9\u5199\U0001f4f7"), min_size=250), suffix=st.sampled_from(["jpg", "\u5199"])
)
def test_a_long_name_is_cut_before_its_extension(stem: str, suffix: str) -> None:
    name = Filename(f"{stem}.{suffix}")
    assert name.endswith(f".{suffix}")
    assert stem.startswith(name.stem)
    assert len(name.encode()) > 255 - 4 or name.stem == stem


def test_a_reserved_name_that_only_the_cut_brings_to_light_is_removed() -> None:
    assert Filename("con" + " " * 300 + "x.jpg") == "image.jpg"
    assert Filename("con" + " " * 300 + "x") == "image"


def test_a_name_with_a_long_run_of_spaces_costs_no_more_than_another() -> None:
    # Quadratic work, as of a pattern anchored at the end, would take many minutes here.
    assert Filename("a" + " " * 300_000 + "b") == "a"


# ---- media types


@given(head=st.binary(max_size=80) | st.binary(max_size=40).map(lambda rest: b"\x00\x00\x00\x18ftyp" + rest))
def test_any_bytes_can_be_sniffed(head: bytes) -> None:
    assert MediaType.sniff(head) in {None, *MediaType}


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", MediaType.JPEG),
        (b"\x89PNG\r\n\x1a\n", MediaType.PNG),
        (b"GIF87a", MediaType.GIF),
        (b"GIF89a", MediaType.GIF),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", MediaType.WEBP),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00mif1miaf", MediaType.AVIF),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00miafavif", MediaType.AVIF),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", MediaType.HEIC),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", MediaType.HEIC),
        (b"II*\x00", MediaType.TIFF),
        (b"MM\x00*", MediaType.TIFF),
        (b"BM", MediaType.BMP),
        (b"", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", None),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00mp41avc1", None),
        # A brand behind the end of the box is none of its brands.
        (b"\x00\x00\x00\x14ftypmif1\x00\x00\x00\x00miafheic", None),
    ],
)
def test_the_format_is_told_by_the_first_bytes(head: bytes, media_type: MediaType | None) -> None:
    assert MediaType.sniff(head) is media_type


# ---- idempotency keys


@pytest.mark.parametrize("raw", ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "!~", "x" * 255])
def test_an_idempotency_key_is_kept_as_it_was_sent(raw: str) -> None:
    assert IdempotencyKey(raw) == raw


@pytest.mark.parametrize("raw", ["", "a b", "x" * 256, "\u00e9", "a\n"])
def test_an_idempotency_key_with_other_characters_or_length_is_refused(raw: str) -> None:
    with pytest.raises(Invalid) as refusal:
        IdempotencyKey(raw)
    assert refusal.value.code == "invalid_idempotency_key"


@pytest.mark.parametrize("noncharacter", ["\ufffe", "\uffff", "\ufdd0", "\U0001ffff"])
def test_a_filename_loses_what_is_no_character(noncharacter: str) -> None:
    assert Filename(f"a{noncharacter}b.jpg") == "ab.jpg"
