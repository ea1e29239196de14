"""The life of one image over HTTP: stored, read, changed, deleted, restored; and seen by nobody else."""

import hashlib
import re
from datetime import datetime, timedelta

import pytest

from tests import pictures
from tests.e2e.client import DOCUMENT_FIELDS, IMAGES, Api, document, fetch, offered_name, problem

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_an_upload_answers_with_its_document_and_address(api: Api) -> None:
    picture = pictures.jpeg(40, 30)

    response = api.upload(picture, "Tower.jpg", title="The tower", description="At noon", tags=["Paris", "iron"])

    answer = document(response, 201)
    assert answer.keys() == DOCUMENT_FIELDS
    assert response.headers["location"] == f"{IMAGES}/{answer['image_id']}"
    assert response.headers["etag"] == '"1"'
    assert api.http.get(response.headers["location"]).content == picture
    assert answer["user_id"] == api.user
    assert answer["s3_key"] == f"images/{answer['image_id']}/Tower.jpg"
    assert (answer["filename"], answer["title"], answer["description"]) == ("Tower.jpg", "The tower", "At noon")
    assert answer["tags"] == ["paris", "iron"]
    assert (answer["content_type"], answer["width"], answer["height"]) == ("image/jpeg", 40, 30)
    assert (answer["size_bytes"], answer["sha256"]) == (len(picture), hashlib.sha256(picture).hexdigest())
    assert answer["version"] == 1
    assert answer["created_at"] == answer["updated_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", answer["created_at"])


def test_without_words_the_title_is_the_stem_of_the_name(api: Api) -> None:
    answer = api.uploaded(name="My holiday.2026.jpg")
    assert (answer["title"], answer["description"], answer["tags"]) == ("My holiday.2026", "", [])


@pytest.mark.parametrize("media_type", pictures.EVERY_FORMAT)
def test_every_format_comes_back_byte_for_byte_and_as_what_it_is(api: Api, media_type: str) -> None:
    picture = pictures.EVERY_FORMAT[media_type](width=32, height=24)
    answer = api.uploaded(picture, "claims-to-be.txt")
    assert (answer["content_type"], answer["width"], answer["height"]) == (media_type, 32, 24)
    response = api.get(answer["image_id"])
    assert (response.headers["content-type"], response.content) == (media_type, picture)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        pytest.param(pictures.jpeg(40, 30, orientation=6), (30, 40), id="JPEG on its side"),
        pytest.param(pictures.jpeg(40, 30, orientation=3), (40, 30), id="JPEG on its head"),
        pytest.param(pictures.webp(40, 30, orientation=8), (30, 40), id="WebP on its side"),
        pytest.param(pictures.heic(40, 30, orientation=6), (30, 40), id="HEIC on its side"),
        pytest.param(pictures.gif(40, 30, frames=3), (40, 30), id="animated GIF"),
        pytest.param(pictures.animated_webp(40, 30), (40, 30), id="animated WebP"),
        pytest.param(pictures.png_16bit(40, 30), (40, 30), id="PNG of 16 bits"),
        pytest.param(pictures.cmyk_jpeg(40, 30), (40, 30), id="JPEG in CMYK"),
        pytest.param(pictures.jpeg(40, 30, progressive=True), (40, 30), id="progressive JPEG"),
    ],
)
def test_a_real_picture_has_the_size_it_is_shown_at(api: Api, picture: bytes, size: tuple[int, int]) -> None:
    answer = api.uploaded(picture)
    assert (answer["width"], answer["height"]) == size
    assert api.get(answer["image_id"]).content == picture


def test_what_the_client_claims_to_send_does_not_count(api: Api) -> None:
    response = api.http.post(IMAGES, files={"file": ("a.gif", pictures.png(), "text/html")})
    assert document(response, 201)["content_type"] == "image/png"


def test_a_download_says_all_that_a_browser_and_a_cache_want_to_know(api: Api) -> None:
    image = api.uploaded(pictures.jpeg(), "cat.jpg")

    response = api.get(image["image_id"])

    assert response.status_code == 200
    headers = response.headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["content-length"] == str(image["size_bytes"])
    assert headers["etag"] == f'"{image["sha256"]}"'
    created = datetime.fromisoformat(image["created_at"])
    assert headers["last-modified"] == created.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-disposition"] == 'inline; filename="cat.jpg"'
    assert "private" in headers["cache-control"]
    assert "sandbox" in headers["content-security-policy"]


