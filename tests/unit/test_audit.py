"""Audits and repairs on the memory adapters: what is found, what is not taken for a fault, and what is touched."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from adapters.memory import MemoryObjectAudit, MemoryRecordAudit
from application.bus import Bus
from application.commands.purge_quarantine import PurgeQuarantine
from application.commands.repair import MIN_AGE, Repair, Repaired
from application.findings import Damage, DamagedObject, Finding, StrayObject, WrongPosting, WrongUsage
from application.ports import FoundObject, ObjectAudit, ObjectStore, Posting, RecordAudit, StoredObject
from application.queries.audit import Audit, Examined
from domain.errors import CalotypeError, Conflict, Unavailable
from domain.image import Image, object_prefix
from domain.quota import Usage
from domain.values import Filename, ImageId, MediaType, Tag, UserId
from entrypoints.audit import audit_bus
from tests.builders import ANN, INSTANT, a_reservation
from tests.unit.world import LEASE, RESERVATION_TTL, World

STRAY_ID = UUID(int=0xDEAD)
OLD = MIN_AGE


@dataclass
class Before:
    """Stands before a port, and lets somebody else act just before its next call of a method."""

    port: object
    actions: dict[str, Callable[[], object]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.port, name)

        def call(*args: object, **kwargs: object) -> object:
            if (action := self.actions.pop(name, None)) is not None:
                action()
            return method(*args, **kwargs)

        return call


class Audited(World):
    """A world with its audit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.record_audit = MemoryRecordAudit(self.records)
        self.object_audit = MemoryObjectAudit(self.objects, self.clock)
        self.interfering: dict[str, Callable[[], object]] = {}
        self.audit_bus: Bus = audit_bus(
            records=cast("RecordAudit", Before(self.record_audit, self.interfering)),
            stored=cast("ObjectAudit", Before(self.object_audit, self.interfering)),
            objects=cast("ObjectStore", Before(self.objects, self.interfering)),
            clock=self.clock,
            ids=self.ids,
        )

    def steps(self, *, deep: bool = False) -> list[Examined]:
        return list(self.audit_bus.ask(Audit(deep=deep)))

    def findings(self, *, deep: bool = False) -> list[Finding]:
        return [finding for step in self.steps(deep=deep) for finding in step.findings]

    def only(self, *, deep: bool = False) -> Finding:
        (finding,) = self.findings(deep=deep)
        return finding

    def repair(self, finding: Finding) -> Repaired:
        return self.audit_bus.execute(Repair(finding=finding))

    def put(self, image_id: ImageId = STRAY_ID, filename: str = "cat.jpg", data: bytes = b"jpeg") -> str:
        """Put an object by hand, outside the protocol; return its key."""
        key = object_prefix(image_id) + Filename(filename)
        target = StoredObject(
            key=key,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            media_type=MediaType.JPEG,
            owner=ANN,
            image_id=image_id,
        )
        self.objects.put(target, io.BytesIO(data), deadline=self.clock.now() + LEASE)
        return key

    def overwrite(self, image: Image, data: bytes) -> None:
        """Change an object's bytes behind the store's back."""
        stored = self.objects.objects[image.key]
        info = type(stored.info)(
            key=image.key, size_bytes=len(data), modified_at=stored.info.modified_at, media_type=MediaType.JPEG
        )
        self.objects.objects[image.key] = type(stored)(info, data)


@pytest.fixture
def world() -> Audited:
    return Audited()


def posting_of(image: Image, tag: str) -> Posting:
    return Posting(image.owner, Tag(tag), image.created_at, image.image_id)


