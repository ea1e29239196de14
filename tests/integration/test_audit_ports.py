"""The contracts of RecordAudit and ObjectAudit, over every adapter."""

import hashlib
import io
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.dynamodb import DynamoRecordAudit
from adapters.filesystem import FilesystemObjectAudit, FilesystemObjects
from adapters.memory import FixedClock, MemoryMetadata, MemoryObjectAudit, MemoryObjects, MemoryRecordAudit
from adapters.s3 import S3ObjectAudit
from adapters.sqlite import SqliteMetadata, SqliteRecordAudit
from application.ports import Estimate, FoundObject, ObjectAudit, ObjectStore, Posting, RecordAudit, StoredObject
from domain.errors import Conflict, NotFound, QuotaExceeded, Unavailable
from domain.image import Image, MetadataChange, object_prefix
from domain.quota import Quota, Usage
from domain.values import Filename, ImageId, MediaType, Tag, UserId, parse_tags
from tests.builders import (
    ANN,
    BOB,
    HOUR,
    INSTANT,
    MINUTE,
    NOON,
    SECOND,
    Catalog,
    a_reservation,
    an_image,
    reserved_for,
    stored,
)
from tests.integration.dynamodb_on_moto import Dynamo, after, dynamodb_on_moto, edit, lose_the_reply
from tests.integration.s3_on_moto import BUCKET, objects_on, s3_on_moto
from tests.integration.test_object_store import _NoHardLinks, _Unsynced

DAY = timedelta(days=1)

# ---- RecordAudit


@dataclass(frozen=True)
class Books:
    """A catalog, its audit, and a hand that adds and removes postings, and sets owners' usage, behind both."""

    catalog: Catalog
    audit: RecordAudit
    add: Callable[[Posting], object]
    lose: Callable[[Posting], object]
    record: Callable[[UserId, Usage], object]

    def postings(self) -> set[Posting]:
        return {posting for _, posting in self.audit.postings()}


@contextmanager
def _memory_books(folder: Path) -> Iterator[Books]:
    del folder
    catalog = MemoryMetadata()
    audit = MemoryRecordAudit(catalog)
    yield Books(catalog, audit, audit.dangling.add, audit.lost.add, audit.miscounted.__setitem__)