def test_a_download_can_be_asked_for_as_an_attachment(api: Api) -> None:
    image = api.uploaded(name="cat.jpg")
    address = f"{IMAGES}/{image['image_id']}"
    assert api.http.get(f"{address}?download=1").headers["content-disposition"] == 'attachment; filename="cat.jpg"'
    assert api.http.get(f"{address}?download=0").headers["content-disposition"] == 'inline; filename="cat.jpg"'


@pytest.mark.parametrize(
    "path", ["", "?limit=1", "/{image_id}", "/{image_id}?download=1", "/{image_id}/metadata", "/{unknown}"]
)
def test_head_has_the_headers_of_get(api: Api, path: str) -> None:
    api.uploaded()
    address = IMAGES + path.format(image_id=api.uploaded()["image_id"], unknown=UNKNOWN)
    get, head = api.http.get(address), api.http.head(address)
    assert head.status_code == get.status_code
    assert head.content == b""
    own = {"date", "x-request-id"}
    # The page and the document hold a URL that was signed anew; its length is the same.
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in get.headers.items() if k not in own
    }


def test_the_document_is_read_by_itself_with_the_version_as_its_tag(api: Api) -> None:
    image = api.uploaded()
    response = api.metadata(image["image_id"])
    assert response.headers["etag"] == '"1"'
    without_url = DOCUMENT_FIELDS - {"presigned_url", "presigned_url_expires_at"}
    answer = document(response)
    assert {field: answer[field] for field in without_url} == {field: image[field] for field in without_url}


def test_put_replaces_all_three_and_what_is_left_out_goes_to_its_default(api: Api) -> None:
    image = api.uploaded(name="cat.jpg", title="Old", description="Old words", tags="old")

    response = api.put(image["image_id"], {"tags": ["New", "new", " Newer "]})

    answer = document(response)
    assert (answer["title"], answer["description"], answer["tags"]) == ("cat", "", ["new", "newer"])
    assert (answer["version"], response.headers["etag"]) == (2, '"2"')
    assert answer["updated_at"] > answer["created_at"] == image["created_at"]
    assert api.page()["items"][0]["tags"] == ["new", "newer"]
    assert api.get(image["image_id"]).headers["etag"] == f'"{image["sha256"]}"'


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({}, ("Old", "Old words", ["old"], 1)),
        ({"title": "New"}, ("New", "Old words", ["old"], 2)),
        ({"title": None}, ("cat", "Old words", ["old"], 2)),
        ({"description": None, "tags": None}, ("Old", "", [], 2)),
        ({"tags": []}, ("Old", "Old words", [], 2)),
        ({"title": "Old"}, ("Old", "Old words", ["old"], 1)),
    ],
)
@pytest.mark.parametrize("content_type", ["application/merge-patch+json", "application/json; charset=utf-8"])
def test_patch_changes_what_it_names_and_null_goes_to_the_default(
    api: Api, patch: dict[str, object], expected: tuple[object, ...], content_type: str
) -> None:
    image_id = api.uploaded(name="cat.jpg", title="Old", description="Old words", tags="old")["image_id"]
    response = api.patch(image_id, patch, Content_Type=content_type)
    answer = document(response)
    assert (answer["title"], answer["description"], answer["tags"], answer["version"]) == expected


def test_deleted_is_gone_everywhere_and_restored_is_all_as_it_was(api: Api) -> None:
    picture = pictures.jpeg(seed=3)
    image = api.uploaded(picture, title="Mine", tags=["a", "b"])
    image_id = image["image_id"]

    deleted = document(api.delete(image_id))

    assert deleted.keys() == {"image_id", "deleted_at", "restorable_until"}
    assert deleted["image_id"] == image_id
    kept = datetime.fromisoformat(deleted["restorable_until"]) - datetime.fromisoformat(deleted["deleted_at"])
    assert kept == timedelta(days=30)
    for response in (
        api.get(image_id),
        api.metadata(image_id),
        api.put(image_id, {}),
        api.patch(image_id, {}),
        api.delete(image_id),
    ):
        problem(response, 404, "not_found")
    assert api.ids() == api.ids(filter_by="tags", tags="a") == api.ids(filter_by="title", title="Mine") == []

    response = api.restore(image_id)

    restored = document(response)
    assert response.headers["etag"] == '"1"'
    assert {k: v for k, v in restored.items() if not k.startswith("presigned")} == {
        k: v for k, v in image.items() if not k.startswith("presigned")
    }
    assert api.get(image_id).content == picture
    assert api.ids() == api.ids(filter_by="tags", tags="b") == api.ids(filter_by="title", title="mine") == [image_id]


