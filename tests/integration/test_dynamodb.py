"""What is special about DynamoDB: requests by the number, cancelled transactions, throttling, lost replies."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dynamodb import DynamoMetadata, Patience, Tables
from adapters.dynamodb.items import record_item
from adapters.dynamodb.tables import SHARDS
from application.ports import ByOwner, ByTags, ByTitle, Filter, Position
from domain.errors import Conflict, KeyReused, NotFound, PreconditionFailed, QuotaExceeded, Unavailable
from domain.image import Image, MetadataChange, Revision
from domain.quota import Quota, Usage
from domain.reclaim import Reservation, TrashedImage
from domain.values import Description, Filename, MediaType, Tag, Title, UserId, parse_tags
from tests.integration.dynamodb_on_moto import (
    Dynamo,
    Waits,
    after,
    dynamodb_on_moto,
    edit,
    lose_the_reply,
    meet_nobody,
    never_arrive,
    refuse,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
ANN = UserId("ann")
TAGS = parse_tags(["cat", "red"])


@pytest.fixture
def dynamo() -> Iterator[Dynamo]:
    with dynamodb_on_moto(patience=Waits().patience()) as made:
        yield made


def an_image(*, number: int = 0, tags: Sequence[Tag] = TAGS, title: str = "Cat", **changes: Any) -> Image:
    """An image of Ann's; those with a higher number are newer."""
    at = NOW + number * SECOND
    image = Image(
        image_id=uuid4(),
        owner=ANN,
        filename=Filename("cat.jpg"),
        title=Title(title),
        description=Description(""),
        tags=tuple(tags),
        media_type=MediaType.JPEG,
        size_bytes=1,
        width=1,
        height=1,
        sha256="0" * 64,
        created_at=at,
        updated_at=at,
    )
    return replace(image, **changes)


def a_reservation(image: Image, *, holder: UUID | None = None) -> Reservation:
    return Reservation(
        image_id=image.image_id,
        owner=image.owner,
        holder=holder or uuid4(),
        lease_until=NOW + 60 * SECOND,
        due=NOW + HOUR,
        size_bytes=image.size_bytes,
        fingerprint=image.fingerprint,
    )


def stored(dynamo: Dynamo, *images: Image) -> Image:
    """Upload the images, forget the requests, return the last."""
    for image in images:
        reservation = a_reservation(image)
        assert dynamo.metadata.reserve(reservation, at=NOW) is None
        dynamo.metadata.commit(image, holder=reservation.holder)
    dynamo.wire.sent.clear()
    return images[-1]


def trashed(dynamo: Dynamo, image: Image) -> TrashedImage:
    gone = dynamo.metadata.trash(ANN, stored(dynamo, image).image_id, at=NOW, due=NOW + HOUR)
    dynamo.wire.sent.clear()
    return gone


def to(**words: Any) -> Callable[[Image], Revision]:
    return lambda image: image.revised(MetadataChange(**words), at=NOW + HOUR)


def listed(dynamo: Dynamo, which: Filter = ByOwner(), *, limit: int = 100) -> list[Image]:  # noqa: B008 (a value)
    return list(dynamo.metadata.page(ANN, which, limit=limit).images)


# ---- requests by the number


@pytest.mark.parametrize("fingerprint", [None, "f"])
def test_an_upload_takes_two_requests(dynamo: Dynamo, fingerprint: str | None) -> None:
    image = an_image(fingerprint=fingerprint)
    reservation = a_reservation(image)
    dynamo.metadata.reserve(reservation, at=NOW)
    dynamo.metadata.commit(image, holder=reservation.holder)
    assert dynamo.wire.sent == ["TransactWriteItems"] * 2


def test_a_replayed_upload_takes_one_request(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image(fingerprint="f"))
    assert dynamo.metadata.reserve(a_reservation(image), at=NOW) == image
    assert dynamo.wire.sent == ["TransactWriteItems"]


