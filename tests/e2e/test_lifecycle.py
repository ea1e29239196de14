"""Servers that are stopped, killed, started again and shared by several workers; and what they sweep meanwhile."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests import pictures
from tests.e2e.client import (
    IMAGES,
    Api,
    Document,
    answer_from,
    connection,
    document,
    fetch,
    file_part,
    files_at_rest,
    footprint,
    form,
    problem,
    processes,
    upload_head,
)
from tests.service import Service
from tests.waiting import PATIENCE_S, wait_until

MIB = 1024 * 1024


@pytest.fixture
def own(open_service: Callable[..., Service]) -> Service:
    """A service of the test's own, which it starts itself."""
    return open_service()


def _everything(api: Api) -> list[tuple[Document, bytes]]:
    own = {"presigned_url", "presigned_url_expires_at"}
    return [
        ({k: v for k, v in item.items() if k not in own}, api.get(item["image_id"]).content)
        for item in api.page(limit=100)["items"]
    ]


def test_stopped_and_started_all_is_as_it_was(own: Service) -> None:
    api = Api(own, "ann")
    with own:
        kept = [api.uploaded(pictures.jpeg(seed=n), f"猫 {n}.jpg", tags=[f"t{n}"]) for n in range(3)]
        document(api.patch(kept[0]["image_id"], {"title": "Revised"}))
        trashed = api.uploaded(name="trashed.jpg")
        document(api.delete(trashed["image_id"]))
        key = {"Idempotency-Key": "once"}
        once = document(api.upload(headers=key, name="once.jpg"), 201)
        cursor = api.page(limit=2)["next_cursor"]
        before, files = _everything(api), footprint(own).files

        assert own.stop() == 0
        with pytest.raises(httpx.ConnectError):
            api.http.get("/health/live")
        assert files_at_rest(own) == files
        own.start()

        assert _everything(api) == before
        assert footprint(own).files == files
        assert fetch(kept[1]["presigned_url"]).content == pictures.jpeg(seed=1)
        assert len(api.page(cursor=cursor)["items"]) == 2
        assert api.upload(headers=key, name="once.jpg").json()["image_id"] == once["image_id"]
        assert document(api.restore(trashed["image_id"]))["filename"] == "trashed.jpg"
        assert own.stop() == 0
    api.close()


def test_on_sigterm_what_is_in_flight_ends_and_then_the_process_does(open_service: Callable[..., Service]) -> None:
    picture = pictures.big_jpeg(12 * MIB)
    with open_service(workers=2) as service:
        api = Api(service, "ann")
        stored = api.uploaded(picture)
        uploaded: Document | None = None
        while uploaded is None:
            cut_off = service.log.read_text().count(CUT_OFF)
            try:
                uploaded = _ended_with_an_upload_and_a_download(service, picture, stored["image_id"])
            except (OSError, http.client.HTTPException):
                # Where a machine is so slow that the grace was over before the requests were: again.
                assert cut_off < service.log.read_text().count(CUT_OFF) < 5
                service.start()
        assert "Traceback" not in service.log.read_text()
        service.start()
        assert {uploaded["image_id"], stored["image_id"]} <= set(api.ids())
        api.close()


CUT_OFF = "after it refused to gracefully stop"


