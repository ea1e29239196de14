"""What only a server that checks can show: signatures, checksums, and a service whose stores go away and come back."""

import hashlib
import io
import json
import os
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError

from adapters.system import SystemClock
from application.ports import StoredObject
from domain.errors import Conflict, Unavailable
from domain.values import MediaType, UserId
from entrypoints.settings import load_settings
from entrypoints.stores import Stores, open_stores
from tests import pictures
from tests.e2e.cable import Cable
from tests.e2e.client import (
    IMAGES,
    Api,
    Document,
    answer_from,
    answers,
    check_problem,
    connection,
    document,
    fetch,
    on_aws_alone,
    problem,
    working_url,
)
from tests.ministack import Account, Aws, Ministack, on
from tests.service import Service
from tests.waiting import wait_until

MIB = 1024 * 1024
pytestmark = pytest.mark.xdist_group("aws")


# ---- presigned URLs


@pytest.fixture
def image(api: Api) -> Document:
    return api.uploaded(pictures.png(), "the cat.png")


@on_aws_alone
def test_a_url_gives_the_original_to_a_client_without_credentials(image: Document) -> None:
    response = fetch(image["presigned_url"])
    assert (response.status_code, response.content) == (200, pictures.png())
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"] == 'inline; filename="the cat.png"'


@on_aws_alone
def test_a_url_gives_a_range_too(image: Document) -> None:
    response = fetch(image["presigned_url"], Range="bytes=2-5")
    assert (response.status_code, response.content) == (206, pictures.png()[2:6])
    assert response.headers["content-range"] == f"bytes 2-5/{image['size_bytes']}"


@on_aws_alone
def test_a_url_lives_for_an_hour_and_not_much_longer(image: Document) -> None:
    expires_at = datetime.fromisoformat(image["presigned_url_expires_at"]).replace(tzinfo=UTC)
    assert timedelta(minutes=59) < expires_at - datetime.now(UTC) <= timedelta(hours=1, minutes=5)


CHANGES: dict[str, Callable[[str], str]] = {
    "the signature": lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
    "no signature": lambda url: re.sub(r"&X-Amz-Signature=\w+", "", url),
    "an empty signature": lambda url: re.sub(r"X-Amz-Signature=\w+", "X-Amz-Signature=", url),
    "another algorithm": lambda url: url.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
    "another key of access": lambda url: re.sub(r"(Credential=\w+)", r"\g<1>X", url),
    "another day": lambda url: re.sub(r"%2F(\d{8})%2F", lambda match: f"%2F{int(match[1]) + 1}%2F", url),
    "another region": lambda url: url.replace("eu-central-1%2Fs3", "us-east-1%2Fs3"),
    "another service": lambda url: url.replace("%2Fs3%2F", "%2Fsqs%2F"),
    "another time": lambda url: re.sub(
        r"(X-Amz-Date=\w+)(\d)Z", lambda match: f"{match[1]}{(int(match[2]) + 1) % 10}Z", url
    ),
    "no time": lambda url: re.sub(r"&X-Amz-Date=\w+", "", url),
    "a longer life": lambda url: re.sub(
        r"X-Amz-Expires=(\d+)", lambda match: f"X-Amz-Expires={int(match[1]) + 1}", url
    ),
    "no end of life": lambda url: re.sub(r"&X-Amz-Expires=\d+", "", url),
    "no signed headers": lambda url: url.replace("&X-Amz-SignedHeaders=host", ""),
    "the type": lambda url: url.replace("response-content-type=image%2Fpng", "response-content-type=text%2Fhtml"),
    "no type": lambda url: url.replace("response-content-type=image%2Fpng&", ""),
    "the disposition": lambda url: url.replace("disposition=inline", "disposition=attachment"),
    "no disposition": lambda url: re.sub(r"response-content-disposition=[^&]+&", "", url),
    "one parameter more": lambda url: url + "&response-cache-control=public",
    "a version": lambda url: url + "&versionId=null",
    "the name": lambda url: url.replace("cat.png?", "dog.png?"),
    "the image": lambda url: re.sub(r"images/[0-9a-f-]{36}/", f"images/{uuid.uuid4()}/", url),
    "no parameters": lambda url: url.partition("?")[0],
}


@on_aws_alone
@pytest.mark.parametrize("change", CHANGES)
def test_a_url_that_was_changed_is_refused(image: Document, change: str) -> None:
    url = CHANGES[change](image["presigned_url"])
    assert url != image["presigned_url"]
    response = fetch(url)
    assert response.status_code in {400, 403}
    assert pictures.png() not in response.content


