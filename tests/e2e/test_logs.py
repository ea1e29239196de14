"""What the log holds, and never holds: every place of a request gets a word of its own, and the log none of them."""

import base64
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import pictures
from tests.e2e.cable import Cable
from tests.e2e.client import IMAGES, Api, document, embedded_alone, exchange, fetch, on_aws_alone
from tests.ministack import Aws
from tests.service import Service
from tests.waiting import wait_until

FORMATS = ["json", "console"]
MIB = 1024 * 1024


class Words:
    """Words that nobody else would write."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def __call__(self, where: str) -> str:
        return self.said.setdefault(where, f"marker{secrets.token_hex(16)}")

    def found_in(self, log: str) -> list[str]:
        return [where for where, word in self.said.items() if word.lower() in log.lower()]


@dataclass
class Observed:
    service: Service
    words: Words
    gateway_secret: str


@contextmanager
def observed(service_of: Callable[[dict[str, str]], Service], log_format: str) -> Iterator[Observed]:
    """A service whose log holds all that it can be made to say; and its log is looked at when the context is left."""
    words = Words()
    secret = words("the gateway's secret")
    settings = {"CALOTYPE_LOG_LEVEL": "debug", "CALOTYPE_LOG_FORMAT": log_format, "CALOTYPE_GATEWAY_SECRET": secret}
    with service_of(settings) as service:
        yield Observed(service, words, secret)
        last = f"last-{secrets.token_hex(8)}"
        fetch(f"{service.base_url}/health/live", x_request_id=last)
        log = _log_up_to(service, last)
    assert len(words.said) > 1
    assert words.found_in(log) == []


def _log_up_to(service: Service, word: str) -> str:
    wait_until(lambda: word in service.log.read_text())
    return service.log.read_text()


def say_everything(seen: Observed) -> dict[str, object]:
    """Send requests, good and bad, with a word in every place that may hold something private."""
    words = seen.words
    api = Api(seen.service, "ann")
    api.http.headers.update(
        {
            "X-Gateway-Secret": seen.gateway_secret,
            "Authorization": f"Bearer {words('a token')}",
            "Cookie": f"session={words('a cookie')}",
            "Proxy-Authorization": f"Basic {words('a password')}",
            "Signature": f"sig1=:{words('a signature')}:",
            "X-Api-Key": words("a key"),
            "Referer": f"https://x.example/?{words('where from')}",
            "User-Agent": words("what with"),
        }
    )
    comment = words("the file").encode()
    content = pictures.jpeg()[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + pictures.jpeg()[2:]
    image = api.uploaded(
        content, title=words("a title"), description=words("a description"), tags=[words("a tag"), words("another")]
    )
    path = f"{IMAGES}/{image['image_id']}"
    words.said["a good signature"] = image["presigned_url"].rpartition("ignature=")[2]
    for answer in (
        api.upload(content, headers={"Idempotency-Key": words("an idempotency key")}),
        api.upload(comment),  # no image
        api.upload(content, tags=words("a long tag") * 20),
        api.http.post(IMAGES, files={"file": ("a.jpg", content)}, data={words("an unknown field"): "x"}),
        api.http.post(IMAGES, content=comment, headers={"Content-Type": f"multipart/form-data; boundary={words('b')}"}),
        api.http.post(IMAGES, content=comment, headers={"Content-Type": words("a type")}),
        api.put(image["image_id"], {"title": words("a new title")}),
        api.put(image["image_id"], {words("an unknown member"): 1}),
        api.http.put(path, content=f'{{"title": "{words("broken JSON")}', headers={"Content-Type": "application/json"}),
        api.http.put(path, json={}, headers={"If-Match": f'"{words("a version")}"'}),
        api.http.get(IMAGES, params={words("an unknown parameter"): "x"}),
        api.http.get(IMAGES, params={"cursor": words("a cursor")}),
        api.http.get(IMAGES, params={"filter_by": "title", "title": words("a wanted title")}),
        api.http.get(IMAGES, params={"filter_by": "tags", "tags": words("a wanted tag")}),
        api.http.get(path, params={"download": words("a flag")}),
        api.http.get("/nowhere", params={"token": words("a token in a URL")}),
        api.http.get(IMAGES, headers={"X-Gateway-Secret": words("a wrong secret")}),
        api.http.get(IMAGES, headers={"X-User-ID": f"<{words('a wrong user')}>"}),
        fetch(image["presigned_url"], Cookie=words("a cookie of another site")),
        fetch(image["presigned_url"] + words("a wrong signature")),
    ):
        assert answer.status_code < 500, answer.text
    exchange(seen.service, f"NONSENSE {words('nonsense')}\n".encode())
    exchange(seen.service, f"GET /health/live HTTP/1.1\nHost: x\nX: {words('a control character')}\0\n".encode())
    api.close()
    return image


@embedded_alone
@pytest.mark.parametrize("log_format", FORMATS)
def test_the_log_holds_no_secret_and_nothing_of_a_body(open_service: Callable[..., Service], log_format: str) -> None:
    with observed(lambda settings: open_service(settings=settings), log_format) as seen:
        image = say_everything(seen)
        secret = (seen.service.data_dir / "secret").read_bytes()
        seen.words.said |= {"the secret in hex": secret.hex(), "the secret": base64.b64encode(secret).decode()}
        seen.words.said["the secret as it is"] = secret.decode("latin-1").strip()

        # Now what leaves traces: an object that was changed, and a folder that is gone.
        api = Api(seen.service, "ann")
        api.http.headers.update(
            {"X-Gateway-Secret": seen.gateway_secret, "Authorization": f"Bearer {seen.words('a token')}"}
        )
        (stored,) = seen.service.data_dir.glob(f"objects/**/{image['image_id']}/*")
        stored.write_bytes(b"changed")
        assert api.get(str(image["image_id"])).status_code == 500
        assert fetch(str(image["presigned_url"])).status_code == 500
        (seen.service.data_dir / "objects").rename(seen.service.data_dir / "gone")
        assert api.upload(title=seen.words("a title that is not kept")).status_code == 503
        assert fetch(str(image["presigned_url"])).status_code == 404
        api.close()
        assert "Traceback" in seen.service.log.read_text() or '"exception"' in seen.service.log.read_text()


@on_aws_alone
def test_the_log_holds_no_secret_of_aws_either(aws: Aws, new_account: object, tmp_path: Path) -> None:
    del new_account
    account = aws.new_account()
    with Cable(account.environment["AWS_ENDPOINT_URL"]) as cable:

        def service_of(settings: dict[str, str]) -> Service:
            own = {"AWS_ENDPOINT_URL": cable.url, **settings}
            return Service(tmp_path / "data", account=account, settings=own)

        with observed(service_of, "json") as seen:
            say_everything(seen)
            seen.words.said["the secret key of AWS"] = account.environment["AWS_SECRET_ACCESS_KEY"]
            api = Api(seen.service, "ann", patient=False)
            api.http.headers["X-Gateway-Secret"] = seen.gateway_secret
            cable.cut_after(0)
            assert api.upload(title=seen.words("a title that is not kept")).status_code == 503
            assert api.http.get(IMAGES).status_code == 503
            cable.cut_after(None)
            api.close()
            # Requests to AWS are signed; the log must not have what they were signed with.
            assert not re.search(
                r"X-Amz-Signature|AWS4-HMAC-SHA256|Signature=[0-9a-f]{64}", seen.service.log.read_text()
            )


@embedded_alone
@pytest.mark.parametrize("log_format", FORMATS)
def test_nobody_writes_lines_or_colours_into_the_log(open_service: Callable[..., Service], log_format: str) -> None:
    with open_service(settings={"CALOTYPE_LOG_FORMAT": log_format}) as service:
        for escaped in (
            "%0Aforged",
            "%0D%0Aforged",
            "%1b[31mforged",
            "%c2%9b31mforged",
            "%e2%80%aeforged",
            "%00forged",
        ):
            exchange(service, f"GET /x{escaped} HTTP/1.1\nHost: x\n".encode())
        exchange(service, b"GET /last HTTP/1.1\nHost: x\n")
        log = _log_up_to(service, "/last")
    assert log.count("forged") == 6
    ours = re.sub("\x1b\\[[0-9;]*m", "", log)  # the colours of the console; the ones above must not go with them
    assert "[31mforged" in ours
    assert "31mforged" in ours
    for line in ours.splitlines():
        assert not line.startswith("forged")
        assert "\x1b" not in line
        if log_format == "console":
            assert line.isprintable()


def test_a_line_tells_what_was_asked_and_what_became_of_it(api: Api, service: Service) -> None:
    wanted = f"line-{secrets.token_hex(8)}"
    document(api.http.get(IMAGES, headers={"X-Request-ID": wanted}))
    line = next(line for line in _log_up_to(service, wanted).splitlines() if wanted in line)
    for part in ('"method":"GET"', f'"path":"{IMAGES}"', '"status":200', '"duration_ms":', '"response_bytes":'):
        assert part in line