class TestAudit:
    def test_stores_that_were_only_used_are_clean_at_every_stage_of_an_image(self, world: Audited) -> None:
        world.upload(tags=("a", "b"))
        world.delete(world.upload(tags=("a",)).image)
        world.failing["commit"] = "before"
        with pytest.raises(Unavailable):
            world.upload()
        assert world.findings(deep=True) == []
        world.clock.advance(10 * MIN_AGE)
        assert world.findings(deep=True) == []

    def test_a_deleted_object_is_named_with_its_record(self, world: Audited) -> None:
        image = world.upload().image
        del world.objects.objects[image.key]
        assert world.only() == DamagedObject(image=image, damage=Damage.MISSING)

    def test_a_truncated_object_is_named_with_the_size_it_has(self, world: Audited) -> None:
        image = world.upload(b"jpeg").image
        world.overwrite(image, b"jp")
        assert world.only() == DamagedObject(image=image, damage=Damage.WRONG_SIZE, found="2")

    def test_a_changed_byte_is_found_by_a_deep_audit_only(self, world: Audited) -> None:
        image = world.upload(b"jpeg").image
        world.overwrite(image, b"jpEg")
        assert world.findings() == []
        sha256 = hashlib.sha256(b"jpEg").hexdigest()
        assert world.only(deep=True) == DamagedObject(image=image, damage=Damage.WRONG_CHECKSUM, found=sha256)

    def test_an_object_that_can_t_be_read_is_a_finding_while_the_store_answers(self, world: Audited) -> None:
        broken, whole = world.upload().image, world.upload().image
        world.interfering["head"] = _raise_unavailable
        assert world.only() == DamagedObject(image=broken, damage=Damage.UNREADABLE)
        assert whole != broken

    def test_a_store_that_is_down_ends_the_audit(self, world: Audited) -> None:
        world.upload()
        world.interfering |= {"head": _raise_unavailable, "ping": _raise_unavailable}
        with pytest.raises(Unavailable):
            world.findings()

    def test_an_object_without_record_and_entry_is_a_stray(self, world: Audited) -> None:
        key = world.put()
        finding = world.only()
        assert isinstance(finding, StrayObject)
        assert finding.found.key == key

    def test_an_object_beside_the_one_that_the_record_names_is_a_stray(self, world: Audited) -> None:
        key = world.put(world.upload(filename="a.jpg").image.image_id, "b.jpg")
        finding = world.only()
        assert isinstance(finding, StrayObject)
        assert finding.found.key == key

    def test_postings_are_compared_with_records_both_ways(self, world: Audited) -> None:
        image = world.upload(tags=("a", "b")).image
        world.record_audit.lost.add(posting_of(image, "a"))
        world.record_audit.dangling.add(posting_of(image, "c"))
        assert world.findings() == [
            WrongPosting(posting=posting_of(image, "a"), dangling=False, since=image.updated_at),
            WrongPosting(posting=posting_of(image, "c"), dangling=True, since=image.created_at),
        ]

    @pytest.mark.parametrize("key", [None, "k"])
    def test_an_image_purged_while_it_is_looked_at_is_no_finding(self, world: Audited, key: str | None) -> None:
        image = world.upload(key=key).image

        def purge_and_upload_again() -> None:
            world.delete(image, permanent=True)
            world.sweep()
            world.clock.advance()
            world.upload(b"other" if key is None else b"jpeg", key=key)

        world.interfering["head"] = purge_and_upload_again
        world.failing.clear()
        assert world.findings() == []

    def test_an_object_swept_while_it_is_looked_at_is_no_finding(self, world: Audited) -> None:
        image = world.upload().image

        def purge() -> None:
            world.delete(image, permanent=True)
            world.sweep()

        next_of_objects = iter(world.audit_bus.ask(Audit()))
        next(next_of_objects)
        world.interfering["standing"] = purge
        assert [step.findings for step in next_of_objects] == [()]

    def test_an_object_uploaded_anew_while_it_is_looked_at_is_no_finding(self, world: Audited) -> None:
        world.put()

        def replaced() -> None:
            world.objects.objects.clear()
            world.clock.advance()
            world.put()

        world.interfering["is_there"] = replaced
        assert world.findings() == []

    def test_a_resumed_audit_takes_exactly_the_steps_that_were_left(self, world: Audited) -> None:
        for tags in (("a", "b"), (), ("b",)):
            world.upload(tags=tags)
        del world.objects.objects[next(iter(world.objects.objects))]
        world.put()
        steps = world.steps()
        assert len(steps) == 3 + 3 + 3
        for number, step in enumerate(steps, start=1):
            assert list(world.audit_bus.ask(Audit(after=step.checkpoint))) == steps[number:]

    def test_an_audit_reads_no_further_than_it_is_asked(self, world: Audited) -> None:
        for _ in range(3):
            world.upload()
        world.interfering["head"] = _raise_unavailable
        walk = world.audit_bus.ask(Audit())
        assert "head" in world.interfering
        next(walk)
        assert "head" not in world.interfering