@on_aws_alone
def test_each_of_two_images_has_a_signature_of_its_own(api: Api, image: Document) -> None:
    other = api.uploaded(pictures.jpeg(), "the cat.png")["presigned_url"]
    swapped = other.partition("?")[0] + "?" + image["presigned_url"].partition("?")[2]
    assert fetch(swapped).status_code == httpx.codes.FORBIDDEN


@on_aws_alone
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "HEAD"])
def test_a_url_is_for_reading_alone(image: Document, method: str) -> None:
    assert fetch(image["presigned_url"], method).status_code >= 400
    assert fetch(image["presigned_url"]).content == pictures.png()


@on_aws_alone
def test_a_url_that_expired_is_refused(impatient: Service) -> None:
    api = Api(impatient, f"user-{uuid.uuid4()}")
    image_id = api.uploaded()["image_id"]
    url = working_url(api, image_id, pictures.jpeg())
    wait_until(lambda: fetch(url).status_code == httpx.codes.FORBIDDEN)
    working_url(api, image_id, pictures.jpeg())
    api.close()


@on_aws_alone
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


# ---- what S3 itself holds to


@on_aws_alone
def test_an_object_that_is_lost_or_another_is_said_to_be_damaged(api: Api, service: Service) -> None:
    assert service.account is not None
    s3, bucket = service.account.s3, service.account.bucket
    for damage in (
        lambda key: s3.delete_object(Bucket=bucket, Key=key),
        lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b"short"),
    ):
        image = api.uploaded()
        damage(image["s3_key"])
        for headers in ({}, {"Range": "bytes=0-1"}):
            problem(api.get(image["image_id"], **headers), 500, "object_damaged")


@pytest.fixture
def account(aws: Aws) -> Account:
    return aws.new_account()


@pytest.fixture
def opened(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """The stores as a server opens them."""
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    stores = open_stores(load_settings(), SystemClock())
    yield stores
    stores.close()


def target_for(content: bytes, **different: str) -> StoredObject:
    image_id = uuid.UUID(different.get("image_id", str(uuid.uuid4())))
    return StoredObject(
        key=f"images/{image_id}/cat.jpg",
        size_bytes=len(content),
        sha256=different.get("sha256", hashlib.sha256(content).hexdigest()),
        media_type=MediaType.JPEG,
        owner=UserId("ann"),
        image_id=image_id,
    )


def put(stores: Stores, target: StoredObject, content: bytes) -> None:
    stores.objects.put(target, io.BytesIO(content), deadline=datetime.now(UTC) + timedelta(minutes=1))


@pytest.mark.parametrize("size_bytes", [1000, 17 * MIB], ids=["whole", "in parts"])
def test_bytes_that_are_not_those_promised_are_refused(account: Account, opened: Stores, size_bytes: int) -> None:
    content = bytes(size_bytes)
    with pytest.raises(Unavailable):
        put(opened, target_for(content, sha256=hashlib.sha256(b"other").hexdigest()), content)
    assert account.stored() == set()


def test_the_server_these_tests_run_on_checks_checksums(account: Account) -> None:
    with pytest.raises(ClientError):
        account.s3.put_object(
            Bucket=account.bucket,
            Key="images/x",
            Body=b"a",
            ChecksumSHA256="LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
        )
    assert account.stored() == set()


@pytest.mark.parametrize("size_bytes", [1000, 17 * MIB], ids=["whole", "in parts"])
def test_an_object_is_never_replaced(account: Account, opened: Stores, size_bytes: int) -> None:
    content = bytes(size_bytes)
    target = target_for(content)
    put(opened, target, content)
    stored = account.stored()
    put(opened, target, content)
    other = b"\1" * size_bytes
    with pytest.raises(Conflict):
        put(opened, target_for(other, image_id=str(target.image_id)), other)
    assert account.stored() == stored
    body = opened.objects.open(target.key)
    assert body.read() == content
    body.close()


def test_a_deletion_leaves_no_version_behind(account: Account, opened: Stores) -> None:
    target = target_for(b"a")
    put(opened, target, b"a")
    account.s3.delete_object(Bucket=account.bucket, Key=target.key)
    put(opened, target, b"a")
    assert len(account.stored()) == 2
    opened.objects.delete_prefix(f"images/{target.image_id}/", deadline=datetime.now(UTC) + timedelta(minutes=1))
    assert account.stored() == set()


@on_aws_alone
def test_bytes_that_were_changed_in_the_bucket_never_come_out_whole(api: Api, service: Service) -> None:
    small, large = (_changed(service, api.uploaded(pictures.big_jpeg(size))) for size in (10_000, 3 * MIB))
    problem(api.get(small), 500, "object_damaged")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        api.get(large)


def _changed(service: Service, image: Document) -> str:
    """Change a byte of an image's object; return the image's id."""
    assert service.account is not None
    s3, place = service.account.s3, {"Bucket": service.account.bucket, "Key": image["s3_key"]}
    content = bytearray(s3.get_object(**place)["Body"].read())
    content[5000] ^= 1
    s3.put_object(**place, Body=bytes(content))
    return str(image["image_id"])


# ---- bootstrap


def test_several_bootstraps_at_once_all_succeed_and_leave_nothing_to_do(aws: Aws) -> None:
    account = aws.new_account()
    account.remove()
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(account.bootstrap) for _ in range(3)]:
            done.result()
    account.bootstrap("--check")


