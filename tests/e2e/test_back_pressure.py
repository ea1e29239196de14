"""Room for uploads on a real server: past the bound they are sent away at once, and no room is ever lost."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from select import select

import pytest

from tests.e2e.client import (
    Api,
    Part,
    answer_from,
    connection,
    file_part,
    footprint,
    form,
    problem,
    readiness,
    upload_head,
)
from tests.pictures import big_jpeg, jpeg
from tests.service import Service
from tests.waiting import wait_until

UPLOADS = 8
IN_FLIGHT_BYTES = 40_000_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with room for eight uploads, and 40 MB of them. One owner gets half of it."""
    root = tmp_path_factory.mktemp("narrow")
    (root / "tmp").mkdir()
    settings = {
        "TMPDIR": str(root / "tmp"),
        "CALOTYPE_MAX_CONCURRENT_UPLOADS": str(UPLOADS),
        "CALOTYPE_MAX_BYTES_IN_FLIGHT": str(IN_FLIGHT_BYTES),
        # Uploads are held up for as long as a test takes.
        "CALOTYPE_STALL_TIMEOUT_S": "3600",
        "CALOTYPE_KEEP_ALIVE_S": "3600",
    }
    with Service(root / "data", settings=settings) as running:
        # What it opens with the first upload it keeps.
        Api(running, "first").uploaded()
        yield running


@pytest.fixture
def narrow(service: Service) -> Iterator[Service]:
    """The same; and whatever a test did, all the room is free again soon."""
    yield service
    wait_until(lambda: has_room(service))


def begin(service: Service, user: str, length: int | None, body: bytes = b"") -> socket.socket:
    """Begin an upload, and go no further."""
    raw = connection(service)
    raw.sendall(upload_head(user, length).replace(b"\n", b"\r\n") + b"\r\n" + body)
    return raw


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def turned_away(raw: socket.socket) -> None:
    with raw:
        problem(answer_from(raw), 503, "overloaded")


SLOW = [(f"slow-{number}", 1000) for number in range(UPLOADS)]


def hold(
    service: Service, stack: ExitStack, uploads: list[tuple[str, int]] = SLOW, *, asks: str = "asks", size: int = 1000
) -> None:
    """Keep uploads of these owners and lengths under way, and return when there is no room for another one."""
    picture = big_jpeg(size)
    begun = [begin(service, user, length, b"--") for user, length in uploads]

    def full() -> bool:
        # Each question takes up room itself for a moment, and may have kept one of them out.
        for answered in select(begun, [], [], 0)[0]:
            answered.close()
            number = begun.index(answered)
            begun[number] = begin(service, *uploads[number], b"--")
        return Api(service, asks).upload(picture).status_code == 503

    @stack.callback
    def let_go() -> None:
        for raw in begun:
            raw.close()

    wait_until(full)


def has_room(service: Service) -> bool:
    """Tell whether so many uploads as there may be are under way together and succeed."""
    body = form([file_part(jpeg())])
    with ExitStack() as stack:
        begun = [stack.enter_context(begin(service, f"next-{n}", len(body), body[:-2])) for n in range(UPLOADS)]
        wait_until(lambda: Api(service, "asks").upload().status_code == 503 or bool(select(begun, [], [], 0)[0]))
        if select(begun, [], [], 0)[0]:
            return False  # one of them was sent away
        for raw in begun:
            raw.sendall(body[-2:])
        return [answer_from(raw).status_code for raw in begun] == [201] * UPLOADS


def test_past_the_bound_uploads_are_sent_away_at_once_and_all_else_is_served(narrow: Service) -> None:
    reader = Api(narrow, "reader")
    image = reader.uploaded()
    with ExitStack() as stack:
        hold(narrow, stack)
        # They say how long they will be, and send next to nothing of it: only who doesn't wait for a body can answer.
        crowd = [begin(narrow, f"crowd-{number}", 5_000_000, b"--") for number in range(64)]
        for raw in crowd:
            turned_away(raw)
        # So do these; what they send would be read, if it came.
        for raw in [begin(narrow, "unframed", None), begin(narrow, "short", 500)]:
            turned_away(raw)
        assert reader.get(image["image_id"]).status_code == 200
        assert reader.ids() == [image["image_id"]]
        assert reader.patch(image["image_id"], {"title": "Changed"}).status_code == 200
        readiness(narrow, 200)


def test_a_whole_upload_that_is_sent_without_looking_is_told_too(narrow: Service) -> None:
    with ExitStack() as stack:
        hold(narrow, stack)
        answer = Api(narrow, "blind").upload(big_jpeg(800_000))
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"


def test_one_owner_leaves_room_for_the_others(narrow: Service) -> None:
    with ExitStack() as stack:
        hold(narrow, stack, [("hog", 1000)] * (UPLOADS // 2), asks="hog")
        assert Api(narrow, "other").upload().status_code == 201


def test_bytes_that_are_announced_have_to_fit(narrow: Service) -> None:
    with ExitStack() as stack:
        hold(narrow, stack, [("big-1", 20_000_000), ("big-2", 19_000_000)], size=1_500_000)
        turned_away(begin(narrow, "big-4", 10_000_000))
        assert Api(narrow, "small").upload().status_code == 201


def test_a_body_without_a_length_is_sent_away_in_the_middle(narrow: Service) -> None:
    with ExitStack() as stack:
        hold(narrow, stack, [("big-1", 20_000_000), ("big-2", 14_000_000)], size=6_500_000)
        body = form([file_part(big_jpeg(9_000_000))])
        raw = stack.enter_context(begin(narrow, "endless", None))
        for sent in range(0, len(body), 100_000):
            if select([raw], [], [], 0)[0]:
                break
            with suppress(OSError):  # the answer is there, and the connection is closed behind it
                raw.sendall(chunk(body[sent : sent + 100_000]))
        problem(answer_from(raw), 503, "overloaded")


BROKEN: list[tuple[str, int | None, bytes]] = [
    ("a form that is none", 6, b"--nope"),
    ("no file", None, chunk(form([Part(b'Content-Disposition: form-data; name="title"', b"x")])) + b"0\r\n\r\n"),
    ("no image", len(form([file_part(b"text")])), form([file_part(b"text")])),
]


@pytest.mark.parametrize(("length", "body"), [pytest.param(*case[1:], id=case[0]) for case in BROKEN])
def test_uploads_that_fail_leave_no_room_taken(narrow: Service, length: int | None, body: bytes) -> None:
    for _ in range(UPLOADS + 2):
        with begin(narrow, "broken", length, body) as raw:
            assert answer_from(raw).status_code == 400


def test_clients_that_vanish_leave_no_room_taken_and_no_file_behind(narrow: Service) -> None:
    before = footprint(narrow)
    body = form([file_part(big_jpeg(2_000_000))])
    for half in (body[:100], body[:1_500_000]):
        for _ in range(2):
            with ExitStack() as stack:
                for number in range(UPLOADS):
                    stack.enter_context(begin(narrow, f"gone-{number}", len(body), half))
    wait_until(lambda: footprint(narrow) == before)


def test_what_is_sent_away_is_no_error_in_the_log(narrow: Service) -> None:
    with ExitStack() as stack:
        hold(narrow, stack)
    wait_until(lambda: '"status":503' in narrow.log.read_text())  # lines that warn of nothing come in batches
    assert "Traceback" not in narrow.log.read_text()
    assert '"level":"error"' not in narrow.log.read_text()