@contextmanager
def _sqlite_books(folder: Path) -> Iterator[Books]:
    path = folder / "catalog.sqlite3"

    def execute(statement: str, *parameters: object) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement, parameters)

    def write(statement: str, posting: Posting) -> None:
        micros = (posting.created_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        execute(statement, posting.owner, posting.tag, micros, posting.image_id.bytes)

    with SqliteMetadata(path) as catalog, SqliteRecordAudit(path) as audit:
        yield Books(
            catalog,
            audit,
            lambda posting: write("INSERT INTO postings VALUES (?, ?, ?, ?)", posting),
            lambda posting: write(
                "DELETE FROM postings WHERE owner = ? AND tag = ? AND created_at = ? AND image_id = ?", posting
            ),
            lambda owner, usage: execute(
                "INSERT OR REPLACE INTO usage VALUES (?, ?, ?)", owner, usage.images, usage.size_bytes
            ),
        )


@contextmanager
def _dynamodb_books(folder: Path) -> Iterator[Books]:
    del folder
    with dynamodb_on_moto() as dynamo:
        yield _books_on(dynamo)


def _books_on(dynamo: Dynamo) -> Books:
    def row(posting: Posting) -> Any:
        time = posting.created_at.replace(tzinfo=None).isoformat(timespec="microseconds")
        key = {"posting": f"{posting.owner}#tag#{posting.tag}", "position": f"{time}#{posting.image_id}"}
        return {name: {"S": text} for name, text in key.items()}

    def record(owner: UserId, usage: Usage) -> None:
        dynamo.client.update_item(
            TableName=dynamo.tables.reclaim,
            Key={"image_id": {"S": f"usage#{owner}"}},
            UpdateExpression="SET images = :images, size_bytes = :size_bytes",
            ExpressionAttributeValues={
                ":images": {"N": str(usage.images)},
                ":size_bytes": {"N": str(usage.size_bytes)},
            },
        )

    table = dynamo.tables.postings
    return Books(
        dynamo.metadata,
        DynamoRecordAudit(dynamo.client, dynamo.tables),
        lambda posting: dynamo.client.put_item(TableName=table, Item=row(posting)),
        lambda posting: dynamo.client.delete_item(TableName=table, Key=row(posting)),
        record,
    )


BOOKS: dict[str, Callable[[Path], AbstractContextManager[Books]]] = {
    "memory": _memory_books,
    "sqlite": _sqlite_books,
    "dynamodb": _dynamodb_books,
}


@pytest.fixture(params=BOOKS)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    with BOOKS[request.param](tmp_path) as opened:
        yield opened


def posting_of(image: Image, tag: str) -> Posting:
    return Posting(image.owner, Tag(tag), image.created_at, image.image_id)


class TestWalks:
    def test_every_record_of_every_owner_is_given_once(self, books: Books) -> None:
        images = [stored(books.catalog, an_image(owner=owner)) for owner in (ANN, BOB, ANN)]
        walk = [image for _, image in books.audit.records()]
        assert len(walk) == 3
        assert {image.image_id: image for image in walk} == {image.image_id: image for image in images}

    def test_every_posting_of_every_owner_is_given_once(self, books: Books) -> None:
        ann, bob = (stored(books.catalog, an_image(owner=owner, tags=["a#tag#b", "b"])) for owner in (ANN, BOB))
        walk = [posting for _, posting in books.audit.postings()]
        assert len(walk) == 4
        assert set(walk) == {posting_of(image, tag) for image in (ann, bob) for tag in ("a#tag#b", "b")}

    def test_a_walk_goes_on_behind_any_position_also_when_its_item_is_gone(self, books: Books) -> None:
        for number in range(5):
            stored(books.catalog, an_image(tags=[f"t{number}"]))
        walk = list(books.audit.records())
        for number, (position, image) in enumerate(walk, start=1):
            assert list(books.audit.records(after=position)) == walk[number:]
            books.catalog.trash(image.owner, image.image_id, at=NOON, due=NOON + HOUR)
            assert list(books.audit.records(after=position)) == walk[number:]

    def test_a_walk_of_postings_goes_on_behind_any_position_also_when_its_item_is_gone(self, books: Books) -> None:
        for number in range(3):
            stored(books.catalog, an_image(tags=[f"t{number}", "all"]))
        walk = list(books.audit.postings())
        for number, (position, posting) in enumerate(walk, start=1):
            assert list(books.audit.postings(after=position)) == walk[number:]
            books.lose(posting)
            assert list(books.audit.postings(after=position)) == walk[number:]

    def test_what_is_in_the_trash_or_only_reserved_is_no_record(self, books: Books) -> None:
        trashed = stored(books.catalog, an_image(tags=["a"]))
        books.catalog.trash(trashed.owner, trashed.image_id, at=NOON, due=NOON + HOUR)
        books.catalog.reserve(a_reservation(), at=NOON)
        assert list(books.audit.records()) == []
        assert list(books.audit.postings()) == []

    def test_the_estimate_is_about_right(self, books: Books) -> None:
        stored(books.catalog, an_image(tags=["a", "b"]))
        assert books.audit.estimate() == Estimate(records=1, postings=2)


class TestStanding:
    def test_it_tells_each_stage_of_an_image_whoever_owns_it(self, books: Books) -> None:
        image = an_image(owner=BOB)
        reservation = reserved_for(image)
        assert books.audit.standing(image.image_id) == (None, False)
        books.catalog.reserve(reservation, at=NOON)
        assert books.audit.standing(image.image_id) == (None, True)
        books.catalog.commit(image, holder=reservation.holder)
        assert books.audit.standing(image.image_id) == (image, False)
        books.catalog.trash(BOB, image.image_id, at=NOON, due=NOON)
        assert books.audit.standing(image.image_id) == (None, True)
        claimant = uuid.uuid4()
        books.catalog.claim(image.image_id, claimant=claimant, at=NOON, until=NOON + MINUTE)
        assert books.audit.standing(image.image_id) == (None, True)
        books.catalog.forget(image.image_id, claimant=claimant)
        assert books.audit.standing(image.image_id) == (None, False)


class TestPostings:
    def test_sound_books_have_no_faults(self, books: Books) -> None:
        image = stored(books.catalog, an_image(tags=["a", "b"]))
        assert books.audit.unposted(image) == ()
        assert not books.audit.is_dangling(posting_of(image, "a"))
        assert not books.audit.mend(posting_of(image, "a"))

    def test_a_lost_posting_is_told_and_added_once(self, books: Books) -> None:
        image = stored(books.catalog, an_image(tags=["a", "b", "c"]))
        for tag in ("c", "a"):
            books.lose(posting_of(image, tag))
        assert books.audit.unposted(image) == ("a", "c")
        assert books.audit.mend(posting_of(image, "a"))
        assert not books.audit.mend(posting_of(image, "a"))
        assert books.audit.unposted(image) == ("c",)
        assert books.postings() == {posting_of(image, "a"), posting_of(image, "b")}

    def test_of_a_record_that_changed_meanwhile_nothing_is_told(self, books: Books) -> None:
        image = stored(books.catalog, an_image(tags=["a", "b"]))
        change = MetadataChange(tags=parse_tags(["b"]))
        books.catalog.update(ANN, image.image_id, lambda each: each.revised(change, at=NOON + SECOND))
        assert books.audit.unposted(image) == ()
        assert not books.audit.is_dangling(posting_of(image, "a"))
        books.catalog.trash(ANN, image.image_id, at=NOON, due=NOON + HOUR)
        assert books.audit.unposted(image) == ()
        assert not books.audit.is_dangling(posting_of(image, "b"))

    def test_a_posting_needs_a_record_with_its_owner_time_and_tag(self, books: Books) -> None:
        image = stored(books.catalog, an_image(owner=ANN, tags=["a"]))
        right = posting_of(image, "a")
        wrong = [
            right._replace(tag=Tag("b")),
            right._replace(owner=BOB),
            right._replace(created_at=NOON + INSTANT),
            right._replace(image_id=uuid.uuid4()),
        ]
        for posting in wrong:
            books.add(posting)
        assert [books.audit.is_dangling(posting) for posting in (right, *wrong)] == [False, True, True, True, True]
        assert [books.audit.mend(posting) for posting in (right, *wrong)] == [False, True, True, True, True]
        assert books.postings() == {right}

    def test_mending_looks_again_and_adds_nothing_that_a_revision_took_away(self, books: Books) -> None:
        image = stored(books.catalog, an_image(tags=["a", "b"]))
        books.lose(posting_of(image, "a"))
        change = MetadataChange(tags=parse_tags(["b"]))
        books.catalog.update(ANN, image.image_id, lambda each: each.revised(change, at=NOON + SECOND))
        books.audit.mend(posting_of(image, "a"))
        assert books.postings() == {posting_of(image, "b")}


class TestUsage:
    def miscounts(self, books: Books) -> list[tuple[UserId, Usage, Usage]]:
        return [(each.owner, each.recorded, each.actual) for each in books.audit.miscounts()]

    def test_sound_books_have_no_miscount_at_any_stage_of_an_image(self, books: Books) -> None:
        image = an_image(size_bytes=7)
        reservation = reserved_for(image)
        claimant = uuid.uuid4()
        for step in (
            lambda: books.catalog.reserve(a_reservation(owner=BOB), at=NOON),
            lambda: books.catalog.reserve(reservation, at=NOON),
            lambda: books.catalog.commit(image, holder=reservation.holder),
            lambda: books.catalog.trash(ANN, image.image_id, at=NOON, due=NOON),
            lambda: books.catalog.claim(image.image_id, claimant=claimant, at=NOON, until=NOON + MINUTE),
            lambda: books.catalog.forget(image.image_id, claimant=claimant),
        ):
            assert self.miscounts(books) == []
            step()
        assert self.miscounts(books) == []

    def test_every_owner_whose_usage_is_wrong_is_told_in_their_order_and_put_right_once(self, books: Books) -> None:
        cy = UserId("cy")
        for owner in (ANN, BOB, cy):
            image = stored(books.catalog, an_image(owner=owner, size_bytes=5))
            stored(books.catalog, an_image(owner=owner, size_bytes=2))
            books.catalog.reserve(a_reservation(owner=owner, size_bytes=1), at=NOON)
            books.catalog.trash(owner, image.image_id, at=NOON, due=NOON + HOUR)
        right = Usage(images=3, size_bytes=8)
        books.record(cy, Usage(images=3, size_bytes=9))
        books.record(ANN, Usage())
        found = list(books.audit.miscounts())
        assert self.miscounts(books) == [
            (ANN, Usage(), right),
            (cy, Usage(images=3, size_bytes=9), right),
        ]
        assert [books.audit.recount(miscount) for miscount in found] == [True, True]
        assert [books.audit.recount(miscount) for miscount in found] == [False, False]
        assert self.miscounts(books) == []
        assert [books.catalog.usage(owner) for owner in (ANN, BOB, cy)] == [right] * 3

    def test_usage_of_who_has_nothing_is_put_right_too(self, books: Books) -> None:
        books.record(BOB, Usage(images=1, size_bytes=5))
        (miscount,) = books.audit.miscounts()
        assert books.audit.recount(miscount)
        assert books.catalog.usage(BOB) == Usage()
        assert self.miscounts(books) == []

    def test_a_repair_counts_what_is_there_when_it_acts_or_leaves_it(self, books: Books) -> None:
        stored(books.catalog, an_image(size_bytes=5))
        books.record(ANN, Usage(images=1, size_bytes=6))
        (miscount,) = books.audit.miscounts()
        books.catalog.reserve(a_reservation(size_bytes=1), at=NOON)
        books.audit.recount(miscount)
        for miscount in books.audit.miscounts():
            assert books.audit.recount(miscount)
        assert self.miscounts(books) == []

    def test_a_hold_counts_against_nobody(self, books: Books) -> None:
        auditor = UserId("calotype-audit")  # a name like any other, for an owner
        released, swept = uuid.uuid4(), uuid.uuid4()
        for image_id in (released, swept):
            claimant = uuid.uuid4()
            assert books.audit.hold(image_id, claimant=claimant, until=NOON + MINUTE)
            assert self.miscounts(books) == []
            if image_id == released:
                books.audit.release(image_id, claimant=claimant)
        claimant = uuid.uuid4()
        books.catalog.claim(swept, claimant=claimant, at=NOON + MINUTE, until=NOON + HOUR)
        books.catalog.forget(swept, claimant=claimant)
        assert books.catalog.usage(auditor) == Usage()
        assert self.miscounts(books) == []


class TestHold:
    def hold(self, books: Books, image_id: ImageId) -> uuid.UUID | None:
        claimant = uuid.uuid4()
        return claimant if books.audit.hold(image_id, claimant=claimant, until=NOON + MINUTE) else None

    def test_an_id_that_nobody_knows_is_held_against_uploads_until_it_is_released(self, books: Books) -> None:
        image = an_image(fingerprint="f")
        claimant = self.hold(books, image.image_id)
        assert claimant is not None
        with pytest.raises(Conflict) as refusal:
            books.catalog.reserve(reserved_for(image), at=NOON)
        assert (type(refusal.value), refusal.value.retry_after_s) == (Conflict, 1)
        books.audit.release(image.image_id, claimant=claimant)
        books.audit.release(image.image_id, claimant=claimant)
        assert stored(books.catalog, image) == image

    def test_an_id_that_is_reserved_stored_trashed_or_held_is_refused(self, books: Books) -> None:
        reserved, image = a_reservation(), stored(books.catalog, an_image(owner=BOB))
        books.catalog.reserve(reserved, at=NOON)
        assert self.hold(books, reserved.image_id) is None
        assert self.hold(books, image.image_id) is None
        assert books.audit.standing(image.image_id) == (image, False)
        books.catalog.trash(BOB, image.image_id, at=NOON, due=NOON + HOUR)
        assert self.hold(books, image.image_id) is None
        assert books.catalog.restore(BOB, image.image_id, at=NOON).image == image
        unknown = uuid.uuid4()
        assert self.hold(books, unknown) is not None
        assert self.hold(books, unknown) is None

    def test_only_its_claimant_can_release_it(self, books: Books) -> None:
        image_id = uuid.uuid4()
        assert self.hold(books, image_id) is not None
        books.audit.release(image_id, claimant=uuid.uuid4())
        assert books.audit.standing(image_id).has_entry

    def test_a_sweeper_collects_it_once_its_time_is_over_and_not_before(self, books: Books) -> None:
        image_id = uuid.uuid4()
        self.hold(books, image_id)

        def claim(at: datetime) -> object:
            return books.catalog.claim(image_id, claimant=uuid.uuid4(), at=at, until=at + MINUTE)

        assert claim(NOON + MINUTE - INSTANT) is None
        assert list(books.catalog.due(NOON + MINUTE)) == [image_id]
        assert claim(NOON + MINUTE) is not None


class TestOnDynamo:
    @pytest.fixture
    def dynamo(self) -> Iterator[Dynamo]:
        with dynamodb_on_moto() as dynamo:
            yield dynamo

    def test_a_scan_that_stops_short_of_the_end_goes_on_from_there(self, dynamo: Dynamo) -> None:
        books = _books_on(dynamo)
        images = [stored(books.catalog, an_image()) for _ in range(3)]

        def stop_after_the_first(request: dict[str, Any], answer: dict[str, Any]) -> None:
            assert request["ConsistentRead"]
            first = answer["Items"][0]
            answer["Items"] = [first]
            answer["LastEvaluatedKey"] = {name: first[name] for name in ("image_id", "user_id")}

        dynamo.wire.next("Scan", edit(stop_after_the_first), edit(stop_after_the_first))
        walk = [image for _, image in books.audit.records()]
        assert sorted(each.image_id for each in walk) == sorted(each.image_id for each in images)
        assert dynamo.wire.sent.count("Scan") == 3

    def test_an_upload_that_commits_just_before_the_hold_is_written_keeps_its_record_alone(
        self, dynamo: Dynamo
    ) -> None:
        books, image = _books_on(dynamo), an_image()
        dynamo.wire.next("PutItem", after(lambda: stored(books.catalog, image)))
        assert not books.audit.hold(image.image_id, claimant=uuid.uuid4(), until=NOON + MINUTE)
        assert books.audit.standing(image.image_id) == (image, False)

    def test_a_commit_between_the_reads_of_a_standing_is_not_missed(self, dynamo: Dynamo) -> None:
        books, image = _books_on(dynamo), an_image()
        reservation = reserved_for(image)
        books.catalog.reserve(reservation, at=NOON)
        dynamo.wire.next("GetItem", after(lambda: books.catalog.commit(image, holder=reservation.holder)))
        assert books.audit.standing(image.image_id) == (image, False)

    def test_a_hold_whose_reply_was_lost_is_ours(self, dynamo: Dynamo) -> None:
        books, image_id = _books_on(dynamo), uuid.uuid4()
        dynamo.wire.next("PutItem", lose_the_reply)
        assert books.audit.hold(image_id, claimant=uuid.uuid4(), until=NOON + MINUTE)

    def test_a_tables_images_from_before_there_was_usage_are_counted(self, dynamo: Dynamo) -> None:
        books = _books_on(dynamo)
        image = stored(books.catalog, an_image(size_bytes=5))
        books.catalog.trash(ANN, stored(books.catalog, an_image(size_bytes=2)).image_id, at=NOON, due=NOON + HOUR)
        dynamo.client.delete_item(TableName=dynamo.tables.reclaim, Key={"image_id": {"S": f"usage#{ANN}"}})
        (miscount,) = books.audit.miscounts()
        assert books.audit.recount(miscount)
        assert books.catalog.usage(ANN) == Usage(images=2, size_bytes=image.size_bytes + 2)
        with pytest.raises(QuotaExceeded):
            books.catalog.reserve(a_reservation(), at=NOON, quota=Quota(images=2))

    @pytest.mark.parametrize("moved", ["to the trash", "back", "reserved", "forgotten"])
    @pytest.mark.parametrize("scan", range(1, 7))
    def test_nobody_is_told_of_who_moves_an_image_while_it_is_counted(
        self, dynamo: Dynamo, scan: int, moved: str
    ) -> None:
        books, image = _books_on(dynamo), an_image(owner=BOB)
        stored(books.catalog, image)
        books.record(ANN, Usage(images=1, size_bytes=1))
        if moved != "to the trash":
            books.catalog.trash(BOB, image.image_id, at=NOON, due=NOON + HOUR)
        claimant = uuid.uuid4()
        if moved == "forgotten":
            books.catalog.claim(image.image_id, claimant=claimant, at=NOON + HOUR, until=NOON + 2 * HOUR)

        def move() -> None:
            match moved:
                case "to the trash":
                    books.catalog.trash(BOB, image.image_id, at=NOON, due=NOON + HOUR)
                case "back":
                    books.catalog.restore(BOB, image.image_id, at=NOON)
                case "reserved":
                    books.catalog.reserve(a_reservation(owner=BOB), at=NOON)
                case _:
                    books.catalog.forget(image.image_id, claimant=claimant)

        dynamo.wire.next("Scan", *[lambda _, go: go()] * (scan - 1), after(move))
        assert [each.owner for each in books.audit.miscounts()] == [ANN]

    def test_a_recount_changes_nothing_once_something_was_reserved_since(self, dynamo: Dynamo) -> None:
        books = _books_on(dynamo)
        books.record(ANN, Usage(images=1, size_bytes=1))
        (miscount,) = books.audit.miscounts()
        dynamo.wire.next("UpdateItem", after(lambda: books.catalog.reserve(a_reservation(), at=NOON)))
        assert not books.audit.recount(miscount)
        assert books.catalog.usage(ANN) == Usage(images=2, size_bytes=1_235)

    def test_a_recount_whose_reply_was_lost_is_done(self, dynamo: Dynamo) -> None:
        books = _books_on(dynamo)
        books.record(ANN, Usage(images=1, size_bytes=1))
        (miscount,) = books.audit.miscounts()
        dynamo.wire.next("UpdateItem", lose_the_reply)
        assert books.audit.recount(miscount)
        assert books.catalog.usage(ANN) == Usage()

    def test_a_revision_while_a_posting_is_mended_wins(self, dynamo: Dynamo) -> None:
        books = _books_on(dynamo)
        image = stored(books.catalog, an_image(tags=["a", "b"]))
        books.lose(posting_of(image, "a"))
        change = MetadataChange(tags=parse_tags(["b"]))

        def revise() -> None:
            books.catalog.update(ANN, image.image_id, lambda each: each.revised(change, at=NOON + SECOND))

        dynamo.wire.next("TransactWriteItems", after(revise))
        assert not books.audit.mend(posting_of(image, "a"))
        assert books.postings() == {posting_of(image, "b")}

    def test_a_row_of_another_shape_is_passed_over(self, dynamo: Dynamo) -> None:
        for posting, position in (("x", "y"), ("a#tag#b", "y"), ("a", f"2026-01-01T12:00:00.000000#{uuid.uuid4()}")):
            dynamo.client.put_item(
                TableName=dynamo.tables.postings, Item={"posting": {"S": posting}, "position": {"S": position}}
            )
        assert list(_books_on(dynamo).audit.postings()) == []


# ---- ObjectAudit


@dataclass(frozen=True)
class Depot:
    """An object store, its audit, and the clock that both go by."""

    objects: ObjectStore
    audit: ObjectAudit
    clock: FixedClock
    quarantined: Callable[[], dict[str, bytes]]
    """What lies in quarantine, by the end of its name."""

    def put(self, data: bytes = b"jpeg", *, image_id: ImageId | None = None, filename: str = "cat.jpg") -> str:
        image_id = image_id or uuid.uuid4()
        target = StoredObject(
            key=object_prefix(image_id) + Filename(filename),
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            media_type=MediaType.JPEG,
            owner=ANN,
            image_id=image_id,
        )
        self.objects.put(target, io.BytesIO(data), deadline=self.clock.now() + MINUTE)
        return target.key

    def only(self) -> FoundObject:
        (found,) = self.audit.objects()
        return found

    def all_keys(self) -> list[str | None]:
        return [found.key for found in self.audit.objects()]

    @property
    def soon(self) -> datetime:
        return self.clock.now() + MINUTE


@contextmanager
def _memory_depot(folder: Path) -> Iterator[Depot]:
    del folder
    clock = FixedClock()
    objects = MemoryObjects(clock)
    audit = MemoryObjectAudit(objects, clock)
    yield Depot(objects, audit, clock, lambda: {place: kept.data for (_, place), kept in audit.kept.items()})


def _filesystem_depot(disk: _Unsynced) -> Callable[[Path], AbstractContextManager[Depot]]:
    @contextmanager
    def depot(folder: Path) -> Iterator[Depot]:
        clock, root = FixedClock(), folder / "objects"
        objects = FilesystemObjects(root, clock=clock, public_url="http://x", secret=b"s" * 32, disk=disk)

        def quarantined() -> dict[str, bytes]:
            files = (path for path in root.glob("quarantine/**/*") if path.is_file())
            return {"/".join(path.relative_to(root).parts[2:]): path.read_bytes() for path in files}

        yield Depot(objects, FilesystemObjectAudit(root, clock=clock, disk=disk), clock, quarantined)

    return depot


@contextmanager
def _s3_depot(folder: Path) -> Iterator[Depot]:
    del folder
    clock = FixedClock()
    with s3_on_moto() as (client, _):

        def quarantined() -> dict[str, bytes]:
            found = client.list_objects_v2(Bucket=BUCKET, Prefix="quarantine/").get("Contents", ())
            return {
                each["Key"].split("/", 2)[2]: client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
                for each in found
            }

        yield Depot(objects_on(client, clock), S3ObjectAudit(client, BUCKET, clock), clock, quarantined)


DEPOTS = {
    "memory": _memory_depot,
    "filesystem": _filesystem_depot(_Unsynced()),
    "filesystem without hard links": _filesystem_depot(_NoHardLinks()),
    "s3": _s3_depot,
}


@pytest.fixture(params=DEPOTS)
def depot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Depot]:
    with DEPOTS[request.param](tmp_path) as opened:
        yield opened