def test_a_get_is_one_consistent_read(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    assert dynamo.metadata.get(ANN, image.image_id) == image
    assert dynamo.wire.sent == ["GetItem"]


def test_reads_by_id_and_by_tags_are_strongly_consistent(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    seen: list[dict[str, Any]] = []

    def note(request: dict[str, Any], _: dict[str, Any]) -> None:
        (asked,) = request.get("RequestItems", {"": request}).values()
        seen.append(asked)

    dynamo.wire.always |= dict.fromkeys(["GetItem", "Query", "BatchGetItem"], edit(note))
    dynamo.metadata.get(ANN, image.image_id)
    listed(dynamo, ByTags(TAGS))
    dynamo.metadata.trash(ANN, image.image_id, at=NOW, due=NOW + HOUR)
    dynamo.metadata.restore(ANN, image.image_id, at=NOW)
    assert Counter(dynamo.wire.sent) == {"GetItem": 3, "Query": 2, "BatchGetItem": 1, "TransactWriteItems": 2}
    assert [asked.get("ConsistentRead") for asked in seen] == [True] * 6


def test_an_update_is_one_read_and_one_transaction_even_of_thirty_tags_to_thirty_others(dynamo: Dynamo) -> None:
    old, new = (parse_tags(f"{word}{number}" for number in range(30)) for word in ("old", "new"))
    image = stored(dynamo, an_image(tags=old))
    dynamo.metadata.update(ANN, image.image_id, to(tags=new))
    assert dynamo.wire.sent == ["GetItem", "TransactWriteItems"]
    assert listed(dynamo, ByTags(old, "any")) == []
    assert [found.tags for found in listed(dynamo, ByTags(new, "all"))] == [new]


def test_an_update_of_nothing_writes_nothing(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    assert dynamo.metadata.update(ANN, image.image_id, to(title=image.title)) == Revision(image, None)
    assert dynamo.wire.sent == ["GetItem"]


def test_a_deletion_is_one_read_and_one_transaction(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    dynamo.metadata.trash(ANN, image.image_id, at=NOW, due=NOW + HOUR)
    assert dynamo.wire.sent == ["GetItem", "TransactWriteItems"]


def test_a_restoration_is_one_read_and_one_transaction(dynamo: Dynamo) -> None:
    gone = trashed(dynamo, an_image())
    assert dynamo.metadata.restore(ANN, gone.image.image_id, at=NOW) == gone
    assert dynamo.wire.sent == ["GetItem", "TransactWriteItems"]


@pytest.mark.parametrize("which", [ByOwner(), ByTitle(Title("cat"))])
def test_each_page_by_owner_or_title_is_one_query(dynamo: Dynamo, which: Filter) -> None:
    images = [an_image(number=number) for number in range(7)]
    stored(dynamo, *images)
    seen: list[Image] = []
    position: Position | None = None
    for requests in (1, 2, 3):
        page = dynamo.metadata.page(ANN, which, limit=3, after=position)
        assert dynamo.wire.sent == ["Query"] * requests
        seen += page.images
        position = page.next
    assert position is None
    assert seen == images[::-1]


def test_each_page_of_one_tag_is_one_query_and_one_batch(dynamo: Dynamo) -> None:
    images = [an_image(number=number) for number in range(6)]
    stored(dynamo, *images)
    first = dynamo.metadata.page(ANN, ByTags(TAGS[:1]), limit=3)
    assert dynamo.wire.sent == ["Query", "BatchGetItem"]
    second = dynamo.metadata.page(ANN, ByTags(TAGS[:1]), limit=3, after=first.next)
    assert dynamo.wire.sent == ["Query", "BatchGetItem"] * 2
    assert [*first.images, *second.images] == images[::-1]
    assert second.next is None


def test_a_page_of_the_largest_size_still_is_one_batch(dynamo: Dynamo) -> None:
    stored(dynamo, *(an_image(number=number, tags=TAGS[:1]) for number in range(101)))
    page = dynamo.metadata.page(ANN, ByTags(TAGS[:1]), limit=100)
    assert dynamo.wire.sent == ["Query", "BatchGetItem"]
    assert (len(page.images), page.next is None) == (100, False)


def test_a_page_of_any_of_several_tags_is_one_query_each_and_one_batch(dynamo: Dynamo) -> None:
    images = [an_image(number=number, tags=TAGS[number % 3 : 2]) for number in range(6)]
    stored(dynamo, *images)
    assert listed(dynamo, ByTags(TAGS, "any"), limit=6) == [image for image in images[::-1] if image.tags]
    assert dynamo.wire.sent == ["Query", "Query", "BatchGetItem"]


def test_a_rare_tag_leaps_over_a_common_one(dynamo: Dynamo) -> None:
    rare, common = parse_tags(["rare", "common"])
    images = [an_image(number=number, tags=(common,) if number % 60 else (rare, common)) for number in range(180)]
    stored(dynamo, *images)
    read = 0

    def count(_: dict[str, Any], answer: dict[str, Any]) -> None:
        nonlocal read
        read += answer["Count"]

    dynamo.wire.always["Query"] = edit(count)
    assert listed(dynamo, ByTags((rare, common), "all"), limit=3) == images[120::-60]
    assert read <= 3 + 4 * 8


def test_a_page_that_does_not_fit_a_response_goes_on_until_it_is_full(dynamo: Dynamo) -> None:
    images = [an_image(number=number, description=Description("猫" * 5_000)) for number in range(100)]
    stored(dynamo, *images)
    assert listed(dynamo) == images[::-1]
    assert dynamo.wire.sent == ["Query"] * 2


def test_a_count_goes_on_over_several_responses(dynamo: Dynamo) -> None:
    stored(dynamo, *(an_image(number=number, description=Description("猫" * 5_000)) for number in range(100)))
    assert dynamo.metadata.count(ANN) == 100


# ---- ties


class IndexWithArbitraryTies:
    """The index of records, with equal range keys in an order of its own, as DynamoDB may have them."""

    def __init__(self, images: Sequence[Image], seed: int) -> None:
        self.rows = [record_item(image) for image in images]
        random.Random(seed).shuffle(self.rows)  # noqa: S311 (any order will do)
        self.rows.sort(key=lambda row: row["created_at"]["S"], reverse=True)

    def query(self, **request: Any) -> dict[str, Any]:
        values, start = request["ExpressionAttributeValues"], request.get("ExclusiveStartKey")
        at = 0 if start is None else start["row"] + 1
        bound = values.get(":after", {"S": "~"})["S"]
        rows = [(row, item) for row, item in enumerate(self.rows) if row >= at and item["created_at"]["S"] <= bound]
        some = rows[: request["Limit"]]
        answer: dict[str, Any] = {"Items": [item for _, item in some], "Count": len(some)}
        if len(rows) > len(some) or len(some) == request["Limit"]:
            answer["LastEvaluatedKey"] = {"row": some[-1][0]}
        return answer


@given(
    ages=st.lists(st.integers(0, 4), max_size=25),
    limit=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None)
def test_pages_are_in_order_whatever_the_order_of_ties_in_the_index(ages: list[int], limit: int, seed: int) -> None:
    images = [an_image(number=age, image_id=UUID(int=at + 1)) for at, age in enumerate(ages)]
    client = cast("DynamoDBClient", IndexWithArbitraryTies(images, seed))
    reader = DynamoMetadata(client, Tables())
    seen: list[Image] = []
    position: Position | None = None
    while True:
        page = reader.page(ANN, ByOwner(), limit=limit, after=position)
        seen += page.images
        position = page.next
        if position is None:
            break
        assert len(page.images) == limit
    assert seen == sorted(images, key=lambda image: (image.created_at, image.image_id), reverse=True)


# ---- what changes between two reads


def test_a_posting_whose_record_went_is_made_up_for_by_the_next(dynamo: Dynamo) -> None:
    images = [an_image(number=number) for number in range(4)]
    stored(dynamo, *images)
    newest = images[-1].image_id
    dynamo.wire.next("BatchGetItem", after(lambda: dynamo.metadata.trash(ANN, newest, at=NOW, due=NOW + HOUR)))
    page = dynamo.metadata.page(ANN, ByTags(TAGS[:1]), limit=2)
    assert list(page.images) == [images[2], images[1]]
    assert page.next == (images[1].created_at, images[1].image_id)


def test_an_image_that_lost_its_tag_meanwhile_is_not_shown(dynamo: Dynamo) -> None:
    images = [an_image(number=number) for number in range(2)]
    stored(dynamo, *images)
    dynamo.wire.next("BatchGetItem", after(lambda: dynamo.metadata.update(ANN, images[0].image_id, to(tags=()))))
    assert listed(dynamo, ByTags(TAGS[:1])) == [images[1]]


def test_a_write_between_read_and_write_is_built_upon(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())

    def interfere() -> None:
        dynamo.metadata.update(ANN, image.image_id, to(tags=parse_tags(["theirs"])))

    dynamo.wire.next("TransactWriteItems", after(interfere))
    revision = dynamo.metadata.update(ANN, image.image_id, to(title=Title("Mine")))
    assert (revision.image.title, revision.image.tags, revision.image.version) == ("Mine", ("theirs",), 3)
    assert dynamo.metadata.get(ANN, image.image_id) == revision.image
    assert listed(dynamo, ByTags(parse_tags(["theirs"]))) == [revision.image]
    assert listed(dynamo, ByTags(TAGS)) == []


def test_an_image_purged_and_uploaded_again_meanwhile_is_not_taken_for_the_one_that_was_read(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image(fingerprint="f"))
    again = replace(image, created_at=NOW + HOUR, updated_at=NOW + HOUR, tags=parse_tags(["new"]))

    def interfere() -> None:
        claimant = uuid4()
        dynamo.metadata.trash(ANN, image.image_id, at=NOW, due=NOW)
        assert dynamo.metadata.claim(image.image_id, claimant=claimant, at=NOW, until=NOW + HOUR)
        dynamo.metadata.forget(image.image_id, claimant=claimant)
        stored(dynamo, again)

    dynamo.wire.next("TransactWriteItems", after(interfere))
    revision = dynamo.metadata.update(ANN, image.image_id, to(title=Title("Mine")))
    assert (revision.image.created_at, revision.image.tags) == (again.created_at, again.tags)
    assert listed(dynamo, ByTags(again.tags)) == [revision.image]


def test_a_write_between_read_and_write_fails_the_expectation(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    same = to(title=Title("Same"))
    dynamo.wire.next("TransactWriteItems", after(lambda: dynamo.metadata.update(ANN, image.image_id, same)))
    with pytest.raises(PreconditionFailed):
        dynamo.metadata.update(ANN, image.image_id, same, expected_version=1)


def test_a_deletion_trashes_what_was_written_meanwhile(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    dynamo.wire.next(
        "TransactWriteItems", after(lambda: dynamo.metadata.update(ANN, image.image_id, to(tags=parse_tags(["new"]))))
    )
    gone = dynamo.metadata.trash(ANN, image.image_id, at=NOW, due=NOW + HOUR)
    assert gone.image.tags == ("new",)
    assert listed(dynamo, ByTags(parse_tags(["new", "cat"]))) == []


def test_of_two_equal_deletions_one_finds_nothing(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())

    def delete() -> TrashedImage:
        return dynamo.metadata.trash(ANN, image.image_id, at=NOW, due=NOW + HOUR)

    dynamo.wire.next("TransactWriteItems", after(delete))
    with pytest.raises(NotFound):
        delete()


def test_a_restoration_does_not_bring_back_an_older_state(dynamo: Dynamo) -> None:
    gone = trashed(dynamo, an_image())
    image_id = gone.image.image_id

    def interfere() -> None:
        dynamo.metadata.restore(ANN, image_id, at=NOW)
        dynamo.metadata.update(ANN, image_id, to(title=Title("Newer")))
        dynamo.metadata.trash(ANN, image_id, at=gone.deleted_at, due=gone.due)

    dynamo.wire.next("TransactWriteItems", after(interfere))
    assert dynamo.metadata.restore(ANN, image_id, at=NOW).image.title == "Newer"


# ---- conflicts and throttling


@pytest.mark.parametrize(
    "fault",
    [
        refuse("TransactionCanceledException", "None", "TransactionConflict", "None"),
        refuse("TransactionCanceledException", "ThrottlingError", "None", "None"),
        refuse("TransactionInProgressException"),
        refuse("ProvisionedThroughputExceededException"),
        refuse("ThrottlingException"),
        refuse("RequestLimitExceeded"),
        refuse("InternalServerError", status=500),
        refuse("SomethingNew", status=503),
        never_arrive,
        meet_nobody,
    ],
)
def test_conflicts_throttling_and_failures_are_tried_again(dynamo: Dynamo, fault: Any) -> None:
    image = stored(dynamo, an_image())
    dynamo.wire.next("TransactWriteItems", fault, fault)
    assert dynamo.metadata.update(ANN, image.image_id, to(title=Title("New"))).image.version == 2
    assert dynamo.wire.sent == ["GetItem", *["TransactWriteItems"] * 3]


@pytest.mark.parametrize("fault", [refuse("ThrottlingException"), never_arrive, meet_nobody])
def test_what_does_not_end_is_unavailable_within_the_deadline(fault: Any) -> None:
    waits = Waits()
    with dynamodb_on_moto(patience=waits.patience(deadline_s=3)) as dynamo:
        image = stored(dynamo, an_image())
        dynamo.wire.always["TransactWriteItems"] = fault
        with pytest.raises(Unavailable) as raised:
            dynamo.metadata.trash(ANN, image.image_id, at=NOW, due=NOW + HOUR)
        assert raised.value.__cause__ is not None
        assert 2.5 < waits.passed_s < 3
        assert 10 < len(dynamo.wire.sent) < 60
        dynamo.wire.always.clear()
        assert dynamo.metadata.get(ANN, image.image_id) == image


def test_waits_have_any_length_up_to_a_bound_that_doubles() -> None:
    waits: list[float] = []
    draws = itertools.cycle([0.0, 0.5, 1.0])
    patience = Patience(
        deadline_s=60,
        first_wait_s=1,
        longest_wait_s=8,
        sleep=waits.append,
        monotonic=lambda: 0,
        random=lambda: next(draws),
    )
    attempts = patience.begin()
    for _ in range(6):
        attempts.pause()
    assert waits == [0, 1, 4, 0, 4, 8]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "UnrecognizedClientException"])
def test_what_will_not_pass_is_unavailable_at_once(dynamo: Dynamo, code: str) -> None:
    dynamo.wire.next("GetItem", refuse(code))
    with pytest.raises(Unavailable):
        dynamo.metadata.get(ANN, uuid4())
    assert dynamo.wire.sent == ["GetItem"]


def test_a_wrong_request_is_a_bug_and_not_translated(dynamo: Dynamo) -> None:
    dynamo.wire.next("GetItem", refuse("ValidationException"))
    with pytest.raises(ClientError):
        dynamo.metadata.get(ANN, uuid4())


def test_keys_left_unprocessed_are_asked_for_again_and_the_order_is_kept(dynamo: Dynamo) -> None:
    images = [an_image(number=number) for number in range(6)]
    stored(dynamo, *images)

    def leave_out_most(request: dict[str, Any], answer: dict[str, Any]) -> None:
        ((table, asked),) = request["RequestItems"].items()
        answer["Responses"][table] = answer["Responses"][table][4:]
        kept = {item["image_id"]["S"] for item in answer["Responses"][table]}
        left = [key for key in asked["Keys"] if key["image_id"]["S"] not in kept]
        answer["UnprocessedKeys"] = {table: {**asked, "Keys": left}}

    dynamo.wire.next("BatchGetItem", edit(leave_out_most))
    assert listed(dynamo, ByTags(TAGS[:1])) == images[::-1]
    assert dynamo.wire.sent == ["Query", "BatchGetItem", "BatchGetItem"]


def test_keys_left_unprocessed_for_ever_are_unavailable(dynamo: Dynamo) -> None:
    stored(dynamo, an_image())

    def leave_out_all(request: dict[str, Any], answer: dict[str, Any]) -> None:
        answer.update(Responses={}, UnprocessedKeys=request["RequestItems"])

    dynamo.wire.always["BatchGetItem"] = edit(leave_out_all)
    with pytest.raises(Unavailable):
        listed(dynamo, ByTags(TAGS))


# ---- lost replies: moto forgets tokens, so each of these is settled by what is found


@pytest.fixture(params=[1, 3], ids=["tried again by us", "tried again by botocore"])
def lossy(request: pytest.FixtureRequest) -> Iterator[Dynamo]:
    with dynamodb_on_moto(patience=Waits().patience(), attempts=request.param) as dynamo:
        yield dynamo


@pytest.mark.parametrize("fingerprint", [None, "f"])
def test_a_reservation_whose_reply_was_lost_is_ours(lossy: Dynamo, fingerprint: str | None) -> None:
    image = an_image(fingerprint=fingerprint)
    reservation = a_reservation(image)
    lossy.wire.next("TransactWriteItems", lose_the_reply)
    assert lossy.metadata.reserve(reservation, at=NOW) is None
    assert lossy.wire.sent == ["TransactWriteItems"] * 2
    lossy.metadata.commit(image, holder=reservation.holder)
    assert lossy.metadata.get(ANN, image.image_id) == image


@pytest.mark.parametrize("fingerprint", [None, "f"])
def test_a_reservation_whose_reply_was_lost_counts_once(lossy: Dynamo, fingerprint: str | None) -> None:
    quota = Quota(images=1, size_bytes=1)
    lossy.wire.next("TransactWriteItems", lose_the_reply)
    assert lossy.metadata.reserve(a_reservation(an_image(fingerprint=fingerprint)), at=NOW, quota=quota) is None
    assert lossy.metadata.usage(ANN) == Usage(images=1, size_bytes=1)


def test_a_takeover_whose_reply_was_lost_counts_once(lossy: Dynamo) -> None:
    image = an_image(fingerprint="f")
    lossy.metadata.reserve(a_reservation(image), at=NOW)
    second = replace(a_reservation(image), size_bytes=5)
    lossy.wire.next("TransactWriteItems", lambda _, go: go(), lose_the_reply)
    assert lossy.metadata.reserve(second, at=NOW + HOUR, quota=Quota(images=1, size_bytes=5)) is None
    assert lossy.metadata.usage(ANN) == Usage(images=1, size_bytes=5)


def test_a_commit_whose_reply_was_lost_succeeds(lossy: Dynamo) -> None:
    image = an_image()
    reservation = a_reservation(image)
    lossy.metadata.reserve(reservation, at=NOW)
    lossy.wire.next("TransactWriteItems", lose_the_reply)
    lossy.metadata.commit(image, holder=reservation.holder)
    assert listed(lossy) == [image]


def test_an_update_whose_reply_was_lost_is_done_once(lossy: Dynamo) -> None:
    image = stored(lossy, an_image())
    lossy.wire.next("TransactWriteItems", lose_the_reply)
    revision = lossy.metadata.update(ANN, image.image_id, to(title=Title("New")), expected_version=1)
    assert revision.event is not None
    assert revision.image.version == 2
    assert lossy.metadata.get(ANN, image.image_id) == revision.image


def test_a_deletion_whose_reply_was_lost_succeeds(lossy: Dynamo) -> None:
    image = stored(lossy, an_image())
    lossy.wire.next("TransactWriteItems", lose_the_reply)
    gone = lossy.metadata.trash(ANN, image.image_id, at=NOW, due=NOW + HOUR)
    assert lossy.metadata.restore(ANN, image.image_id, at=NOW) == gone


def test_a_restoration_whose_reply_was_lost_succeeds(lossy: Dynamo) -> None:
    gone = trashed(lossy, an_image())
    lossy.wire.next("TransactWriteItems", lose_the_reply)
    assert lossy.metadata.restore(ANN, gone.image.image_id, at=NOW) == gone
    assert listed(lossy, ByTags(TAGS)) == [gone.image]


def test_a_claim_and_its_forgetting_whose_replies_were_lost_succeed(lossy: Dynamo) -> None:
    gone, claimant = trashed(lossy, an_image()), uuid4()
    lossy.wire.next("UpdateItem", lose_the_reply)
    lossy.wire.next("TransactWriteItems", lose_the_reply)
    image_id = gone.image.image_id
    assert lossy.metadata.claim(image_id, claimant=claimant, at=gone.due, until=gone.due + HOUR) == gone
    lossy.metadata.forget(image_id, claimant=claimant)
    assert list(lossy.metadata.due(NOW + 2 * HOUR)) == []
    assert lossy.metadata.usage(ANN) == Usage()


def test_an_abandonment_whose_reply_was_lost_succeeds(lossy: Dynamo) -> None:
    reservation = a_reservation(an_image())
    lossy.metadata.reserve(reservation, at=NOW)
    lossy.wire.next("UpdateItem", lose_the_reply)
    lossy.metadata.abandon(reservation.image_id, holder=reservation.holder, due=NOW + SECOND)
    assert list(lossy.metadata.due(NOW + SECOND)) == [reservation.image_id]


def test_a_transaction_sent_again_carries_its_token_and_a_cancelled_one_a_new_one(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    tokens: list[str] = []

    def note(request: dict[str, Any], _: dict[str, Any]) -> None:
        tokens.append(request["ClientRequestToken"])

    def lose(request: Any, go: Any) -> Any:
        edit(note)(request, go)
        return lose_the_reply(request, go)

    def cancel(request: Any, go: Any) -> Any:
        edit(note)(request, go)
        return refuse("TransactionCanceledException", "TransactionConflict")(request, go)

    dynamo.wire.next("TransactWriteItems", lose, cancel, edit(note))
    dynamo.metadata.trash(ANN, image.image_id, at=NOW, due=NOW + HOUR)
    assert tokens[0] == tokens[1] != tokens[2]


# ---- reservations


def test_a_takeover_needs_the_same_upload_and_an_ended_lease(dynamo: Dynamo) -> None:
    image = an_image(fingerprint="f")
    first, second = a_reservation(image), a_reservation(image)
    dynamo.metadata.reserve(first, at=NOW)
    with pytest.raises(Conflict) as refused:
        dynamo.metadata.reserve(second, at=NOW + 58.5 * SECOND)
    assert refused.value.retry_after_s == 2
    with pytest.raises(KeyReused):
        dynamo.metadata.reserve(replace(second, fingerprint="g"), at=first.lease_until)
    assert dynamo.metadata.reserve(second, at=first.lease_until) is None
    with pytest.raises(Conflict):
        dynamo.metadata.commit(image, holder=first.holder)
    dynamo.metadata.commit(image, holder=second.holder)


def test_an_id_given_out_twice_leaves_no_entry_beside_the_record(dynamo: Dynamo) -> None:
    image = stored(dynamo, an_image())
    assert dynamo.metadata.reserve(a_reservation(image), at=NOW) == image
    assert list(dynamo.metadata.due(NOW + HOUR)) == []


def test_what_is_to_be_taken_over_and_is_swept_meanwhile_is_reserved_anew(dynamo: Dynamo) -> None:
    image = an_image(fingerprint="f")
    first, second = a_reservation(image), a_reservation(image)
    dynamo.metadata.reserve(first, at=NOW)

    def sweep() -> None:
        claimant = uuid4()
        dynamo.metadata.claim(image.image_id, claimant=claimant, at=NOW + HOUR, until=NOW + 2 * HOUR)
        dynamo.metadata.forget(image.image_id, claimant=claimant)

    dynamo.wire.next("TransactWriteItems", lambda _, go: go(), after(sweep))
    assert dynamo.metadata.reserve(second, at=NOW + HOUR, quota=Quota(images=1, size_bytes=1)) is None
    assert dynamo.metadata.usage(ANN) == Usage(images=1, size_bytes=1)
    dynamo.metadata.commit(image, holder=second.holder)


# ---- usage


def test_the_quota_is_checked_in_the_transaction_that_reserves(dynamo: Dynamo) -> None:
    quota = Quota(images=1)
    dynamo.metadata.reserve(a_reservation(an_image()), at=NOW, quota=quota)
    dynamo.wire.sent.clear()
    with pytest.raises(QuotaExceeded):
        dynamo.metadata.reserve(a_reservation(an_image()), at=NOW, quota=quota)
    assert dynamo.wire.sent == ["TransactWriteItems"]


def test_reservations_of_one_owner_that_conflict_are_tried_again(dynamo: Dynamo) -> None:
    conflict = refuse("TransactionCanceledException", "None", "None", "TransactionConflict")
    dynamo.wire.next("TransactWriteItems", conflict, conflict)
    assert dynamo.metadata.reserve(a_reservation(an_image()), at=NOW, quota=Quota(images=1)) is None
    assert dynamo.metadata.usage(ANN) == Usage(images=1, size_bytes=1)


def test_usage_is_no_entry_that_a_sweeper_ever_meets(dynamo: Dynamo) -> None:
    reservation = a_reservation(an_image())
    dynamo.metadata.reserve(reservation, at=NOW)
    assert list(dynamo.metadata.due(datetime(9999, 1, 1, tzinfo=UTC))) == [reservation.image_id]


# ---- the sweeper's walk


def test_the_walk_over_what_is_due_goes_through_every_shard(dynamo: Dynamo) -> None:
    reservations = [a_reservation(an_image(image_id=UUID(int=number))) for number in range(48)]
    for reservation in reservations:
        dynamo.metadata.reserve(reservation, at=NOW)
    assert list(dynamo.metadata.due(NOW + HOUR - SECOND)) == []
    dynamo.wire.sent.clear()
    assert set(dynamo.metadata.due(NOW + HOUR)) == {reservation.image_id for reservation in reservations}
    assert dynamo.wire.sent == ["Query"] * len(SHARDS)


def test_the_walk_reads_no_further_than_it_is_asked_to(dynamo: Dynamo) -> None:
    for number in range(48):
        dynamo.metadata.reserve(a_reservation(an_image(image_id=UUID(int=number))), at=NOW)
    dynamo.wire.sent.clear()
    walk = dynamo.metadata.due(NOW + HOUR)
    assert dynamo.wire.sent == []
    next(walk)
    assert dynamo.wire.sent == ["Query"]


# ---- health


def test_a_ping_is_one_request(dynamo: Dynamo) -> None:
    dynamo.metadata.ping()
    assert dynamo.wire.sent == ["BatchGetItem"]


@pytest.mark.parametrize("fault", [never_arrive, refuse("ThrottlingException"), refuse("InternalServerError")])
def test_a_ping_is_not_tried_again(dynamo: Dynamo, fault: Any) -> None:
    dynamo.wire.next("BatchGetItem", fault)
    with pytest.raises(Unavailable):
        dynamo.metadata.ping()
    assert dynamo.wire.sent == ["BatchGetItem"]


@pytest.mark.parametrize("table", ["metadata", "postings", "reclaim"])
def test_a_ping_misses_a_table(dynamo: Dynamo, table: str) -> None:
    dynamo.client.delete_table(TableName=getattr(dynamo.tables, table))
    with pytest.raises(Unavailable):
        dynamo.metadata.ping()
