"""Uploads: names in every form, forms in every state, limits, and bad input that leaves nothing behind."""

import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from tests import hostile, pictures
from tests.e2e.client import (
    BOUNDARY,
    FORM_TYPE,
    IMAGES,
    Api,
    Part,
    answer_from,
    connection,
    document,
    exchange,
    fetch,
    file_part,
    footprint,
    form,
    offered_name,
    problem,
    resident_bytes,
    text_part,
    upload_head,
)
from tests.service import Service
from tests.waiting import wait_until

MIB = 1024 * 1024
LIMIT_BYTES = 25 * MIB

# ---- names


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("..\\..\\windows\\cat.jpg", "cat.jpg"),
        ("C:\\fakepath\\cat.jpg", "cat.jpg"),
        ("..", "image"),
        ("/", "image"),
        ("line\r\nbreak.jpg", "linebreak.jpg"),
        ('quo"te.jpg', 'quo"te.jpg'),
        ("gpj.\u202eexe.jpg", "gpj.exe.jpg"),
        ("CON.jpg", "image.jpg"),
        ("x" * 296 + ".jpg", "x" * 251 + ".jpg"),
        ("猫" * 296 + ".jpg", "猫" * 83 + ".jpg"),
        ("café.jpg", "café.jpg"),
    ],
)
def test_a_name_is_cleaned_and_never_refused(api: Api, name: str, stored: str) -> None:
    image = api.uploaded(name=name)
    assert image["filename"] == stored
    assert image["s3_key"] == f"images/{image['image_id']}/{stored}"
    assert offered_name(api.get(image["image_id"])) == stored
    assert fetch(image["presigned_url"]).content == pictures.jpeg()


@pytest.mark.parametrize(
    ("disposition", "stored"),
    [
        pytest.param('; filename="猫.jpg"'.encode(), "猫.jpg", id="curl, browsers"),
        pytest.param(rb'; filename="say \"cheese\".jpg"', 'say "cheese".jpg', id="curl before 7.81"),
        pytest.param(b'; filename="say %22cheese%22.jpg"', 'say "cheese".jpg', id="curl, browsers, quotes"),
        pytest.param(b'; filename="a%0D%0Ab.jpg"', "ab.jpg", id="browsers, line break"),
        pytest.param(b"; filename=cat.jpg", "cat.jpg", id="a bare word"),
        pytest.param(b"; filename*=UTF-8''%E7%8C%AB.jpg", "猫.jpg", id="RFC 5987"),
        pytest.param(b"; FileName*=utf-8'en'%E7%8C%AB%20a.jpg", "猫 a.jpg", id="RFC 5987 with a language"),
        pytest.param(b"; filename*=iso-8859-1''caf%E9.jpg", "café.jpg", id="RFC 5987 in Latin-1"),
        pytest.param(b"; filename*=nonsense''%E7%8C%AB.jpg", "猫.jpg", id="RFC 5987 in no charset"),
        pytest.param(b"; filename*=''..%2F%00%0A%22.jpg", '".jpg', id="RFC 5987 with everything"),
        pytest.param(b"; filename*=%FF%FE.jpg", "\ufffd\ufffd.jpg", id="RFC 5987, not UTF-8"),
        pytest.param(b"; filename=\"cat.jpg\"; filename*=UTF-8''%E7%8C%AB.jpg", "猫.jpg", id="both"),
        pytest.param(b'; filename="x; filename*=y"', "x; filename*=y", id="one that looks like both"),
        pytest.param(b'; filename="nul\0l.jpg"', "null.jpg", id="NUL"),
        pytest.param(b'; filename="bare\nline.jpg"', "bareline.jpg", id="a bare line feed"),
        pytest.param(b'; filename=""', "image", id="empty"),
        pytest.param(b"", "image", id="none"),
        pytest.param(b"; filename*=UTF-8''" + b"%E7%8C%AB" * 300, "猫" * 85, id="300 characters in RFC 5987"),
    ],
)
def test_a_name_is_understood_in_the_form_of_each_client(api: Api, disposition: bytes, stored: str) -> None:
    image = document(api.post_form([file_part(pictures.jpeg(), disposition)]), 201)
    assert image["filename"] == stored
    assert offered_name(api.get(image["image_id"])) == stored


# ---- forms


@pytest.mark.parametrize(
    ("tags", "stored"),
    [
        (["a,b, c ,,"], ["a", "b", "c"]),
        (["a", "b,c"], ["a", "b,c"]),
        ([""], []),
        (["STRASSE", "straße", "Strasse"], ["strasse"]),
        (["two words", "日本"], ["two words", "日本"]),
        ([f"t{n}" for n in range(30)], [f"t{n}" for n in range(30)]),
    ],
)
def test_tags_are_repeated_or_stand_in_one_field_with_commas(api: Api, tags: list[str], stored: list[str]) -> None:
    assert api.uploaded(tags=tags)["tags"] == stored


