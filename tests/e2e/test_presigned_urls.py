"""Presigned URLs of the embedded default: they open one object for a while, to whoever holds them."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests import pictures
from tests.e2e.client import (
    Api,
    Document,
    RawResponse,
    check_problem,
    document,
    embedded_alone,
    exchange,
    fetch,
    problem,
    working_url,
)
from tests.service import Service
from tests.waiting import wait_until

# test_aws.py has those of S3.
pytestmark = embedded_alone


@pytest.fixture
def image(api: Api) -> Document:
    return api.uploaded(pictures.png(), "the cat.png")


def test_a_url_needs_no_headers_and_gives_the_original_as_a_browser_wants_it(image: Document) -> None:
    response = fetch(image["presigned_url"])
    assert (response.status_code, response.content) == (200, pictures.png())
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-length"] == str(image["size_bytes"])
    assert response.headers["content-disposition"] == 'inline; filename="the cat.png"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    assert "etag" in response.headers
    assert "private" in response.headers["cache-control"]


def test_a_url_lives_for_an_hour(image: Document) -> None:
    expires_at = datetime.fromisoformat(image["presigned_url_expires_at"]).replace(tzinfo=UTC)
    assert timedelta(minutes=59) < expires_at - datetime.now(UTC) <= timedelta(hours=1, minutes=5)


def test_a_url_is_built_from_the_setting_and_not_from_the_request(api: Api, service: Service) -> None:
    response = api.http.get("/api/v1/images", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert "evil" not in response.text
    assert api.uploaded()["presigned_url"].startswith(f"{service.base_url}/objects/images/")


def test_every_document_brings_a_url_that_works(api: Api, image: Document) -> None:
    image_id = image["image_id"]
    documents = [
        document(api.metadata(image_id)),
        document(api.put(image_id, {})),
        document(api.patch(image_id, {"title": "x"})),
        api.page()["items"][0],
    ]
    document(api.delete(image_id))
    documents.append(document(api.restore(image_id)))
    for each in documents:
        assert fetch(each["presigned_url"]).content == pictures.png()


CHANGES: dict[str, Callable[[str], str]] = {
    "the signature": lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
    "the signature's case": lambda url: re.sub(
        r"signature=\w+", lambda match: match[0][:10] + match[0][10:].upper(), url
    ),
    "no signature": lambda url: re.sub(r"&signature=\w+", "", url),
    "an empty signature": lambda url: re.sub(r"signature=\w+", "signature=", url),
    "a signature of another script": lambda url: re.sub(r"signature=\w+", "signature=%E7%8C%AB", url),
    "two signatures": lambda url: url + "&" + url.rpartition("&")[2],
    "a later expiry": lambda url: re.sub(r"expires=(\d+)", lambda match: f"expires={int(match[1]) + 1}", url),
    "an expiry far off": lambda url: re.sub(r"expires=\d+", "expires=99999999999", url),
    "an expiry past counting": lambda url: re.sub(r"expires=\d+", "expires=" + "9" * 5000, url),
    "a negative expiry": lambda url: url.replace("expires=", "expires=-"),
    "an expiry with a sign": lambda url: url.replace("expires=", "expires=%2B"),
    "an expiry with a space": lambda url: url.replace("expires=", "expires=+"),
    "an expiry with a line end": lambda url: re.sub(r"(expires=\d+)", r"\g<1>%0A", url),
    "an expiry with a fraction": lambda url: re.sub(r"(expires=\d+)", r"\g<1>.5", url),
    "an expiry in other digits": lambda url: re.sub(
        r"expires=(\d+)", lambda match: "expires=" + "".join(f"%D9%A{digit}" for digit in match[1]), url
    ),
    "a later expiry in front": lambda url: url.replace("?", "?expires=99999999999&"),
    "a later expiry behind": lambda url: url + "&expires=99999999999",
    "a second disposition": lambda url: url + "&disposition=attachment",
    "a name in capitals": lambda url: url.replace("expires=", "Expires="),
    "other separators": lambda url: url.replace("&", ";"),
    "a parameter without a value": lambda url: url + "&download",
    "an empty parameter": lambda url: url + "&",
    "another disposition": lambda url: url.replace("disposition=inline", "disposition=form-data"),
    "an expiry with a zero": lambda url: url.replace("expires=", "expires=0"),
    "no expiry": lambda url: re.sub(r"expires=\d+&", "", url),
    "the disposition": lambda url: url.replace("disposition=inline", "disposition=attachment"),
    "no disposition": lambda url: url.replace("disposition=inline&", ""),
    "one parameter more": lambda url: url + "&x=1",
    "no parameters": lambda url: url.partition("?")[0],
    "an empty query": lambda url: url.partition("?")[0] + "?",
    "the name": lambda url: url.replace("cat", "dog"),
    "the name's case": lambda url: url.replace("cat", "Cat"),
    "the image": lambda url: re.sub(r"images/[^/]+/", f"images/{uuid.uuid4()}/", url),
    "a folder more": lambda url: url.replace("/images/", "/images/images/"),
    "a slash more": lambda url: url.replace("/the", "//the"),
    "an escaped slash more": lambda url: url.replace("/the", "/%2Fthe"),
    "an extension more": lambda url: url.replace(".png?", ".png.html?"),
    "an end more": lambda url: url.replace(".png?", ".png%00?"),
    "a slash behind": lambda url: url.replace(".png?", ".png/?"),
    "a slash escaped twice": lambda url: url.replace("/the", "%252Fthe"),
    "a name escaped twice": lambda url: url.replace("the%20cat", "the%2520cat"),
    "dots escaped twice": lambda url: url.replace("/objects/images/", "/objects/%252e%252e/objects/images/"),
    "a backslash": lambda url: url.replace("/the", "%5Cthe"),
    "an overlong encoding": lambda url: url.replace("/the", "%C0%AFthe"),
    "dots": lambda url: url.replace("/objects/images/", "/objects/images/../images/"),
    "escaped dots": lambda url: url.replace("/objects/images/", "/objects/images/%2e%2e/images/"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_url_that_was_changed_is_refused(service: Service, image: Document, change: str) -> None:
    url = CHANGES[change](image["presigned_url"])
    assert url != image["presigned_url"]
    # Over a plain socket: a client would tidy the path up first.
    target = url.removeprefix(service.base_url)
    answer = exchange(service, f"GET {target} HTTP/1.1\nHost: x\n".encode())
    assert answer.status_code == (404 if change == "an overlong encoding" else 403)  # that is no text at all
    check_problem(answer)
    assert pictures.png() not in answer.content


@pytest.mark.parametrize("escaped", ["%74he%20cat.png", "the%20%63at.png"])
def test_the_same_url_escaped_otherwise_is_the_same_url(image: Document, escaped: str) -> None:
    url = image["presigned_url"].replace("the%20cat.png", escaped)
    assert url != image["presigned_url"]
    assert fetch(url).content == pictures.png()


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "HEAD"])
def test_a_url_is_for_reading_alone(image: Document, method: str) -> None:
    response = fetch(image["presigned_url"], method)
    assert response.status_code == (403 if method == "HEAD" else 405)
    if method != "HEAD":
        check_problem(response)
    assert fetch(image["presigned_url"]).content == pictures.png()


@pytest.mark.parametrize(
    "target",
    [
        "/objects/",
        "/objects/x",
        "/objects/../secret",
        "/objects/..%2f..%2fsecret",
        "/objects/%00",
        "/objects//etc/passwd",
    ],
)
def test_no_path_leads_anywhere_without_a_signature(service: Service, target: str) -> None:
    answer: RawResponse = exchange(service, f"GET {target} HTTP/1.1\nHost: x\n".encode())
    check_problem(answer)
    assert answer.status_code in {403, 404}


def test_a_url_that_expired_is_refused(impatient: Service) -> None:
    api = Api(impatient, f"user-{uuid.uuid4()}")
    image_id = api.uploaded()["image_id"]
    url = working_url(api, image_id, pictures.jpeg())
    wait_until(lambda: fetch(url).status_code != 200)
    problem(fetch(url), 403, "signature_refused")
    working_url(api, image_id, pictures.jpeg())
    api.close()