def _ended_with_an_upload_and_a_download(service: Service, picture: bytes, image_id: str) -> Document:
    """Stop it in the middle of both, which both succeed; return the new image."""
    body = form([file_part(picture)])
    with (
        ThreadPoolExecutor(1) as pool,
        connection(service) as up,
        connection(service, receive_buffer=64 * 1024) as down,
    ):
        up.sendall(upload_head("ann", len(body)).replace(b"\n", b"\r\n") + b"\r\n" + body[: len(body) // 2])
        down.sendall(_get(f"{IMAGES}/{image_id}"))
        answer = http.client.HTTPResponse(down)
        answer.begin()
        received = answer.read(MIB)
        stopped = pool.submit(service.stop)
        wait_until(lambda: not _listens(service))
        time.sleep(1)

        if stopped.done():
            raise ConnectionError("it has ended, with the grace over or too soon")
        up.sendall(body[len(body) // 2 :])
        uploaded = answer_from(up)
        received += answer.read()

    assert (uploaded.status_code, uploaded.json()["size_bytes"]) == (201, len(picture))
    assert received == picture
    assert stopped.result() == 0
    image: Document = uploaded.json()
    return image


def test_whoever_never_ends_does_not_keep_the_process(open_service: Callable[..., Service]) -> None:
    # No other time-out would end what the client does not: only the grace of those in flight is over within minutes.
    own = open_service(settings={"CALOTYPE_STALL_TIMEOUT_S": "3600", "CALOTYPE_KEEP_ALIVE_S": "3600"})
    with own, connection(own) as stuck, connection(own) as idle:
        stuck.sendall(upload_head("ann", 1000).replace(b"\n", b"\r\n") + b"\r\n" + b"--")
        idle.sendall(_get("/health/live"))
        assert _status_of(idle) == 200
        own.stop()


def test_a_killed_server_lost_nothing_that_it_acknowledged(own: Service) -> None:
    api = Api(own, "ann")
    acknowledged: dict[str, int] = {}
    with own:
        killed = threading.Event()

        def upload(number: int) -> None:
            client = Api(own, "ann")
            while not killed.is_set():
                number += 4
                try:
                    response = client.upload(pictures.gif(4, 4, seed=number), f"{number}.gif")
                except httpx.TransportError:
                    break
                acknowledged[document(response, 201)["image_id"]] = number
            client.close()

        with ThreadPoolExecutor(4) as pool:
            uploads = [pool.submit(upload, number) for number in range(4)]
            wait_until(lambda: len(acknowledged) > 8)
            own.kill()
            killed.set()
            for each in uploads:
                each.result()
        own.start()

        listed: list[str] = []
        query: dict[str, str] = {}
        while True:
            page = api.page(limit=100, **query)
            listed += [item["image_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            query = {"cursor": page["next_cursor"]}
        assert set(acknowledged) <= set(listed)
        assert len(listed) - len(acknowledged) <= 4
        for image_id, number in acknowledged.items():
            assert api.get(image_id).content == pictures.gif(4, 4, seed=number)
        for image_id in set(listed) - set(acknowledged):
            assert api.get(image_id).status_code == 200
    api.close()


def test_a_server_killed_in_the_middle_of_uploads_leaves_no_temporary_files(own: Service) -> None:
    picture = pictures.big_jpeg(20 * MIB)
    body = form([file_part(picture)])
    with own:
        before = footprint(own).files
        with connection(own) as up:
            up.sendall(upload_head("ann", len(body)).replace(b"\n", b"\r\n") + b"\r\n" + body[: 10 * MIB])
            wait_until(lambda: footprint(own).unnamed == 1)
            own.kill()
        assert files_at_rest(own) == before


def test_several_workers_are_one_service(open_service: Callable[..., Service]) -> None:
    with open_service(workers=2, settings={"CALOTYPE_SWEEP_INTERVAL_S": "1"}) as service:
        assert len(processes(service)) >= 3
        api = Api(service, "ann")
        image = api.uploaded(title="Shared")
        doomed = api.uploaded()["image_id"]
        document(api.delete(doomed, permanent=True))

        def ask(_: int) -> tuple[str, bytes]:
            # A connection of its own, so that any of the workers may get it.
            with service.client("ann") as client:
                listed = [item["title"] for item in client.get(IMAGES).json()["items"]]
                return listed[0], client.get(f"{IMAGES}/{image['image_id']}").content

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(ask, range(24))) == {("Shared", pictures.jpeg())}
        wait_until(lambda: not _files_of(service, doomed))

        def all_are_counted() -> bool:
            page = api.http.get("/metrics").text.splitlines()
            counted = [line for line in page if "/api/v1/images/{image_id" in line]
            return any(float(line.rpartition(" ")[2]) >= 24 for line in counted)

        wait_until(all_are_counted)  # whichever worker is asked, and whichever has answered
        api.close()
        assert service.stop() == 0
        assert "Traceback" not in service.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no policies to choose from")
@pytest.mark.parametrize(
    ("run_by", "settings", "policy"),
    [
        ((), {}, "SCHED_BATCH"),
        ((), {"CALOTYPE_SCHEDULING": "unchanged"}, "SCHED_OTHER"),
        (("chrt", "--idle", "0"), {}, "SCHED_IDLE"),
    ],
)
def test_all_threads_of_the_workers_run_as_the_operator_says(
    open_service: Callable[..., Service], run_by: tuple[str, ...], settings: dict[str, str], policy: str
) -> None:
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        pytest.skip("the tests run under a policy of their own")
    if run_by and shutil.which(run_by[0]) is None:
        pytest.skip("there is no chrt (a program of util-linux) to set a policy")
    with open_service(workers=2, settings=settings, run_by=run_by) as service:
        Api(service, "ann").uploaded()
        policies = [policy_of(int(each.name)) for pid in processes(service) for each in threads(pid)]
        assert len(policies) > 6
        assert set(policies) - {None} == {getattr(os, policy)}


def threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def policy_of(thread: int) -> int | None:
    try:
        return os.sched_getscheduler(thread)
    except ProcessLookupError:  # it has just ended
        return None


def test_what_is_deleted_for_good_is_swept_from_the_disk_and_what_is_in_the_trash_is_not(impatient: Service) -> None:
    api = Api(impatient, f"user-{uuid.uuid4()}")
    kept, trashed, doomed = (api.uploaded(pictures.jpeg(seed=n))["image_id"] for n in range(3))
    document(api.delete(trashed))
    document(api.delete(doomed, permanent=True))

    wait_until(lambda: not _files_of(impatient, doomed))

    assert len(_files_of(impatient, kept)) == len(_files_of(impatient, trashed)) == 1
    problem(api.restore(doomed), 404, "not_found")
    assert document(api.restore(trashed))["image_id"] == trashed
    assert api.get(trashed).content == pictures.jpeg(seed=1)
    api.close()


def test_a_download_goes_on_while_its_image_is_deleted_and_swept(impatient: Service) -> None:
    picture = pictures.big_jpeg(20 * MIB)
    api = Api(impatient, f"user-{uuid.uuid4()}")
    image_id = api.uploaded(picture)["image_id"]
    with connection(impatient, receive_buffer=64 * 1024) as down:
        down.sendall(_get(f"{IMAGES}/{image_id}", user=str(api.user)))
        answer = http.client.HTTPResponse(down)
        answer.begin()
        received = answer.read(1000)
        document(api.delete(image_id, permanent=True))
        wait_until(lambda: not _files_of(impatient, image_id))
        received += answer.read()
    assert received == picture
    api.close()


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])  # noqa: S104 (for a moment)
def test_the_address_to_listen_on_may_be_a_name(open_service: Callable[..., Service], host: str) -> None:
    with open_service(settings={"CALOTYPE_HOST": host, "CALOTYPE_TRUSTED_NETWORK": "true"}) as service:
        assert fetch(f"http://localhost:{service.port}/health/live").status_code == 200


def test_a_port_that_is_taken_is_refused_with_a_message(service: Service, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "entrypoints.cli", "serve", "--port", str(service.port)],
        env={"CALOTYPE_DATA_DIR": str(tmp_path / "other")},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert second.returncode != 0
    assert f"127.0.0.1:{service.port}" in second.stderr
    assert "Traceback" not in second.stderr


def _get(path: str, user: str = "ann") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nX-User-ID: {user}\r\n\r\n".encode()


def _status_of(raw: socket.socket) -> int:
    answer = http.client.HTTPResponse(raw)
    answer.begin()
    answer.read()
    return answer.status


def _listens(service: Service) -> bool:
    try:
        connection(service).close()
    except ConnectionRefusedError:
        return False
    return True


def _files_of(service: Service, image_id: str) -> list[str]:
    return [name for name in files_at_rest(service) if image_id in name]


@pytest.mark.parametrize("after_s", [0.2, 0.5, 0.8, 1.1])
def test_a_server_that_is_ended_while_it_starts_ends(own: Service, after_s: float) -> None:
    own.start(wait=False)
    time.sleep(after_s)
    own.stop()


def test_links_lead_through_the_path_that_the_gateway_puts_in_front(open_service: Callable[..., Service]) -> None:
    with open_service(settings={"CALOTYPE_PUBLIC_URL": "https://pictures.example/base/"}) as service:
        api = Api(service, "ann")
        created = api.upload(pictures.jpeg(seed=1))
        api.uploaded(pictures.jpeg(seed=2))
        with service.client("ann") as client:
            listed = client.get(IMAGES, params={"limit": 1})
            described = client.get("/openapi.json").json()
            page = client.get("/docs").text
    assert created.headers["location"].startswith("/base/api/v1/images/")
    assert listed.headers["link"].startswith("</base/api/v1/images?")
    assert described["servers"] == [{"url": "/base"}]
    assert 'src="/' not in page
    assert 'href="/' not in page