def test_the_order_of_a_forms_fields_does_not_count(api: Api) -> None:
    parts = [text_part("title", b"First"), file_part(pictures.jpeg()), text_part("tags", b"last")]
    image = document(api.post_form(parts), 201)
    assert (image["title"], image["tags"]) == ("First", ["last"])


def test_what_surrounds_the_parts_is_ignored(api: Api) -> None:
    body = b"a preamble\r\n" + form([file_part(pictures.jpeg())]) + b"an epilogue"
    response = api.http.post(IMAGES, content=body, headers={"Content-Type": FORM_TYPE})
    document(response, 201)


def test_an_upload_may_come_in_chunks_without_a_length(api: Api) -> None:
    picture = pictures.big_jpeg(2 * MIB)
    body = form([file_part(picture)])

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 100_001):
            yield body[start : start + 100_001]

    response = api.http.post(IMAGES, content=pieces(), headers={"Content-Type": FORM_TYPE})
    assert "content-length" not in response.request.headers
    assert api.get(document(response, 201)["image_id"]).content == picture


def test_an_upload_may_come_byte_by_byte(api: Api, service: Service) -> None:
    picture = pictures.gif(2, 2)
    body = form([file_part(picture)])
    with connection(service) as raw:
        head = upload_head(str(api.user), len(body)).replace(b"\n", b"\r\n") + b"\r\n"
        raw.sendall(head)
        for each in body:
            raw.sendall(bytes([each]))
        assert answer_from(raw).json()["size_bytes"] == len(picture)


def test_a_client_that_asks_for_leave_gets_it(api: Api, service: Service) -> None:
    body = form([file_part(pictures.jpeg())])
    with connection(service) as raw:
        head = upload_head(str(api.user), len(body), "Expect: 100-continue").replace(b"\n", b"\r\n") + b"\r\n"
        raw.sendall(head)
        assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
        raw.sendall(body)
        assert answer_from(raw).status_code == 201


def test_a_client_that_asks_for_leave_and_may_not_upload_is_told_at_once(service: Service) -> None:
    def told_in_s() -> float:
        with connection(service) as raw:
            head = f"POST {IMAGES} HTTP/1.1\nHost: x\nContent-Length: 1000\nExpect: 100-continue\n\n"
            raw.sendall(head.replace("\n", "\r\n").encode())
            begun = time.monotonic()
            problem(answer_from(raw), 401, "unauthenticated")
            return time.monotonic() - begun

    wait_until(lambda: told_in_s() < 4)  # a server that hopes for the body takes five, each time


# ---- bad input: a problem with a stable code, and nothing left behind


def _tiff_without_a_directory() -> bytes:
    return struct.pack("<2sHI", b"II", 42, 8)


