"""Many clients at once on a service of two workers: the same upload, the same record, and a crash in the middle."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import httpx
import pytest

from tests import pictures
from tests.e2e.client import Api, Document, document, files_at_rest, problem
from tests.e2e.conftest import NewAccount
from tests.service import Service
from tests.waiting import PATIENCE_S, wait_until

CLIENTS = 24
WRITERS = 16
KEY = {"Idempotency-Key": "once"}
MIB = 1024 * 1024

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def shared(new_account: NewAccount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("races")
    settings = {"CALOTYPE_SWEEP_INTERVAL_S": "86400"}
    with Service(folder / "data", account=new_account(), workers=2, settings=settings) as running:
        yield running


def at_once(service: Service, user: str, clients: int, act: Callable[[Api, int], _T]) -> list[_T]:
    """Let so many clients of one user, each with its own connection, begin at the same moment."""
    start = threading.Barrier(clients, timeout=PATIENCE_S)

    def run(number: int) -> _T:
        with closing(Api(service, user)) as api:
            api.http.get("/health/live")
            start.wait()
            return act(api, number)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(run, range(clients)))


def until_answered(upload: Callable[[], httpx.Response]) -> httpx.Response:
    """Send it again as long as another attempt runs, or a store takes too long."""
    deadline = time.monotonic() + 2 * PATIENCE_S
    while (answer := upload()).status_code in {httpx.codes.CONFLICT, httpx.codes.SERVICE_UNAVAILABLE}:
        if answer.status_code == httpx.codes.CONFLICT:
            problem(answer, 409, "conflict")
            # A second more than the lease where the answer's moment was before that of the attempt which was faster.
            assert 1 <= int(answer.headers["retry-after"]) <= 61
        else:
            problem(answer, 503, "unavailable")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def told(answer: httpx.Response) -> Document:
    """Return the document, without what is another in each answer."""
    return {name: value for name, value in document(answer, 201).items() if not name.startswith("presigned_url")}


# ---- the same idempotency key


def test_of_many_uploads_with_one_key_one_happens_and_all_are_told_of_it(shared: Service) -> None:
    answers = at_once(
        shared,
        "same",
        CLIENTS,
        lambda api, _: until_answered(lambda: api.upload(headers=KEY, title="One", tags=["a", "b"])),
    )

    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers) == {None: 1, "true": CLIENTS - 1}
    first = told(answers[0])
    assert [told(answer) for answer in answers] == [first] * CLIENTS
    with closing(Api(shared, "same")) as api:
        assert api.ids() == api.ids(filter_by="tags", tags="a") == [first["image_id"]]
        assert api.get(first["image_id"]).content == pictures.jpeg()


def test_of_two_files_that_race_for_one_key_one_is_stored_and_the_other_refused(shared: Service) -> None:
    contents = [pictures.jpeg(seed=seed) for seed in (1, 2)]
    answers = at_once(
        shared,
        "other",
        CLIENTS,
        lambda api, number: until_answered(lambda: api.upload(contents[number % 2], headers=KEY)),
    )

    won = 0 if answers[0].status_code == httpx.codes.CREATED else 1
    for answer in answers[1 - won :: 2]:
        problem(answer, 422, "idempotency_key_reused")
    (stored,) = {told(answer)["image_id"] for answer in answers[won::2]}
    with closing(Api(shared, "other")) as api:
        assert api.ids() == [stored]
        assert api.get(stored).content == contents[won]


@pytest.mark.parametrize("key", ["", "two words", "k" * 256, "schlüssel"])
def test_of_many_uploads_with_a_key_that_is_none_none_happens(shared: Service, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    file = ("a.jpg", pictures.jpeg())
    for answer in at_once(
        shared, "none", 4, lambda api, _: api.http.post("/api/v1/images", files={"file": file}, headers=headers)
    ):
        problem(answer, 400, "invalid_idempotency_key")
    with closing(Api(shared, "none")) as api:
        assert api.ids() == []


def test_an_upload_that_was_killed_in_the_middle_is_finished_by_its_retry_once_the_lease_is_over(
    open_service: Callable[..., Service],
) -> None:
    # Long enough for the lease, the half of it, to outlive a start of the server.
    ttl_s, lease_s = 16, 8
    settings = {"CALOTYPE_RESERVATION_TTL_S": str(ttl_s), "CALOTYPE_SWEEP_INTERVAL_S": "1"}
    service = open_service(workers=2, settings=settings)
    content = pictures.big_jpeg(24 * MIB)  # which S3 takes in parts
    with service, closing(Api(service, "ann")) as api:
        for attempt in range(40):
            key = {"Idempotency-Key": f"attempt-{attempt}"}
            if (begun := _killed_in_the_middle(service, content, key)) is not None:
                before = set(api.ids())
                # Another file does not get the key, whoever may hold it; unless nobody does any more.
                other = api.upload(headers=key)
                if time.monotonic() - begun < ttl_s:
                    problem(other, 422, "idempotency_key_reused")
                    break
        else:
            raise AssertionError("the server was always faster, or the machine slower")

        answers = [api.upload(content, headers=key)]
        # A store that is slow for a moment is a 503, and no end of it.
        while answers[-1].status_code in {httpx.codes.CONFLICT, httpx.codes.SERVICE_UNAVAILABLE}:
            assert time.monotonic() - begun < 2 * PATIENCE_S
            time.sleep(0.2)
            answers.append(api.upload(content, headers=key))
        took_s = time.monotonic() - begun

        image = document(answers[-1], 201)
        assert "idempotent-replayed" not in answers[-1].headers
        assert took_s >= lease_s
        for refused in answers[:-1]:
            if refused.status_code == httpx.codes.CONFLICT:
                problem(refused, 409, "conflict")
                assert 1 <= int(refused.headers["retry-after"]) <= lease_s
            else:
                problem(refused, 503, "unavailable")

        again = api.upload(content, headers=key)
        assert (again.headers["idempotent-replayed"], told(again)) == ("true", told(answers[-1]))
        problem(api.upload(headers=key), 422, "idempotency_key_reused")
        assert set(api.ids()) == before | {image["image_id"]}
        assert api.get(image["image_id"]).content == content
        assert service.stop() == 0
        service.start()
        assert told(api.upload(content, headers=key)) == told(again)
        if service.account is None:
            # Those of attempts that were in vain go with their reservations.
            wait_until(lambda: not _unfinished(service))
        time.sleep(2.5)  # for the sweepers
        assert api.get(image["image_id"]).content == content


def _killed_in_the_middle(service: Service, content: bytes, key: dict[str, str]) -> float | None:
    """Send an upload, and kill the server when a part of it is stored; start it again.

    Return the time before the upload, or None if the upload had ended.
    """
    before = _unfinished(service)

    def upload() -> None:
        with closing(Api(service, "ann")) as api:
            api.upload(content, headers=key)

    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        uploading = pool.submit(upload)
        while not _unfinished(service) - before and not uploading.done():
            time.sleep(0.002)
        service.kill()
        ended = uploading.exception() is None
    left = bool(_unfinished(service) - before)
    service.start()
    return begun if left and not ended else None


def _unfinished(service: Service) -> set[str]:
    """Return what is stored of uploads that have not ended: unpublished files, or parts."""
    if service.account is None:
        return {name for name in files_at_rest(service) if "/partial/" in name}
    uploads = service.account.s3.list_multipart_uploads(Bucket=service.account.bucket)
    return {each["UploadId"] for each in uploads.get("Uploads", ())}


# ---- the same record


def test_of_sixteen_clients_that_add_to_one_record_none_loses_what_it_added(shared: Service) -> None:
    with closing(Api(shared, "writers")) as api:
        image_id = api.uploaded(tags=["first"])["image_id"]
        all_have_read = threading.Barrier(WRITERS, timeout=PATIENCE_S)

        def add(api: Api, number: int) -> Counter[int]:
            statuses = Counter[int]()
            while not statuses[200]:
                read = api.metadata(image_id)
                if not statuses:
                    all_have_read.wait()  # so that there is a race, however few of them run at once
                tags = [*document(read)["tags"], f"writer {number}"]
                answer = api.patch(image_id, {"tags": tags}, If_Match=read.headers["etag"])
                statuses[answer.status_code] += 1
            return statuses

        statuses = sum(at_once(shared, "writers", WRITERS, add), Counter())

        assert statuses[200] == WRITERS
        assert statuses.keys() <= {200, 412}
        assert statuses[412] >= WRITERS - 1
        final = document(api.metadata(image_id))
        assert final["version"] == 1 + WRITERS
        assert set(final["tags"]) == {"first", *(f"writer {number}" for number in range(WRITERS))}
        for tag in final["tags"]:
            assert api.ids(filter_by="tags", tags=tag) == [image_id]


def test_of_many_deletions_and_changes_of_one_version_one_happens(shared: Service) -> None:
    with closing(Api(shared, "enders")) as api:
        image_id = api.uploaded()["image_id"]

        def end(api: Api, number: int) -> httpx.Response:
            if number % 2:
                return api.delete(image_id, If_Match='"1"')
            return api.patch(image_id, {"title": f"Mine {number}"}, If_Match='"1"')

        answers = at_once(shared, "enders", WRITERS, end)

        (won,) = [number for number, answer in enumerate(answers) if answer.status_code == httpx.codes.OK]
        losers = {answer.status_code for number, answer in enumerate(answers) if number != won}
        assert losers == ({404} if won % 2 else {412})
        assert api.ids() == ([] if won % 2 else [image_id])