class TestRepairOfStrays:
    def stray(self, world: Audited, *, age: timedelta = OLD) -> StrayObject:
        world.put()
        world.clock.advance(age)
        finding = world.only()
        assert isinstance(finding, StrayObject)
        return finding

    def test_a_stray_is_quarantined_and_nothing_is_left_of_the_hold(self, world: Audited) -> None:
        stray = self.stray(world)
        assert world.repair(stray) is Repaired.REPAIRED
        assert world.keys == world.reserved == set()
        assert [(kept[1], stored.data) for kept, stored in world.object_audit.kept.items()] == [
            (stray.found.place, b"jpeg")
        ]
        assert world.findings() == []

    def test_a_stray_younger_than_a_day_is_left_alone(self, world: Audited) -> None:
        stray = self.stray(world, age=OLD - INSTANT)
        assert world.repair(stray) is Repaired.TOO_YOUNG
        assert world.keys == {stray.found.place}
        world.clock.advance(INSTANT)
        assert world.repair(stray) is Repaired.REPAIRED

    def test_a_stray_that_is_gone_or_another_by_now_is_left_alone(self, world: Audited) -> None:
        stray = self.stray(world)
        world.objects.objects.clear()
        assert world.repair(stray) is Repaired.GONE
        world.put(data=b"new")
        assert world.repair(stray) is Repaired.GONE
        assert world.keys == {stray.found.place}

    def test_a_stray_that_somebody_answers_for_by_now_is_not_even_copied(self, world: Audited) -> None:
        stray = self.stray(world)
        world.records.reserve(a_reservation(image_id=STRAY_ID), at=world.clock.now())
        assert world.repair(stray) is Repaired.GONE
        assert world.object_audit.kept == {}

    def test_an_unfinished_put_is_left_to_the_reservation_that_is_there_by_now(self, world: Audited) -> None:
        stray = self.stray(world)
        unfinished = StrayObject(found=replace(stray.found, key=None))
        world.records.reserve(a_reservation(image_id=STRAY_ID), at=world.clock.now())
        assert world.repair(unfinished) is Repaired.GONE
        assert world.keys == {stray.found.place}

    def test_a_stray_beside_a_record_leaves_the_record_s_object(self, world: Audited) -> None:
        image = world.upload(filename="a.jpg").image
        world.put(image.image_id, "b.jpg")
        world.clock.advance(OLD)
        assert world.repair(world.only()) is Repaired.REPAIRED
        assert world.bytes_of(image) == b"jpeg"
        assert world.findings() == []

    def test_a_name_that_no_upload_could_have_made_is_quarantined_without_a_hold(self, world: Audited) -> None:
        key = world.put()
        world.objects.objects["images/not-an-id/x"] = world.objects.objects.pop(key)
        info = world.objects.objects["images/not-an-id/x"].info
        found = FoundObject(
            place="images/not-an-id/x", key=None, image_id=None, size_bytes=4, modified_at=info.modified_at
        )
        world.clock.advance(OLD)
        assert world.repair(StrayObject(found=found)) is Repaired.REPAIRED
        assert world.keys == set()

    @pytest.mark.parametrize("call", ["standing", "quarantine", "hold", "remove", "release"])
    def test_an_upload_that_takes_the_stray_s_id_at_any_moment_is_whole_or_refused(
        self, world: Audited, call: str
    ) -> None:
        """The upload finds the stray's bytes under its own key, and takes them for its own earlier put."""
        first = world.upload(key="k").image
        del world.records.records[first.image_id]  # a catalog restored from an older backup
        world.clock.advance(OLD)
        finding = world.only()
        outcomes: list[Image | CalotypeError] = []

        def upload() -> None:
            try:
                outcomes.append(world.upload(key="k").image)
            except CalotypeError as refusal:
                outcomes.append(refusal)

        world.interfering[call] = upload
        world.repair(finding)
        (outcome,) = outcomes
        if isinstance(outcome, Image):
            assert world.bytes_of(outcome) == b"jpeg"
        else:
            assert type(outcome) is Conflict
            assert outcome.retry_after_s == 1
            assert world.bytes_of(world.upload(key="k").image) == b"jpeg"
        assert world.findings() == []

    @pytest.mark.parametrize("call", ["standing", "quarantine", "hold", "remove", "release"])
    def test_an_upload_under_way_at_any_moment_keeps_its_bytes(self, world: Audited, call: str) -> None:
        first = world.upload(key="k").image
        del world.records.records[first.image_id]
        world.clock.advance(OLD)
        finding = world.only()

        def repair_meanwhile() -> None:
            world.interfering[call] = lambda: None
            world.repair(finding)

        # Between the upload's put and its commit: it has a reservation, and relies on the object it found.
        world.before["commit"] = repair_meanwhile
        image = world.upload(key="k").image
        assert world.bytes_of(image) == b"jpeg"

    def test_a_repair_that_dies_under_its_hold_is_ended_by_the_sweeper(self, world: Audited) -> None:
        stray = self.stray(world)
        world.interfering["remove"] = _raise_unavailable
        with pytest.raises(Unavailable):
            world.repair(stray)
        assert world.reserved == {STRAY_ID}
        assert len(world.object_audit.kept) == 1
        world.clock.advance(RESERVATION_TTL)
        world.sweep()
        assert world.keys == world.reserved == set()
        assert world.findings() == []

    def test_a_repair_that_slept_past_its_hold_removes_nothing(self, world: Audited) -> None:
        stray = self.stray(world)
        world.interfering["remove"] = lambda: world.clock.advance(RESERVATION_TTL)
        with pytest.raises(Unavailable):
            world.repair(stray)
        assert world.keys == {stray.found.place}