class TestObjects:
    def test_each_object_is_given_with_what_is_known_of_it(self, depot: Depot) -> None:
        image_id = uuid.uuid4()
        key = depot.put(b"12345", image_id=image_id, filename="K\N{LATIN SMALL LETTER A WITH DIAERESIS}tze 1.jpg")
        found = depot.only()
        assert (found.key, found.image_id, found.size_bytes) == (key, image_id, 5)
        assert found.modified_at == depot.objects.head(key).modified_at.replace(
            microsecond=found.modified_at.microsecond
        )
        assert depot.audit.is_there(found)

    def test_the_walk_goes_on_behind_any_place_also_when_its_object_is_gone(self, depot: Depot) -> None:
        for number in range(4):
            depot.put(image_id=uuid.UUID(int=number % 3 + 1), filename=f"{number}.jpg")
        walk = list(depot.audit.objects())
        assert len(walk) == 4
        for number, found in enumerate(walk, start=1):
            assert list(depot.audit.objects(after=found.place)) == walk[number:]
            assert found.image_id is not None
            depot.objects.delete_prefix(object_prefix(found.image_id), deadline=depot.soon)
            rest = [each for each in walk[number:] if each.image_id != found.image_id]
            assert [each for each in depot.audit.objects(after=found.place) if each in rest] == rest

    def test_a_store_that_nobody_has_used_is_empty(self, depot: Depot) -> None:
        assert list(depot.audit.objects()) == []
        assert depot.audit.purge(before=NOON) == 0


