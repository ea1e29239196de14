"""What is special to the SQLite catalog: its file, its migrations, other processes, failures, and query plans."""

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.sqlite import CatalogCopy, SqliteMetadata, known
from adapters.sqlite.schema import MIGRATIONS
from application.ports import ByOwner, ByTags, ByTitle, Filter, Position
from domain.errors import NotFound, Unavailable
from domain.image import Image, MetadataChange, Revision
from domain.quota import Usage
from domain.values import Description, Tag, Title, parse_tags
from tests.builders import ANN, BOB, HOUR, INSTANT, MINUTE, NOON, a_reservation, an_image, stored
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[SqliteMetadata]:
    with SqliteMetadata(path, busy_timeout_s=0.2) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteMetadata]:
    with SqliteMetadata(tmp_path_factory.mktemp("shared") / "catalog.sqlite3") as opened:
        opened._writer.fetch("PRAGMA synchronous = OFF")
        yield opened


def retitled(image: Image) -> Revision:
    return image.revised(MetadataChange(title=Title("Dog"), tags=parse_tags(["new"])), at=NOON)


CALLS: dict[str, Callable[[SqliteMetadata, Image], object]] = {
    "reserve": lambda catalog, _: catalog.reserve(a_reservation(), at=NOON),
    "commit": lambda catalog, image: catalog.commit(image, holder=image.image_id),
    "update": lambda catalog, image: catalog.update(ANN, image.image_id, retitled),
    "trash": lambda catalog, image: catalog.trash(ANN, image.image_id, at=NOON, due=NOON),
    "restore": lambda catalog, image: catalog.restore(ANN, image.image_id, at=NOON),
    "due": lambda catalog, _: list(catalog.due(NOON)),
    "claim": lambda catalog, image: catalog.claim(image.image_id, claimant=image.image_id, at=NOON, until=NOON),
    "forget": lambda catalog, image: catalog.forget(image.image_id, claimant=image.image_id),
    "ping": lambda catalog, _: catalog.ping(),
    "get": lambda catalog, image: catalog.get(ANN, image.image_id),
    "page": lambda catalog, _: catalog.page(ANN, ByOwner(), limit=9),
    "page by all tags": lambda catalog, _: catalog.page(ANN, ByTags(parse_tags(["a", "b"]), "all"), limit=9),
    "count": lambda catalog, _: catalog.count(ANN),
    "usage": lambda catalog, _: catalog.usage(ANN),
    "abandon": lambda catalog, image: catalog.abandon(image.image_id, holder=image.image_id, due=NOON),
}


class TestTheFile:
    def test_what_was_acknowledged_is_there_when_it_is_opened_again(self, path: Path) -> None:
        with SqliteMetadata(path) as first:
            image = stored(first, an_image(tags=["a"]))
            reservation = a_reservation()
            first.reserve(reservation, at=NOON)
        with SqliteMetadata(path) as second:
            assert second.page(ANN, ByTags(parse_tags(["a"])), limit=9).images == (image,)
            assert list(second.due(reservation.due)) == [reservation.image_id]

    def test_every_commit_reaches_the_disk(self, catalog: SqliteMetadata) -> None:
        for session in (catalog._writer, catalog._reader):
            assert session.fetch("PRAGMA journal_mode") == [("wal",)]
            assert session.fetch("PRAGMA synchronous") == [(2,)]
            assert session.fetch("PRAGMA foreign_keys") == [(1,)]

    def test_nobody_else_on_the_machine_can_read_it(self, catalog: SqliteMetadata, path: Path) -> None:
        catalog.reserve(a_reservation(), at=NOON)
        assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}

    def test_who_opens_and_closes_it_meanwhile_is_not_the_last_to_have_it(
        self, catalog: SqliteMetadata, path: Path
    ) -> None:
        # Found by the state machine over HTTP, as "database disk image is malformed": to make sure of its mode, the
        # file was opened and closed beside SQLite, which took SQLite's locks away. The next process to close the
        # catalog then thought itself the last, and removed the log that this one goes on writing to.
        catalog.reserve(a_reservation(), at=NOON)
        with SqliteMetadata(path):
            pass
        script = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM images'); db.close()"
        )
        subprocess.run([sys.executable, "-c", script, path], check=True)
        assert path.with_name(f"{path.name}-wal").exists()

    def test_a_closed_catalog_is_one_plain_file_and_two_empty_ones(self, path: Path) -> None:
        with SqliteMetadata(path) as catalog:
            stored(catalog, an_image())
        assert {file.name: file.stat().st_size > 0 for file in path.parent.iterdir()} == {
            path.name: True,
            f"{path.name}-turn": False,
            f"{path.name}-next": False,
        }

    @pytest.mark.parametrize("name", ["no such folder/catalog.sqlite3", "folder"])
    def test_a_path_that_can_not_be_opened_is_unavailable(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(Unavailable, match="can't be opened"):
            SqliteMetadata(tmp_path / name)

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"not a database, and longer than a header of one hundred bytes" * 9)
        before = path.read_bytes()
        with pytest.raises(Unavailable, match="not a database"):
            SqliteMetadata(path, busy_timeout_s=0.1)
        assert path.read_bytes() == before