BAD_FILES = {
    "nothing": (b"", "empty_file"),
    "text": (b"Dear diary, nothing happened today.\n" * 20, "unsupported_image"),
    "HTML": (pictures.html(), "unsupported_image"),
    "SVG": (pictures.svg(), "unsupported_image"),
    "PDF": (pictures.pdf(), "unsupported_image"),
    "ZIP": (b"PK\x03\x04" + bytes(200), "unsupported_image"),
    "JPEG's magic number": (b"\xff\xd8\xff", "unreadable_image"),
    "PNG's magic number": (b"\x89PNG\r\n\x1a\n", "unreadable_image"),
    "GIF's magic number": (b"GIF89a", "unreadable_image"),
    "WebP's magic number": (b"RIFF\x04\0\0\0WEBP", "unreadable_image"),
    "TIFF's magic number": (_tiff_without_a_directory(), "unreadable_image"),
    "BMP's magic number": (b"BM", "unreadable_image"),
    "HTML behind a magic number": (b"GIF89a" + pictures.html(), "unreadable_image"),
    "60,000 x 60,000": (pictures.png_bomb(), "too_many_pixels"),
    "20 MB of XMP": (hostile.png_with((b"iTXt", bytes(20_000_000))), "too_much_metadata"),
    "PNG of no width": (
        pictures.png_of((b"IHDR", struct.pack(">IIBBBBB", 0, 9, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))),
        "unreadable_image",
    ),
}


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_no_good_image_is_refused(api: Api, kind: str) -> None:
    content, code = BAD_FILES[kind]
    problem(api.upload(content, "holiday.jpg"), 400, code)


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("media_type", pictures.EVERY_FORMAT)
def test_a_truncated_file_is_refused(api: Api, media_type: str) -> None:
    whole = pictures.EVERY_FORMAT[media_type]()
    for length in (len(whole) * 9 // 10, len(whole) // 2, 20):
        problem(api.upload(whole[:length]), 400, "unreadable_image")


LONG = "x" * 70_000


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize(
    ("parts", "code", "field"),
    [
        pytest.param([text_part("tags", b"t" * 65)], "invalid_input", "tags", id="a tag of 65"),
        pytest.param([text_part("tags", b"%d" % n) for n in range(31)], "invalid_input", "tags", id="31 tags"),
        pytest.param(
            [text_part("tags", b",".join(b"%d" % n for n in range(31)))], "invalid_input", "tags", id="31 in one"
        ),
        pytest.param([text_part("tags", b"a"), text_part("tags", b" ")], "invalid_input", "tags", id="an empty tag"),
        pytest.param([text_part("title", b"t" * 201)], "invalid_input", "title", id="a title of 201"),
        pytest.param([text_part("title", b"  ")], "invalid_input", "title", id="a title of nothing"),
        pytest.param([text_part("title", b"a\0b")], "invalid_input", "title", id="NUL in the title"),
        pytest.param([text_part("title", b"a\nb")], "invalid_input", "title", id="a newline in the title"),
        pytest.param([text_part("description", b"d" * 5001)], "invalid_input", "description", id="too many words"),
        pytest.param([text_part("titel", b"x")], "invalid_input", "titel", id="an unknown field"),
        pytest.param([text_part("", b"x")], "invalid_input", "", id="a field without a name"),
        pytest.param([text_part("user_id", b"root")], "invalid_input", "user_id", id="a field of the document"),
        pytest.param([text_part("title", b"a"), text_part("title", b"b")], "invalid_input", "title", id="two titles"),
        pytest.param([text_part("title", b"\xff\xfe")], "invalid_input", "title", id="a title not in UTF-8"),
        pytest.param([text_part("title", b"\xed\xa0\x80")], "invalid_input", "title", id="a surrogate"),
        pytest.param([text_part("tags", b"\xff")], "invalid_input", "tags", id="a tag not in UTF-8"),
        pytest.param([file_part(pictures.jpeg())], "invalid_form", None, id="two files"),
        pytest.param([text_part("description", LONG.encode())], "invalid_form", None, id="a field of 70,000"),
        pytest.param([text_part(f"f{n}", b"") for n in range(100)], "invalid_form", None, id="100 fields"),
        pytest.param([Part(b"Content-Type: text/plain", b"x")], "invalid_form", None, id="a part without a name"),
        pytest.param([Part(b"nonsense", b"x")], "invalid_form", None, id="a header that is none"),
        pytest.param(
            [Part(b'Content-Disposition: form-data; name="\xff"', b"x")], "invalid_form", None, id="a name not in UTF-8"
        ),
        pytest.param(
            [Part(b'Content-Disposition: form-data; name="' + b"n" * 20_000, b"x")],
            "invalid_form",
            None,
            id="a name of 20,000",
        ),
    ],
)
def test_a_form_that_breaks_a_rule_is_refused(api: Api, parts: list[Part], code: str, field: str | None) -> None:
    answer = problem(api.post_form([file_part(pictures.jpeg()), *parts]), 400, code)
    assert field is None or [fault["field"] for fault in answer["errors"]] == [field]


@pytest.mark.usefixtures("leaves_nothing")
def test_what_is_said_of_a_broken_form_is_a_sentence(api: Api) -> None:
    refusal = problem(api.post_form([Part(b'Content-Disposition: form-data; name="\xff"', b"x")]), 400, "invalid_form")
    assert refusal["detail"] == "The form is malformed: Segment header failed to decode."


@pytest.mark.usefixtures("leaves_nothing")
def test_all_that_is_wrong_with_a_form_is_told_at_once(api: Api) -> None:
    parts = [text_part("title", b""), text_part("tags", b"t" * 65), text_part("colour", b"red")]
    answer = problem(api.post_form(parts), 400, "invalid_input")
    assert {fault["field"] for fault in answer["errors"]} == {"file", "title", "tags", "colour"}


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("multipart/form-data", form([file_part(b"x")]), 400, "invalid_form"),
        ("multipart/form-data; boundary=", form([file_part(b"x")]), 400, "invalid_form"),
        ('multipart/form-data; boundary=""', form([file_part(b"x")]), 400, "invalid_form"),
        ("multipart/form-data; boundary=another", form([file_part(b"x")]), 400, "invalid_form"),
        ("multipart/form-data; boundary=é", form([file_part(b"x")]), 400, "invalid_form"),
        (FORM_TYPE, b"", 400, "invalid_form"),
        (FORM_TYPE, b"nonsense", 400, "invalid_form"),
        (FORM_TYPE, f"--{BOUNDARY}--\r\n".encode(), 400, "invalid_input"),
        (FORM_TYPE, form([file_part(pictures.jpeg())])[:-10], 400, "invalid_form"),
        (FORM_TYPE, form([file_part(pictures.jpeg())])[:500], 400, "invalid_form"),
        (FORM_TYPE, form([file_part(pictures.jpeg())]).replace(b"\r\n", b"\n"), 400, "invalid_form"),
        ("multipart/mixed; boundary=x", b"", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", b"title=x", 415, "unsupported_media_type"),
        ("application/json", b"{}", 415, "unsupported_media_type"),
        ("image/jpeg", pictures.jpeg(), 415, "unsupported_media_type"),
        ("", pictures.jpeg(), 415, "unsupported_media_type"),
        ("multipart", pictures.jpeg(), 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_is_no_form_is_refused(api: Api, content_type: str, body: bytes, status: int, code: str) -> None:
    response = api.http.post(IMAGES, content=body, headers={b"Content-Type": content_type.encode()})
    problem(response, status, code)
    assert (response.headers.get("accept") == "multipart/form-data") == (status == 415)


@pytest.mark.usefixtures("leaves_nothing")
def test_an_upload_takes_no_query_parameters(api: Api) -> None:
    response = api.http.post(f"{IMAGES}?title=x", files={"file": ("a.jpg", pictures.jpeg())})
    assert problem(response, 400, "invalid_input")["errors"][0]["field"] == "title"


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("size_bytes", [400, 3 * MIB])
@pytest.mark.parametrize("reset", [False, True])
def test_a_body_that_is_cut_off_leaves_nothing(api: Api, service: Service, size_bytes: int, reset: bool) -> None:  # noqa: FBT001
    body = form([file_part(pictures.big_jpeg(2 * size_bytes if size_bytes > 400 else 3000))])
    with connection(service) as raw:
        raw.sendall(upload_head(str(api.user), len(body)).replace(b"\n", b"\r\n") + b"\r\n" + body[:size_bytes])
        if size_bytes == 400:
            time.sleep(0.1)  # by now it is read; if it is not, nothing is checked
        else:
            wait_until(lambda: footprint(service).unnamed == 1)
        if reset:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert api.ids() == []


@pytest.mark.usefixtures("leaves_nothing")
def test_a_chunked_body_that_is_cut_off_leaves_nothing(api: Api, service: Service) -> None:
    body = form([file_part(pictures.jpeg())])
    with connection(service) as raw:
        head = upload_head(str(api.user), None).replace(b"\n", b"\r\n") + b"\r\n"
        raw.sendall(head + b"%x\r\n%b\r\n" % (len(body) - 50, body[:-50]))
        time.sleep(0.1)  # as above
    assert api.ids() == []


@pytest.mark.usefixtures("leaves_nothing")
def test_a_length_that_is_too_short_ends_the_form_in_the_middle(api: Api, service: Service) -> None:
    body = form([file_part(pictures.jpeg())])
    answer = exchange(service, upload_head(str(api.user), len(body) - 100), body[:-100])
    problem(answer, 400, "invalid_form")


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("length", ["-1", "x", "1, 2", "99999999999999999999999"])
def test_a_length_that_is_none_is_refused(api: Api, service: Service, length: str) -> None:
    head = f"POST {IMAGES} HTTP/1.1\nHost: x\nX-User-ID: {api.user}\nContent-Type: {FORM_TYPE}\n"
    answer = exchange(service, f"{head}Content-Length: {length}\n".encode())
    assert answer.status_code == 400


# ---- the limit


def test_a_file_of_just_the_limit_fits_with_its_form_around_it(api: Api) -> None:
    picture = pictures.big_jpeg(LIMIT_BYTES)
    image = api.uploaded(picture, description="d" * 5000, tags=[f"tag {n}" for n in range(30)])
    assert image["size_bytes"] == LIMIT_BYTES
    assert api.get(image["image_id"]).content == picture


@pytest.mark.usefixtures("leaves_nothing")
def test_one_byte_more_is_too_large(api: Api) -> None:
    problem(api.upload(pictures.big_jpeg(LIMIT_BYTES) + b"\0"), 413, "file_too_large")


@pytest.mark.usefixtures("leaves_nothing")
def test_a_client_that_sends_everything_before_it_reads_is_told_that_it_is_too_much(api: Api, service: Service) -> None:
    body = form([file_part(bytes(26 * MIB))])
    problem(exchange(service, upload_head(str(api.user), len(body)), body), 413, "file_too_large")
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    problem(exchange(service, upload_head(str(api.user), None), chunked), 413, "file_too_large")


@pytest.mark.usefixtures("leaves_nothing")
def test_more_form_than_a_form_needs_is_too_large(api: Api) -> None:
    parts = [text_part("unknown", bytes(28 * MIB))]
    problem(api.post_form(parts), 413, "request_too_large")


@pytest.mark.parametrize(
    ("target", "lines", "status", "code"),
    [
        (f"POST {IMAGES}", [], 401, "unauthenticated"),
        (f"POST {IMAGES}", ["X-User-ID: ann", "Content-Type: text/plain"], 415, "unsupported_media_type"),
        (f"POST {IMAGES}?x=1", ["X-User-ID: ann", f"Content-Type: {FORM_TYPE}"], 400, "invalid_input"),
        (f"PUT {IMAGES}/x", ["X-User-ID: ann", "Content-Type: application/json"], 413, "request_too_large"),
        ("POST /nowhere", [], 404, "no_such_route"),
        ("POST /health/live", [], 405, "method_not_allowed"),
    ],
)
def test_whoever_sends_everything_first_hears_any_refusal(
    service: Service, target: str, lines: list[str], status: int, code: str
) -> None:
    body = bytes(20 * MIB)
    head = "\n".join([f"{target} HTTP/1.1", "Host: x", *lines, f"Content-Length: {len(body)}", ""])
    problem(exchange(service, head.encode(), body), status, code)


# ---- idempotency


def test_a_repeated_upload_with_a_key_answers_alike_and_happens_once(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    first = api.upload(headers=key, title="One", tags="a")
    again = api.upload(headers=key, title="One", tags="a")

    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert document(again, 201)["image_id"] == document(first, 201)["image_id"]
    assert len(api.ids()) == 1


def test_a_key_used_for_another_upload_is_refused(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    image_id = document(api.upload(headers=key), 201)["image_id"]
    problem(api.upload(pictures.jpeg(seed=1), headers=key), 422, "idempotency_key_reused")
    problem(api.upload(name="other.jpg", headers=key), 422, "idempotency_key_reused")
    problem(api.upload(headers=key, title="Other"), 422, "idempotency_key_reused")
    assert api.ids() == [image_id]


def test_a_key_is_its_owners(api: Api, stranger: Api) -> None:
    key = {"Idempotency-Key": "once"}
    mine, theirs = api.upload(headers=key), stranger.upload(headers=key)
    assert document(mine, 201)["image_id"] != document(theirs, 201)["image_id"]
    assert "idempotent-replayed" not in theirs.headers


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("key", ["", "two words", "k" * 256, "schlüssel"])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    response = api.http.post(IMAGES, files={"file": ("a.jpg", pictures.jpeg())}, headers=headers)
    problem(response, 400, "invalid_idempotency_key")


@pytest.mark.usefixtures("leaves_nothing")
def test_two_keys_are_none(api: Api) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = api.http.post(IMAGES, files={"file": ("a.jpg", pictures.jpeg())}, headers=headers)
    problem(response, 400, "invalid_idempotency_key")


# ---- memory


def _big_png() -> bytes:
    side = 2_950
    row = b"\0" + pictures.big_jpeg(LIMIT_BYTES)[5000 : 5000 + 3 * side]
    data = zlib.compress(row * side, level=0)
    return pictures.png_of(
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")
    )


def test_memory_hardly_grows_while_large_files_are_uploaded(open_service: Callable[..., Service]) -> None:
    files = {"a.jpg": pictures.big_jpeg(LIMIT_BYTES), "a.png": _big_png()}
    assert all(24 * MIB < len(content) <= LIMIT_BYTES for content in files.values())
    with open_service() as service:
        api = Api(service, "ann")
        for small in (pictures.jpeg(), pictures.png(), pictures.big_jpeg(2 * MIB)):
            document(api.upload(small), 201)
        before = resident_bytes(service)
        with _Peak(service) as peak:
            # Where they are uploaded faster than it can be looked, once more.
            while peak.samples <= 10:
                for name, content in files.items():
                    document(api.upload(content, name), 201)
        api.close()
    assert peak.bytes - before < 15 * MIB


class _Peak:
    """The most memory that a service held while the context was open."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.bytes = self.samples = 0

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.bytes = max(self.bytes, resident_bytes(self._service))
            self.samples += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