class TestQuarantine:
    def test_an_object_is_copied_and_then_removed(self, depot: Depot) -> None:
        key, other = depot.put(b"stray"), depot.put(b"other")
        (found,) = (each for each in depot.audit.objects() if each.key == key)
        quarantined = depot.audit.quarantine(found, at=NOON)
        assert quarantined is not None
        assert depot.quarantined() == {found.place: b"stray"}
        assert sorted(each or "" for each in depot.all_keys()) == sorted([key, other])
        for _ in range(2):
            depot.audit.remove(quarantined, deadline=depot.soon)
            assert depot.all_keys() == [other]
        assert not depot.audit.is_there(found)
        with pytest.raises(NotFound):
            depot.objects.head(key)
        assert depot.quarantined() == {found.place: b"stray"}

    def test_quarantining_may_be_repeated(self, depot: Depot) -> None:
        depot.put(b"stray")
        found = depot.only()
        for _ in range(2):
            assert depot.audit.quarantine(found, at=NOON) is not None
        assert set(depot.quarantined().values()) == {b"stray"}

    def test_two_objects_under_one_key_on_one_day_are_both_kept(self, depot: Depot) -> None:
        image_id = uuid.uuid4()
        for data in (b"first", b"other"):
            depot.put(data, image_id=image_id)
            quarantined = depot.audit.quarantine(depot.only(), at=NOON)
            assert quarantined is not None
            depot.audit.remove(quarantined, deadline=depot.soon)
            depot.clock.advance()
        assert b"other" in depot.quarantined().values()

    def test_what_is_gone_or_another_by_now_is_not_copied(self, depot: Depot) -> None:
        image_id = uuid.uuid4()
        depot.put(b"stray", image_id=image_id)
        found = depot.only()
        depot.objects.delete_prefix(object_prefix(image_id), deadline=depot.soon)
        assert depot.audit.quarantine(found, at=NOON) is None
        depot.put(b"another", image_id=image_id)
        assert not depot.audit.is_there(found)
        assert depot.audit.quarantine(found, at=NOON) is None
        assert depot.quarantined() == {}

    def test_what_took_the_place_of_the_copied_one_is_not_removed(self, depot: Depot) -> None:
        image_id = uuid.uuid4()
        key = depot.put(b"stray", image_id=image_id)
        quarantined = depot.audit.quarantine(depot.only(), at=NOON)
        assert quarantined is not None
        depot.objects.delete_prefix(object_prefix(image_id), deadline=depot.soon)
        depot.put(b"stray", image_id=image_id)
        depot.audit.remove(quarantined, deadline=depot.soon)
        with closing(depot.objects.open(key)) as body:
            assert body.read() == b"stray"

    def test_nothing_is_removed_after_the_deadline(self, depot: Depot) -> None:
        key = depot.put()
        quarantined = depot.audit.quarantine(depot.only(), at=NOON)
        assert quarantined is not None
        with pytest.raises(Unavailable):
            depot.audit.remove(quarantined, deadline=depot.clock.now())
        assert depot.all_keys() == [key]

    def test_a_purge_takes_days_that_have_ended_and_nothing_else(self, depot: Depot) -> None:
        kept, purged = depot.put(b"kept"), depot.put(b"purged")
        days = {purged: NOON, kept: NOON + DAY}
        for found in list(depot.audit.objects()):
            quarantined = depot.audit.quarantine(found, at=days[found.key or ""])
            assert quarantined is not None
            depot.audit.remove(quarantined, deadline=depot.soon)
        stays = depot.put(b"stays")
        midnight = NOON.replace(hour=0) + DAY
        assert depot.audit.purge(before=midnight - INSTANT) == 0
        assert depot.audit.purge(before=midnight) == 1
        assert list(depot.quarantined().values()) == [b"kept"]
        assert depot.all_keys() == [stays]