class TestMigrations:
    def test_a_new_file_has_the_latest_version(self, catalog: SqliteMetadata) -> None:
        assert catalog._reader.fetch("PRAGMA user_version") == [(len(MIGRATIONS),)]

    def test_a_file_of_a_newer_version_is_refused_and_left_alone(self, path: Path) -> None:
        SqliteMetadata(path).close()
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 999")
        with pytest.raises(Unavailable, match=r"schema version 999 .* newer Calotype"):
            SqliteMetadata(path)
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (999,)

    def test_an_older_file_gets_only_the_steps_it_lacks(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with SqliteMetadata(path) as catalog:
            image = stored(catalog, an_image())
        monkeypatch.setattr("adapters.sqlite.schema.MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE later (x)",)))
        with SqliteMetadata(path) as catalog:
            assert catalog.get(ANN, image.image_id) == image
            assert catalog._reader.fetch("SELECT * FROM later") == []
            assert catalog._reader.fetch("PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]

    def test_a_file_from_before_there_were_quotas_has_all_that_is_stored_counted(self, path: Path) -> None:
        odd = 'a "size_bytes": 9, "size_bytes\\": 8'
        with SqliteMetadata(path) as catalog:
            stored(catalog, an_image(owner=ANN, size_bytes=10))
            reserved = a_reservation(fingerprint="f", size_bytes=500)
            catalog.reserve(reserved, at=NOON)
            for owner, size_bytes in ((ANN, 25 * 1024 * 1024), (BOB, 300)):
                trashed = stored(catalog, an_image(owner=owner, size_bytes=size_bytes, description=odd, filename=odd))
                catalog.trash(owner, trashed.image_id, at=NOON, due=NOON + HOUR)
        with closing(sqlite3.connect(path)) as db:
            # As it was: SQLite drops columns since 3.35 only.
            (entries,) = [statement for statement in MIGRATIONS[0] if "CREATE TABLE reclaim" in statement]
            db.execute("CREATE TABLE before AS SELECT * FROM reclaim")
            db.execute("DROP TABLE reclaim")
            db.execute(entries)
            db.execute(
                """INSERT INTO reclaim SELECT image_id, kind, owner, due, holder, lease_until, fingerprint, deleted_at,
                record, claimant, claimed_until FROM before"""
            )
            db.executescript("DROP TABLE before; DROP TABLE usage; PRAGMA user_version = 1")
        with SqliteMetadata(path) as catalog:
            assert catalog.usage(ANN) == Usage(images=2, size_bytes=10 + 25 * 1024 * 1024)
            assert catalog.usage(BOB) == Usage(images=1, size_bytes=300)
            assert_consistent(catalog)
            claimant = uuid4()
            for image_id in list(catalog.due(NOON + HOUR)):
                catalog.claim(image_id, claimant=claimant, at=NOON + HOUR, until=NOON + 2 * HOUR)
                catalog.forget(image_id, claimant=claimant)
            assert catalog.usage(ANN) == Usage(images=1, size_bytes=10)
            assert_consistent(catalog)

    @pytest.mark.parametrize("opened_as", [SqliteMetadata, CatalogCopy])
    def test_a_file_whose_entries_had_row_numbers_keeps_them_all(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, opened_as: type[SqliteMetadata | CatalogCopy]
    ) -> None:
        claimant, until = uuid4(), NOON + 2 * HOUR
        with _version_2(path, monkeypatch) as catalog:
            reserved = a_reservation(fingerprint="f", size_bytes=500)
            reservations = [reserved, a_reservation(size_bytes=None), a_reservation()]
            for reservation in reservations:
                catalog.reserve(reservation, at=NOON)
            trashed = [stored(catalog, an_image(description=words)) for words in ("", "", "\U0001f4f7" * 5000)]
            for image in trashed:
                catalog.trash(ANN, image.image_id, at=NOON, due=NOON + HOUR)
            claimed = [reservations[2].image_id, trashed[1].image_id]
            for image_id in claimed:
                assert catalog.claim(image_id, claimant=claimant, at=NOON + HOUR, until=until) is not None
            before = _entries(catalog)
        opened_as(path).__exit__(None, None, None)
        with SqliteMetadata(path) as catalog:
            assert _entries(catalog) == before
            assert_consistent(catalog)
            assert {image.image_id for image in trashed} <= set(catalog.due(NOON + HOUR))
            for image_id in claimed:
                assert catalog.claim(image_id, claimant=uuid4(), at=NOON + HOUR, until=until) is None
            for image in (trashed[0], trashed[2]):
                assert catalog.restore(ANN, image.image_id, at=NOON).image == image
            catalog.commit(an_image(image_id=reserved.image_id, owner=reserved.owner), holder=reserved.holder)

    def test_a_file_whose_entries_had_row_numbers_is_as_strict_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        columns = "SELECT name, type, \"notnull\" OR pk FROM pragma_table_info('reclaim')"
        with _version_2(path, monkeypatch) as catalog:
            before = catalog._reader.fetch(columns)
        with SqliteMetadata(path) as catalog:
            assert catalog._reader.fetch(columns) == before
            indices = catalog._reader.fetch(
                "SELECT name FROM sqlite_master WHERE tbl_name = 'reclaim' AND type = 'index'"
            )
            assert indices == [("reclaim_by_due",)]
            indexed = catalog._reader.fetch("SELECT name FROM pragma_index_info('reclaim_by_due') ORDER BY seqno")
            assert indexed == [("due",), ("image_id",)]
        with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            db.execute("INSERT INTO reclaim (image_id, kind, owner, due) VALUES (x'00', 'other', 'ann', 1)")

    def test_who_has_a_file_open_that_another_brings_up_to_date_goes_on(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with _version_2(path, monkeypatch) as old:
            reserved, image = a_reservation(), stored(old, an_image())
            old.reserve(reserved, at=NOON)
            old.trash(ANN, image.image_id, at=NOON, due=NOON + HOUR)
            with SqliteMetadata(path) as new:
                assert old.restore(ANN, image.image_id, at=NOON).image == image
                old.commit(an_image(image_id=reserved.image_id, owner=reserved.owner), holder=reserved.holder)
                old.trash(ANN, image.image_id, at=NOON, due=NOON + HOUR)
                assert image.image_id in new.due(NOON + HOUR)
                assert new.get(reserved.owner, reserved.image_id).image_id == reserved.image_id
                assert_consistent(new)

    def test_a_migration_that_fails_leaves_the_file_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        SqliteMetadata(path).close()
        broken = ("CREATE TABLE later (x)", "CREATE TABLE later (x)")
        with monkeypatch.context() as patch:
            patch.setattr("adapters.sqlite.schema.MIGRATIONS", (*MIGRATIONS, broken))
            with pytest.raises(Unavailable, match="table later already exists"):
                SqliteMetadata(path)
        with SqliteMetadata(path) as catalog:
            assert catalog._reader.fetch("PRAGMA user_version") == [(len(MIGRATIONS),)]
            assert catalog._reader.fetch("SELECT * FROM sqlite_master WHERE name = 'later'") == []

    def test_opening_a_new_file_waits_for_who_is_just_making_it(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            done = threading.Timer(0.1, other.rollback)
            done.start()
            try:
                SqliteMetadata(path, busy_timeout_s=PATIENCE_S).close()
            finally:
                done.join()

    def test_threads_that_open_a_new_file_at_once_agree(self, path: Path) -> None:
        def open_and_store(_: int) -> Image:
            with SqliteMetadata(path, busy_timeout_s=PATIENCE_S) as catalog:
                return stored(catalog, an_image())

        with ThreadPoolExecutor(8) as pool:
            images = list(pool.map(open_and_store, range(8)))
        with SqliteMetadata(path) as catalog:
            assert set(catalog.page(ANN, ByOwner(), limit=9).images) == set(images)


@contextmanager
def _version_2(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteMetadata]:
    with monkeypatch.context() as patch:
        patch.setattr("adapters.sqlite.schema.MIGRATIONS", MIGRATIONS[:2])
        catalog = SqliteMetadata(path)
    with catalog:
        yield catalog


def _entries(catalog: SqliteMetadata) -> list[tuple[Any, ...]]:
    return catalog._reader.fetch("SELECT * FROM reclaim ORDER BY image_id")


class TestFailures:
    @pytest.mark.parametrize("call", CALLS)
    def test_every_call_on_a_closed_catalog_is_unavailable(self, path: Path, call: str) -> None:
        catalog = SqliteMetadata(path)
        image = stored(catalog, an_image())
        catalog.close()
        catalog.close()
        with pytest.raises(Unavailable) as failure:
            CALLS[call](catalog, image)
        assert isinstance(failure.value.__cause__, sqlite3.Error | OSError)

    @pytest.mark.parametrize("call", ["reserve", "update", "trash"])
    def test_a_write_to_a_read_only_file_is_unavailable_and_changes_nothing(
        self, catalog: SqliteMetadata, call: str
    ) -> None:
        image = stored(catalog, an_image(tags=["a"]))
        catalog._writer.fetch("PRAGMA query_only = ON")
        with pytest.raises(Unavailable):
            CALLS[call](catalog, image)
        assert catalog.get(ANN, image.image_id) == image
        catalog._writer.fetch("PRAGMA query_only = OFF")
        CALLS[call](catalog, image)

    def test_a_write_to_a_full_disk_is_unavailable_and_changes_nothing(self, catalog: SqliteMetadata) -> None:
        image = stored(catalog, an_image(tags=["a"]))
        change = MetadataChange(description=Description("long " * 900), tags=parse_tags(["b"]))
        with full(catalog), pytest.raises(Unavailable):
            catalog.update(ANN, image.image_id, lambda found: found.revised(change, at=NOON))
        assert catalog.get(ANN, image.image_id) == image
        assert_consistent(catalog)
        catalog.update(ANN, image.image_id, lambda found: found.revised(change, at=NOON))

    @pytest.mark.parametrize("call", ["reserve", "commit", "update", "trash", "restore", "claim", "forget"])
    def test_a_write_waits_only_so_long_for_another_process(self, catalog: SqliteMetadata, call: str) -> None:
        image = stored(catalog, an_image())
        with locked(catalog), pytest.raises(Unavailable, match="failed"):
            CALLS[call](catalog, image)
        catalog.update(ANN, image.image_id, retitled)

    def test_a_read_does_not_wait_for_a_writer(self, catalog: SqliteMetadata) -> None:
        image = stored(catalog, an_image())

        def reading_meanwhile(found: Image) -> Revision:
            assert catalog.get(ANN, image.image_id) == image
            return retitled(found)

        catalog.update(ANN, image.image_id, reading_meanwhile)

    def test_a_thread_waits_only_so_long_for_another(self, catalog: SqliteMetadata) -> None:
        image = stored(catalog, an_image())
        entered, leave = threading.Event(), threading.Event()

        def slow(found: Image) -> Revision:
            entered.set()
            assert leave.wait(timeout=PATIENCE_S)
            return retitled(found)

        with ThreadPoolExecutor(1) as pool:
            update = pool.submit(catalog.update, ANN, image.image_id, slow)
            assert entered.wait(timeout=PATIENCE_S)
            with pytest.raises(Unavailable, match="busy"):
                catalog.reserve(a_reservation(), at=NOON)
            leave.set()
            assert update.result().image.version == 2

    def test_an_error_in_the_middle_of_a_transaction_leaves_nothing_of_it(self, catalog: SqliteMetadata) -> None:
        image = stored(catalog, an_image())

        def fail_late(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM images")
            raise NotFound

        with pytest.raises(NotFound):
            catalog._writer.write(fail_late)
        assert catalog.get(ANN, image.image_id) == image
        assert not catalog._writer._connection.in_transaction

    def test_no_transaction_is_open_while_the_ids_of_due_entries_are_worked_on(self, catalog: SqliteMetadata) -> None:
        reservation = a_reservation()
        catalog.reserve(reservation, at=NOON)
        walk = catalog.due(reservation.due)
        next(walk)
        assert not catalog._reader._connection.in_transaction
        # A checkpoint would be blocked by a reader that is still in its snapshot.
        assert catalog._writer.fetch("PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]


PROGRAM = """
import sys
from pathlib import Path
from adapters.sqlite import SqliteMetadata
from domain.image import MetadataChange
from domain.values import Description
from tests.builders import ANN, NOON, an_image, stored
from uuid import UUID

path, image_id, number = Path(sys.argv[1]), UUID(sys.argv[2]), sys.argv[3]
with SqliteMetadata(path) as catalog:
    for step in range(25):
        stored(catalog, an_image())
        catalog.update(
            ANN,
            image_id,
            lambda found: found.revised(
                MetadataChange(description=Description(f"{found.description} {number}.{step}")), at=NOON
            ),
        )
"""

GREEDY = """
import sys
from pathlib import Path
from adapters.sqlite import SqliteMetadata
from domain.errors import QuotaExceeded
from domain.quota import Quota
from tests.builders import NOON, a_reservation, an_image, reserved_for

with SqliteMetadata(Path(sys.argv[1]), busy_timeout_s=60) as catalog:
    taken = 0
    try:
        while True:
            image = an_image()
            reservation = reserved_for(image)
            catalog.reserve(reservation, at=NOON, quota=Quota(images=50))
            taken += 1
            catalog.commit(image, holder=reservation.holder)
    except QuotaExceeded:
        print(taken)
"""


class TestSeveralProcesses:
    def test_what_they_write_at_the_same_time_is_all_there(self, catalog: SqliteMetadata, path: Path) -> None:
        image = stored(catalog, an_image())
        command = [sys.executable, "-c", PROGRAM, str(path), str(image.image_id)]
        writers = [subprocess.Popen([*command, str(number)], cwd=ROOT) for number in range(3)]
        assert [writer.wait(timeout=5 * PATIENCE_S) for writer in writers] == [0, 0, 0]
        notes = catalog.get(ANN, image.image_id).description.split()
        assert sorted(notes) == sorted(f"{number}.{step}" for number in range(3) for step in range(25))
        assert catalog.count(ANN) == 1 + 3 * 25
        assert_consistent(catalog)

    def test_together_they_take_just_as_much_as_the_quota_has(self, catalog: SqliteMetadata, path: Path) -> None:
        writers = [
            subprocess.Popen([sys.executable, "-c", GREEDY, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        taken = [int(writer.communicate(timeout=5 * PATIENCE_S)[0]) for writer in writers]
        assert sum(taken) == 50
        assert catalog.usage(ANN) == Usage(images=50, size_bytes=50 * 1_234)
        assert_consistent(catalog)

    def test_what_one_acknowledged_the_next_read_of_another_shows(self, catalog: SqliteMetadata, path: Path) -> None:
        with SqliteMetadata(path) as other:
            image = stored(other, an_image())
            assert catalog.get(ANN, image.image_id) == image
            revised = catalog.update(ANN, image.image_id, retitled).image
            assert other.page(ANN, ByTitle(Title("dog")), limit=9).images == (revised,)

    def test_a_page_by_several_tags_is_read_from_one_snapshot(self, catalog: SqliteMetadata, path: Path) -> None:
        images = [stored(catalog, an_image(tags=["a", "b"], created_at=NOON - n * INSTANT)) for n in range(3)]
        which = ByTags(parse_tags(["a", "b"]), "all")
        with SqliteMetadata(path) as other:

            def trash_what_was_just_found(statement: str) -> None:
                if "FROM images" in statement and other.count(ANN) == len(images):
                    other.trash(ANN, images[1].image_id, at=NOON, due=NOON + HOUR)

            catalog._reader._connection.set_trace_callback(trash_what_was_just_found)
            assert catalog.page(ANN, which, limit=9).images == tuple(images)
            assert catalog.page(ANN, which, limit=9).images == (images[0], images[2])


class TestKnownRecords:
    """A page reads the records only if they have not been read before; nobody can tell, but by the time it takes."""

    @pytest.mark.parametrize(
        "which", [ByOwner(), ByTitle(Title("cat")), ByTags((Tag("a"),)), ByTags(parse_tags(["a", "b"]))]
    )
    def test_a_page_that_was_read_before_takes_its_stamps_alone(self, catalog: SqliteMetadata, which: Filter) -> None:
        images = tuple(stored(catalog, an_image(tags=["a", "b"], created_at=NOON - n * INSTANT)) for n in range(3))
        first = traced(catalog, lambda: catalog.page(ANN, which, limit=9))
        again = traced(catalog, lambda: catalog.page(ANN, which, limit=9))
        assert (len(first), again) == (2, first[:1])
        assert catalog.page(ANN, which, limit=9).images == images

    def test_a_change_by_another_process_is_in_the_next_page(self, catalog: SqliteMetadata, path: Path) -> None:
        images = [stored(catalog, an_image(created_at=NOON - n * INSTANT)) for n in range(3)]

        def page() -> list[Image]:
            return list(catalog.page(ANN, ByOwner(), limit=9).images)

        with SqliteMetadata(path) as other:
            assert page() == images
            revised = other.update(ANN, images[1].image_id, retitled).image
            assert page() == [images[0], revised, images[2]]
            other.trash(ANN, revised.image_id, at=NOON, due=NOON + HOUR)
            assert page() == [images[0], images[2]]
            other.restore(ANN, revised.image_id, at=NOON)
            assert page() == [images[0], revised, images[2]]

    # Found by the state machine, whose clock stands still: pages showed the first.
    @pytest.mark.parametrize("later", [INSTANT, timedelta(0)])
    def test_an_id_that_comes_back_is_another_image(self, catalog: SqliteMetadata, later: timedelta) -> None:
        first = stored(catalog, an_image(title="First"))
        assert catalog.page(ANN, ByOwner(), limit=9).images == (first,)
        catalog.trash(ANN, first.image_id, at=NOON, due=NOON)
        catalog.claim(first.image_id, claimant=first.image_id, at=NOON, until=NOON + HOUR)
        catalog.forget(first.image_id, claimant=first.image_id)
        second = stored(catalog, an_image(image_id=first.image_id, title="Second", created_at=NOON + later))
        assert catalog.page(ANN, ByOwner(), limit=9).images == (second,)

    def test_two_owners_have_each_their_own(self, catalog: SqliteMetadata) -> None:
        anns, bobs = stored(catalog, an_image(tags=["a"])), stored(catalog, an_image(owner=BOB, tags=["a"]))
        for _ in range(2):
            for which in (ByOwner(), ByTags((Tag("a"),)), ByTitle(Title("cat"))):
                assert catalog.page(ANN, which, limit=9).images == (anns,)
                assert catalog.page(BOB, which, limit=9).images == (bobs,)

    def test_a_change_between_the_stamps_and_the_records_leaves_a_page_of_one_moment(
        self, catalog: SqliteMetadata, path: Path
    ) -> None:
        images = [stored(catalog, an_image(created_at=NOON - n * INSTANT)) for n in range(3)]
        with SqliteMetadata(path) as other:

            def trash_before_the_records(statement: str) -> None:
                if "json_group_array" in statement and other.count(ANN) == len(images):
                    other.trash(ANN, images[1].image_id, at=NOON, due=NOON + HOUR)

            catalog._reader._connection.set_trace_callback(trash_before_the_records)
            for _ in range(2):
                assert catalog.page(ANN, ByOwner(), limit=9).images in (tuple(images), (images[0], images[2]))
            assert catalog.page(ANN, ByOwner(), limit=9).images == (images[0], images[2])

    def test_only_so_many_are_kept(self, catalog: SqliteMetadata, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(known, "_IMAGES_KEPT", 3)
        images = [stored(catalog, an_image(created_at=NOON - n * INSTANT)) for n in range(5)]
        for _ in range(2):
            assert catalog.page(ANN, ByOwner(), limit=9).images == tuple(images)
            assert len(catalog._known) == 3


@given(created_at=st.datetimes(timezones=st.just(UTC)), later=st.timedeltas(timedelta(0), timedelta(days=1)))
def test_a_page_and_a_single_read_give_the_same_record_at_any_time(
    shared: SqliteMetadata, created_at: datetime, later: timedelta
) -> None:
    assume(created_at <= datetime.max.replace(tzinfo=UTC) - later)
    image = stored(shared, replace(an_image(), created_at=created_at, updated_at=created_at + later))
    try:
        assert shared.get(ANN, image.image_id) == image
        assert image in shared.page(ANN, ByOwner(), limit=100).images
    finally:
        shared.trash(ANN, image.image_id, at=NOON, due=NOON)


class TestQueryPlans:
    """Each listing is one search of an index in its order: nothing is scanned whole, nothing is sorted."""

    @pytest.mark.parametrize(
        ("which", "search"),
        [
            (ByOwner(), "images USING PRIMARY KEY (owner=? AND "),
            (ByTitle(Title("cat")), "images USING INDEX images_by_title (owner=? AND title_folded=? AND "),
            (ByTags((Tag("a"),)), "postings USING PRIMARY KEY (owner=? AND tag=? AND "),
            (ByTags((Tag("a"),), "all"), "postings USING PRIMARY KEY (owner=? AND tag=? AND "),
        ],
    )
    def test_a_page_of_one_list_neither_scans_nor_sorts(
        self, catalog: SqliteMetadata, which: Filter, search: str
    ) -> None:
        position = Position(NOON, an_image().image_id)
        [plan] = plans(catalog, lambda: catalog.page(ANN, which, limit=50, after=position))
        assert f"SEARCH {search}(created_at,image_id)<(?,?))" in plan
        # The page, once found, is gone through to be put in one row.
        assert not re.search(r"SCAN (?!\(subquery)|TEMP B-TREE", plan)

    def test_a_page_by_any_of_several_tags_sorts_no_more_than_a_page_of_each(self, catalog: SqliteMetadata) -> None:
        [plan] = plans(catalog, lambda: catalog.page(ANN, ByTags((Tag("a"), Tag("b"))), limit=50))
        assert plan.count("SEARCH postings USING PRIMARY KEY (owner=? AND tag=? AND (created_at,image_id)<(?,?))") == 2
        assert not re.search(r"SCAN (images|postings)", plan)

    def test_a_page_by_all_of_several_tags_only_seeks(self, catalog: SqliteMetadata) -> None:
        stored(catalog, an_image(tags=["a", "b"]))
        found = plans(catalog, lambda: catalog.page(ANN, ByTags((Tag("a"), Tag("b")), "all"), limit=50))
        assert any("postings" in plan for plan in found)
        assert not re.search(r"SCAN|TEMP B-TREE", "\n".join(found))

    def test_its_cost_follows_the_rarest_tag(self, catalog: SqliteMetadata) -> None:
        catalog._writer.fetch("PRAGMA synchronous = OFF")
        rare = [stored(catalog, an_image(tags=["rare", "common"], created_at=NOON - n * HOUR)) for n in range(3)]
        for number in range(200):
            stored(catalog, an_image(tags=["common"], created_at=NOON - number * MINUTE - INSTANT))
        which = ByTags((Tag("common"), Tag("rare")), "all")
        statements = traced(catalog, lambda: catalog.page(ANN, which, limit=50))
        assert catalog.page(ANN, which, limit=50).images == tuple(rare)
        assert len(statements) < 20

    def test_tags_that_overlap_much_are_read_in_batches(self, catalog: SqliteMetadata) -> None:
        catalog._writer.fetch("PRAGMA synchronous = OFF")
        for number in range(100):
            stored(catalog, an_image(tags=["a", "b"], created_at=NOON - number * INSTANT))
        statements = traced(catalog, lambda: catalog.page(ANN, ByTags((Tag("a"), Tag("b")), "all"), limit=50))
        assert sum("FROM postings" in statement for statement in statements) < 12

    def test_a_record_is_found_by_its_id_and_due_entries_by_their_time(self, catalog: SqliteMetadata) -> None:
        image = stored(catalog, an_image())
        found = plans(catalog, lambda: (catalog.get(ANN, image.image_id), list(catalog.due(NOON)), catalog.count(ANN)))
        assert len(found) == 3
        assert not re.search(r"SCAN|TEMP B-TREE", "\n".join(found))


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.sampled_from("abc"), unique=True), st.booleans()), max_size=12
    )
)
def test_the_postings_always_are_the_tags_of_the_visible_records(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, list[str], bool]]
) -> None:
    with SqliteMetadata(tmp_path_factory.mktemp("catalog") / "catalog.sqlite3") as catalog:
        catalog._writer.fetch("PRAGMA synchronous = OFF")
        images = [stored(catalog, an_image(tags=["a", "b"])) for _ in range(3)]
        for number, tags, trash in steps:
            image_id, change = images[number].image_id, MetadataChange(tags=parse_tags(tags))
            try:
                if trash:
                    catalog.trash(ANN, image_id, at=NOON, due=NOON + HOUR)
                else:
                    catalog.update(ANN, image_id, partial(Image.revised, change=change, at=NOON))
            except NotFound:
                catalog.restore(ANN, image_id, at=NOON)
            assert_consistent(catalog)


def assert_consistent(catalog: SqliteMetadata) -> None:
    """Postings are the tags of the records, usage is what is stored, no id is a record and an entry, all is sound."""
    records = catalog._reader.fetch(
        "SELECT owner, tags.value, created_at, image_id FROM images, json_each(tags) AS tags"
    )
    postings = catalog._reader.fetch("SELECT owner, tag, created_at, image_id FROM postings")
    assert sorted(records) == sorted(postings)
    assert catalog._reader.fetch("SELECT image_id FROM images NATURAL JOIN reclaim") == []
    actual = catalog._reader.fetch(
        """SELECT owner, count(size_bytes), sum(size_bytes)
        FROM (SELECT owner, size_bytes FROM images UNION ALL SELECT owner, size_bytes FROM reclaim)
        GROUP BY owner HAVING count(size_bytes) > 0 ORDER BY owner"""
    )
    assert catalog._reader.fetch("SELECT * FROM usage WHERE images <> 0 ORDER BY owner") == actual
    assert catalog._reader.fetch("PRAGMA integrity_check") == [("ok",)]


@contextmanager
def full(catalog: SqliteMetadata) -> Iterator[None]:
    """No page more may be added to the file, as on a full disk, and none in it is free."""
    catalog._writer.fetch("VACUUM")  # migrations leave some
    [(pages,)] = catalog._writer.fetch("PRAGMA page_count")
    [(before,)] = catalog._writer.fetch("PRAGMA max_page_count")
    catalog._writer.fetch(f"PRAGMA max_page_count = {pages}")
    yield
    catalog._writer.fetch(f"PRAGMA max_page_count = {before}")


@contextmanager
def locked(catalog: SqliteMetadata) -> Iterator[None]:
    """Another process is in the middle of a write, and stays there."""
    [(_, _, path)] = catalog._reader.fetch("PRAGMA database_list")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def traced(catalog: SqliteMetadata, read: Callable[[], object]) -> list[str]:
    """Return the statements that a read runs, with their parameters filled in."""
    statements: list[str] = []
    catalog._reader._connection.set_trace_callback(statements.append)
    try:
        read()
    finally:
        catalog._reader._connection.set_trace_callback(None)
    return statements


def plans(catalog: SqliteMetadata, read: Callable[[], object]) -> list[str]:
    """Return SQLite's plan for each query that a read runs."""
    queries = [statement for statement in traced(catalog, read) if "SELECT" in statement]
    return [
        "\n".join(detail for *_, detail in catalog._reader.fetch(f"EXPLAIN QUERY PLAN {query}")) for query in queries
    ]