# ---- broken connections


@dataclass
class Wired:
    """A service with a cable to S3."""

    api: Api
    cable: Cable


@pytest.fixture
def wired(aws: Aws, tmp_path: Path) -> Iterator[Wired]:
    account = aws.new_account()
    with Cable(account.environment["AWS_ENDPOINT_URL"]) as cable:
        settings = {**account.environment, "AWS_ENDPOINT_URL_S3": cable.url}
        with Service(tmp_path / "data", settings=settings) as service:
            api = Api(service, "ann")
            yield Wired(api, cable)
            api.close()


def test_a_download_whose_source_breaks_is_broken_off_and_never_a_short_answer(wired: Wired) -> None:
    picture = pictures.big_jpeg(8 * MIB)
    image = wired.api.uploaded(picture)
    wired.cable.cut_after(3 * MIB)
    received = bytearray()

    def receive(response: httpx.Response) -> None:
        for chunk in response.iter_raw():
            received.extend(chunk)

    with wired.api.http.stream("GET", f"{IMAGES}/{image['image_id']}") as response:
        assert response.status_code == httpx.codes.OK
        assert response.headers["content-length"] == str(len(picture))
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            receive(response)
    assert 0 < len(received) < len(picture)
    assert picture.startswith(received)
    wired.cable.cut_after(None)
    assert wired.api.get(image["image_id"]).content == picture


def test_a_download_whose_source_breaks_at_once_is_a_503(wired: Wired) -> None:
    image = wired.api.uploaded()
    wired.cable.cut_after(0)
    answer = check_problem(wired.api.get(image["image_id"]))
    assert answer["status"] == 503
    wired.cable.cut_after(None)
    assert wired.api.get(image["image_id"]).content == pictures.jpeg()


def test_an_upload_whose_store_breaks_is_a_503_and_leaves_nothing_to_be_seen(wired: Wired) -> None:
    wired.cable.cut_after(0)
    answer = check_problem(wired.api.upload(pictures.big_jpeg(MIB)))
    assert answer["status"] == 503
    wired.cable.cut_after(None)
    assert wired.api.ids() == []


def settle(cable: Cable) -> None:
    """Wait until nothing has come through for two seconds."""
    seen, since = cable.answered_bytes, time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.05)
        if cable.answered_bytes != seen:
            seen, since = cable.answered_bytes, time.monotonic()


def test_no_more_is_fetched_than_a_slow_client_takes(wired: Wired) -> None:
    picture = pictures.big_jpeg(25 * MIB)
    image = wired.api.uploaded(picture)
    before = wired.cable.answered_bytes
    with connection(wired.api.service, receive_buffer=64 * 1024) as slow:
        slow.sendall(f"GET {IMAGES}/{image['image_id']} HTTP/1.1\r\nHost: x\r\nX-User-ID: ann\r\n\r\n".encode())
        settle(wired.cable)
        assert wired.cable.answered_bytes - before < 20 * MIB
        assert answer_from(slow).content == picture


def test_nothing_more_is_fetched_for_a_client_that_is_gone(wired: Wired) -> None:
    picture = pictures.big_jpeg(25 * MIB)
    image = wired.api.uploaded(picture)
    before = wired.cable.answered_bytes
    with wired.api.http.stream("GET", f"{IMAGES}/{image['image_id']}") as response:
        next(response.iter_raw(1000))
    settle(wired.cable)
    assert wired.cable.answered_bytes - before < 20 * MIB
    assert wired.api.get(image["image_id"]).content == picture