def test_what_is_deleted_for_good_is_not_restored(api: Api) -> None:
    image_id = api.uploaded()["image_id"]
    deleted = document(api.delete(image_id, permanent=True))
    assert deleted["restorable_until"] == deleted["deleted_at"]
    problem(api.restore(image_id), 404, "not_found")
    assert api.ids() == []


def test_what_was_never_deleted_is_not_restored(api: Api) -> None:
    problem(api.restore(api.uploaded()["image_id"]), 404, "not_found")


def test_another_user_is_told_just_what_everybody_is_told_of_no_image(api: Api, stranger: Api) -> None:
    image_id = api.uploaded(title="Mine", tags="mine")["image_id"]
    trashed_id = api.uploaded()["image_id"]
    document(api.delete(trashed_id))

    def answers(wanted: str) -> list[tuple[int, dict[str, object]]]:
        responses = [
            stranger.get(wanted),
            stranger.metadata(wanted),
            stranger.get(wanted, If_None_Match="*"),
            stranger.put(wanted, {"title": "Stolen"}),
            stranger.put(wanted, {"title": "Stolen"}, If_Match='"1", "2"'),
            stranger.patch(wanted, {"title": "Stolen"}),
            stranger.delete(wanted),
            stranger.delete(wanted, permanent=True),
            stranger.restore(wanted),
        ]
        bodies = [response.json() for response in responses]
        for body in bodies:
            del body["request_id"]
        return [(response.status_code, body) for response, body in zip(responses, bodies, strict=True)]

    assert answers(image_id) == answers(trashed_id) == answers(UNKNOWN)
    assert {status for status, _ in answers(image_id)} == {404}
    assert stranger.head(image_id).status_code == 404
    assert stranger.ids() == stranger.ids(filter_by="tags", tags="mine") == []
    assert stranger.ids(filter_by="title", title="Mine") == []
    assert document(api.metadata(image_id))["title"] == "Mine"
    document(api.restore(trashed_id))


@pytest.mark.parametrize(
    "image_id",
    ["x", "1", "%00", "%ff", UNKNOWN.replace("-", ""), f"{{{UNKNOWN[2:]}}}", f"{UNKNOWN}%0A"],
)
def test_what_is_no_id_is_not_found(api: Api, image_id: str) -> None:
    problem(api.http.get(f"{IMAGES}/{image_id}/metadata"), 404, "not_found")


def test_an_id_has_one_address(api: Api) -> None:
    image_id = api.uploaded()["image_id"]
    bare = image_id.replace("-", "")
    problem(api.get(f"{bare[:4]}-{bare[4:8]}-{bare[8:12]}-{bare[12:16]}-{bare[16:]}"), 404, "not_found")


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("naïve café.jpg", "naïve café.jpg"),
        ("猫の写真.jpg", "猫の写真.jpg"),
        ("Ελλάδα 🏛.jpg", "Ελλάδα 🏛.jpg"),
        ("100% sure; really.jpg", "100% sure; really.jpg"),
        ("it's a 'cat'.jpg", "it's a 'cat'.jpg"),
        ('say "cheese".jpg', 'say "cheese".jpg'),
        ("a&b=c#d?e+f.jpg", "a&b=c#d?e+f.jpg"),
    ],
)
def test_an_odd_name_comes_back_in_the_header_as_it_was_sent(api: Api, name: str, stored: str) -> None:
    image = api.uploaded(name=name)
    assert image["filename"] == stored
    response = api.get(image["image_id"])
    assert offered_name(response) == stored
    url = fetch(image["presigned_url"])
    assert (url.status_code, url.content, offered_name(url)) == (200, response.content, stored)