class TestOnFiles:
    @pytest.fixture
    def depot(self, tmp_path: Path) -> Iterator[Depot]:
        with DEPOTS["filesystem"](tmp_path) as opened:
            yield opened

    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "objects"

    def test_unfinished_puts_have_an_image_and_no_key(self, depot: Depot, tmp_path: Path) -> None:
        image_id = uuid.uuid4()
        depot.put(image_id=image_id)
        (partials,) = self.root(tmp_path).glob("*/*/partial")
        (partials / f"{image_id}.00").write_bytes(b"half")
        (partials / "what").write_bytes(b"?")
        found = [each for each in depot.audit.objects() if each.key is None]
        assert [(each.image_id, each.size_bytes) for each in found] == [(image_id, 4), (None, 1)]

    def test_links_are_passed_over_and_never_followed(self, depot: Depot, tmp_path: Path) -> None:
        key = depot.put()
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_bytes(b"!")
        (self.root(tmp_path) / "link").symlink_to(outside)
        (self.root(tmp_path) / "link-to-file").symlink_to(outside / "precious")
        assert depot.all_keys() == [key]

    def test_a_name_that_is_no_text_can_be_quarantined(self, depot: Depot, tmp_path: Path) -> None:
        path = os.fsencode(self.root(tmp_path)) + b"/\xff\xfe"
        with open(path, "wb") as file:  # noqa: PTH123 (pathlib knows no bytes paths)
            file.write(b"?")
        found = depot.only()
        quarantined = depot.audit.quarantine(found, at=NOON)
        assert quarantined is not None
        depot.audit.remove(quarantined, deadline=depot.soon)
        assert list(depot.audit.objects()) == []
        assert list(depot.quarantined().values()) == [b"?"]

    def test_a_file_that_was_written_to_since_it_was_found_is_another(self, depot: Depot, tmp_path: Path) -> None:
        depot.put(b"12345")
        found = depot.only()
        (self.root(tmp_path) / found.place).write_bytes(b"54321")
        os.utime(self.root(tmp_path) / found.place, (1, 1))
        assert not depot.audit.is_there(found)

    def test_a_file_of_the_same_size_and_time_is_still_another(self, depot: Depot, tmp_path: Path) -> None:
        image_id = uuid.uuid4()
        depot.put(image_id=image_id)
        found = depot.only()
        path = self.root(tmp_path) / found.place
        time_ns = path.stat().st_mtime_ns
        quarantined = depot.audit.quarantine(found, at=NOON)
        assert quarantined is not None
        depot.objects.delete_prefix(object_prefix(image_id), deadline=depot.soon)
        depot.put(image_id=image_id)
        os.utime(path, ns=(time_ns, time_ns))
        depot.audit.remove(quarantined, deadline=depot.soon)
        assert depot.only() == found

    def test_the_copy_is_durable_before_the_original_goes(self, tmp_path: Path) -> None:
        calls: list[str] = []

        class Recorded(_Unsynced):
            def sync_folder(self, path: bytes) -> None:
                calls.append(f"sync {os.path.relpath(os.fsdecode(path), self_root)}")

            def link(self, source: bytes, target: bytes) -> None:
                calls.append(f"link {os.path.relpath(os.fsdecode(target), self_root)}")
                super().link(source, target)

            def unlink(self, path: bytes | str, *, dir_fd: int | None = None) -> None:
                calls.append("unlink")
                super().unlink(path, dir_fd=dir_fd)

        self_root = self.root(tmp_path)
        with _filesystem_depot(Recorded())(tmp_path) as depot:
            depot.put()
            found = depot.only()
            calls.clear()
            quarantined = depot.audit.quarantine(found, at=NOON)
            assert quarantined is not None
            depot.audit.remove(quarantined, deadline=depot.soon)
        copy = f"quarantine/2026-01-01/{found.place}"
        link, unlink = calls.index(f"link {copy}"), calls.index("unlink")
        assert calls.index(f"sync {os.path.dirname(copy)}") in range(link, unlink)  # noqa: PTH120
        assert "sync quarantine" in calls[:link]
        assert calls[unlink + 1] == f"sync {os.path.dirname(found.place)}"  # noqa: PTH120