# ---- stores that go away


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Ministack, Account]]:
    """A ministack of the test's own, which it may stop."""
    with Ministack(tmp_path / "ministack") as ministack:
        yield ministack, on(ministack).new_account()


def ready(service: Service) -> tuple[int, dict[str, str]]:
    response = fetch(f"{service.base_url}/health/ready")
    return response.status_code, response.json()["checks"]


def wait_until_ready(service: Service) -> None:
    wait_until(lambda: ready(service)[0] == httpx.codes.OK)


AWAY = {"metadata": "unavailable", "objects": "unavailable"}


def wait_until_away(service: Service) -> None:
    """Each store's last answer is kept for a second."""
    wait_until(lambda: ready(service) == (503, AWAY))


def tells_within(seconds: float, service: Service) -> bool:
    begun = time.monotonic()
    ready(service)
    return time.monotonic() - begun < seconds


@pytest.mark.parametrize("how", ["stopped", "hanging"])
def test_stores_that_are_away_make_the_service_unready_within_two_seconds(
    own: tuple[Ministack, Account], tmp_path: Path, how: str
) -> None:
    ministack, account = own
    with Service(tmp_path / "data", settings=account.environment) as service:
        if how == "stopped":
            ministack.stop()
        else:
            os.kill(ministack.pid, signal.SIGSTOP)
        wait_until_away(service)
        assert [ready(service) for _ in range(5)] == [(503, AWAY)] * 5
        wait_until(lambda: tells_within(2, service))
        assert fetch(f"{service.base_url}/health/live").status_code == httpx.codes.OK
        if how == "stopped":
            ministack.start()
        else:
            os.kill(ministack.pid, signal.SIGCONT)
        wait_until_ready(service)


def test_stores_that_hang_are_a_503_to_whoever_waits_for_a_minute(
    own: tuple[Ministack, Account], tmp_path: Path
) -> None:
    ministack, account = own
    with Service(tmp_path / "data", settings=account.environment) as service:
        api = Api(service, "ann")
        image_id = api.uploaded()["image_id"]
        os.kill(ministack.pid, signal.SIGSTOP)
        asks: list[Callable[[], httpx.Response]] = [
            api.upload,
            lambda: api.get(image_id),
            lambda: api.metadata(image_id),
            lambda: api.http.get(IMAGES),
        ]
        for ask in asks:  # the client waits for a minute, and the stores would for ever
            assert check_problem(ask())["status"] == httpx.codes.SERVICE_UNAVAILABLE
        os.kill(ministack.pid, signal.SIGCONT)
        wait_until_ready(service)
        assert api.get(image_id).content == pictures.jpeg()
        assert api.ids() == [image_id]
        api.close()


def crowd_is_sent_away(service: Service, api: Api, threads: ThreadPoolExecutor) -> bool:
    """Ask forty times at once; tell whether those past the bound heard so before anybody heard anything else."""
    asked = [threads.submit(api.http.get, IMAGES) for _ in range(40)]
    # One has the thread, fifteen wait for it, and the others are answered while those still do.
    first = [check_problem(each.result()) for each in islice(as_completed(asked), 24)]
    wait_until_away(service)
    assert [check_problem(each.result())["status"] for each in asked] == [503] * 40
    return [answer["code"] for answer in first] == ["overloaded"] * 24


def test_behind_stores_that_hang_no_queue_grows_and_health_is_told(
    own: tuple[Ministack, Account], tmp_path: Path
) -> None:
    ministack, account = own
    settings = {**account.environment, "CALOTYPE_THREADS": "1"}
    with Service(tmp_path / "data", settings=settings) as service, ThreadPoolExecutor(40) as threads:
        api = Api(service, "ann")
        image_id = api.uploaded()["image_id"]
        os.kill(ministack.pid, signal.SIGSTOP)
        # A machine may be too slow to send them all before the first is given up; not each time.
        wait_until(lambda: crowd_is_sent_away(service, api, threads))
        os.kill(ministack.pid, signal.SIGCONT)
        wait_until_ready(service)
        assert api.ids() == [image_id]
        api.close()