class TestRepairOfPostings:
    def test_both_faults_are_mended(self, world: Audited) -> None:
        image = world.upload(tags=("a",)).image
        world.record_audit.lost.add(posting_of(image, "a"))
        world.record_audit.dangling.add(posting_of(image, "c"))
        world.clock.advance(OLD)
        assert [world.repair(finding) for finding in world.findings()] == [Repaired.REPAIRED] * 2
        assert world.findings() == []

    def test_a_posting_of_a_younger_change_is_left_alone(self, world: Audited) -> None:
        image = world.upload(tags=("a",)).image
        world.record_audit.lost.add(posting_of(image, "a"))
        world.clock.advance(OLD - INSTANT)
        assert world.repair(world.only()) is Repaired.TOO_YOUNG
        assert world.record_audit.lost

    def test_a_fault_that_somebody_mended_is_gone(self, world: Audited) -> None:
        image = world.upload(tags=("a",)).image
        world.record_audit.lost.add(posting_of(image, "a"))
        world.clock.advance(OLD)
        finding = world.only()
        world.record_audit.lost.clear()
        assert world.repair(finding) is Repaired.GONE


class TestRepairOfUsage:
    def test_what_is_recorded_is_compared_with_what_is_stored(self, world: Audited) -> None:
        world.upload()
        assert world.findings() == []
        world.record_audit.miscounted[ANN] = Usage(images=7, size_bytes=4)
        finding = world.only()
        assert isinstance(finding, WrongUsage)
        assert finding.miscount.recorded == Usage(images=7, size_bytes=4)
        assert finding.miscount.actual == Usage(images=1, size_bytes=4)

    def test_it_is_put_right_at_any_age(self, world: Audited) -> None:
        world.record_audit.miscounted[ANN] = Usage(images=7)
        assert world.repair(world.only()) is Repaired.REPAIRED
        assert world.findings() == []

    def test_a_count_that_is_right_by_now_is_gone(self, world: Audited) -> None:
        world.record_audit.miscounted[ANN] = Usage(images=1, size_bytes=4)
        finding = world.only()
        world.upload()
        assert world.repair(finding) is Repaired.GONE


def test_lost_bytes_are_told_and_the_record_is_kept(world: Audited) -> None:
    image = world.upload().image
    del world.objects.objects[image.key]
    world.clock.advance(OLD)
    assert world.repair(world.only()) is Repaired.BEYOND_REPAIR
    assert world.seen_by(UserId(ANN)) == (image,)


def test_the_quarantine_is_purged_by_whole_days(world: Audited) -> None:
    world.put()
    world.clock.advance(OLD)
    world.repair(world.only())
    purge = PurgeQuarantine(older_than=timedelta(days=7))
    world.clock.advance(timedelta(days=7))
    assert world.audit_bus.execute(purge) == 0
    world.clock.advance(timedelta(days=1))
    assert world.audit_bus.execute(purge) == 1
    assert world.object_audit.kept == {}


def _raise_unavailable() -> None:
    raise Unavailable