class TestOnS3:
    @pytest.fixture
    def depot(self, tmp_path: Path) -> Iterator[Depot]:
        with DEPOTS["s3"](tmp_path) as opened:
            yield opened

    def test_a_key_that_no_upload_makes_has_no_image(self, depot: Depot) -> None:
        audit = depot.audit
        assert isinstance(audit, S3ObjectAudit)
        audit.client.put_object(Bucket=BUCKET, Key="images/readme", Body=b"?")
        audit.client.put_object(Bucket=BUCKET, Key="elsewhere/x", Body=b"not ours")
        found = depot.only()
        assert (found.place, found.key, found.image_id) == ("images/readme", None, None)

    def test_a_walk_of_several_pages_gives_each_object_once(self, depot: Depot) -> None:
        audit = depot.audit
        assert isinstance(audit, S3ObjectAudit)
        keys = sorted(f"images/{uuid.uuid4()}/x" for _ in range(1001))
        for key in keys:
            audit.client.put_object(Bucket=BUCKET, Key=key, Body=b"")
        assert depot.all_keys() == keys

    def test_in_a_bucket_without_versions_nothing_is_quarantined(self, depot: Depot) -> None:
        audit = depot.audit
        assert isinstance(audit, S3ObjectAudit)
        bucket = "unversioned"
        audit.client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        audit.client.put_object(Bucket=bucket, Key="images/x", Body=b"?")
        unversioned = S3ObjectAudit(audit.client, bucket, depot.clock)
        (found,) = unversioned.objects()
        with pytest.raises(Unavailable, match="versioned"):
            unversioned.quarantine(found, at=NOON)
        assert unversioned.is_there(found)