def test_a_service_that_starts_before_its_stores_waits_for_them(own: tuple[Ministack, Account], tmp_path: Path) -> None:
    ministack, account = own
    ministack.stop()
    service = Service(tmp_path / "data", settings=account.environment)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(service.start)  # returns once the service is ready
        try:
            wait_until(lambda: answers(service))
            assert ready(service) == (503, AWAY)
            assert not started.done()
            ministack.start()
            started.result()
            api = Api(service, "ann")
            api.uploaded()
            api.close()
        finally:
            service.kill()


@dataclass
class Load:
    """Clients that upload and list, all the time, each as its own user."""

    service: Service
    acknowledged: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By image: whose it is, and the seed of its picture."""
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def upload(self, number: int) -> None:
        user = f"user-{number % 2}"
        api = Api(self.service, user, patient=False)
        seed = number
        while not self._over.is_set():
            seed += 100
            response = self._counted("upload", lambda: api.upload(picture(seed), tags=["load"]))  # noqa: B023 (called at once)
            if response.status_code == httpx.codes.CREATED:
                with self._lock:
                    self.acknowledged[response.json()["image_id"]] = user, seed
        api.close()

    def list(self, number: int) -> None:
        api = Api(self.service, f"user-{number % 2}", patient=False)
        while not self._over.is_set():
            query = {"filter_by": "tags", "tags": "load"} if number % 3 else {}
            response = self._counted("list", lambda: api.http.get(IMAGES, params=query))  # noqa: B023 (called at once)
            if response.status_code == httpx.codes.OK:
                for item in response.json()["items"][:1]:
                    read = self._counted("read", lambda: api.get(item["image_id"]))  # noqa: B023 (called at once)
                    if read.status_code == httpx.codes.OK:
                        assert hashlib.sha256(read.content).hexdigest() == item["sha256"]
        api.close()

    def _counted(self, what: str, ask: Callable[[], httpx.Response]) -> httpx.Response:
        response = ask()
        with self._lock:
            self.answers[what, response.status_code] += 1
        assert response.status_code in {200, 201, 503}, response.text
        return response

    def end(self) -> None:
        self._over.set()


def picture(seed: int) -> bytes:
    return pictures.png(40, 30, seed=seed)


def test_an_outage_under_load_loses_nothing_and_the_service_recovers_by_itself(
    own: tuple[Ministack, Account], tmp_path: Path
) -> None:
    ministack, account = own
    with Service(tmp_path / "data", workers=2, account=account) as service:
        load = Load(service)
        with ThreadPoolExecutor(6) as pool:
            clients = [pool.submit(load.upload, n) for n in range(4)] + [pool.submit(load.list, n) for n in range(2)]

            def under_load(holds: Callable[[], bool]) -> None:
                wait_until(lambda: holds() or any(client.done() for client in clients))

            try:
                under_load(lambda: len(load.acknowledged) > 5)
                ministack.stop()
                away = Counter(load.answers)
                for what in ("upload", "list"):
                    under_load(lambda what=what: load.answers[what, 503] > away[what, 503])  # type: ignore[misc]
                ministack.start()
                wait_until_ready(service)
                again = len(load.acknowledged)
                under_load(lambda: len(load.acknowledged) > again)
            finally:
                load.end()
            for client in clients:
                client.result()

        seen: dict[str, Document] = {}
        for user in ("user-0", "user-1"):
            api = Api(service, user)
            mine = everything(api)
            seen |= mine
            # Whoever lists by tag sees the same: no record without its postings, no posting without its record.
            assert everything(api, filter_by="tags", tags="load").keys() == mine.keys()
            # Uploads that were answered with 503 happened wholly, or not at all.
            for item in mine.values():
                assert hashlib.sha256(api.get(item["image_id"]).content).hexdigest() == item["sha256"]
            api.close()
        for image_id, (user, seed) in load.acknowledged.items():
            assert seen[image_id]["user_id"] == user
            assert seen[image_id]["sha256"] == hashlib.sha256(picture(seed)).hexdigest()
        assert "Traceback" not in service.log.read_text()
        errors = [json.loads(line) for line in service.log.read_text().splitlines() if '"level":"error"' in line]
        assert [each for each in errors if each.get("status") == 500] == []


def everything(api: Api, **query: str) -> dict[str, Document]:
    found: dict[str, Document] = {}
    cursor: str | None = None
    while True:
        page = api.page(limit=100, **query, **({} if cursor is None else {"cursor": cursor}))
        found |= {item["image_id"]: item for item in page["items"]}
        if (cursor := page["next_cursor"]) is None:
            return found
