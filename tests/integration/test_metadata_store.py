"""The law of MetadataStore, over every adapter."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryMetadata
from application.ports import ByOwner, ByTags, ByTitle, Filter
from domain.errors import CalotypeError, Conflict, InTrash, KeyReused, NotFound, PreconditionFailed, QuotaExceeded
from domain.image import Image, MetadataChange, Revision
from domain.quota import UNLIMITED, Quota, Usage
from domain.reclaim import Reservation, TrashedImage
from domain.values import Description, Tag, Title, UserId, parse_tags
from tests.builders import (
    ANN,
    BOB,
    HOUR,
    INSTANT,
    MINUTE,
    NOON,
    SECOND,
    Catalog,
    OpenCatalog,
    a_reservation,
    an_image,
    reserved_for,
    stored,
)

LEASE_END = a_reservation().lease_until
DUE = a_reservation().due
ROUNDS = 12
"""How often each race is run; the winner differs from round to round."""


def visible(catalog: Catalog) -> tuple[Image, ...]:
    return catalog.page(ANN, ByOwner(), limit=100).images


def due_ids(catalog: Catalog, at: datetime) -> list[UUID]:
    return list(catalog.due(at))


def claimed(catalog: Catalog, image_id: UUID, *, at: datetime = DUE, until: datetime | None = None) -> UUID:
    """Claim an entry that is due, and return the claimant."""
    claimant = uuid4()
    until = at + MINUTE if until is None else until
    assert catalog.claim(image_id, claimant=claimant, at=at, until=until) is not None
    return claimant


def trashed(catalog: Catalog, image: Image, *, due: datetime = DUE) -> TrashedImage:
    return catalog.trash(image.owner, stored(catalog, image).image_id, at=NOON, due=due)


def retitled(title: str) -> Callable[[Image], Revision]:
    return lambda image: image.revised(MetadataChange(title=Title(title)), at=NOON + SECOND)


def retagged(*tags: str) -> Callable[[Image], Revision]:
    return lambda image: image.revised(MetadataChange(tags=parse_tags(tags)), at=NOON + SECOND)


def race(*attempts: Callable[[], object]) -> list[object]:
    """Start all at the same moment; return what each returned or was refused with, in their order."""
    start = Barrier(len(attempts))

    def outcome(attempt: Callable[[], object]) -> object:
        start.wait()
        try:
            return attempt()
        except CalotypeError as refusal:
            return refusal

    with ThreadPoolExecutor(len(attempts)) as pool:
        return list(pool.map(outcome, attempts))


def winners(outcomes: list[object]) -> int:
    return sum(not isinstance(outcome, CalotypeError) for outcome in outcomes)


class TestReserve:
    def test_a_reservation_lets_its_holder_commit(self, catalog: Catalog) -> None:
        image = an_image()
        reservation = reserved_for(image)
        assert catalog.reserve(reservation, at=NOON) is None
        assert visible(catalog) == ()
        catalog.commit(image, holder=reservation.holder)
        assert visible(catalog) == (image,)

    def test_an_id_that_is_committed_answers_with_its_record(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image(fingerprint="f"))
        assert catalog.reserve(reserved_for(image), at=NOON) == image
        assert due_ids(catalog, DUE) == []

    @pytest.mark.parametrize(
        ("left", "retry_after_s"),
        [(MINUTE, 60), (30 * SECOND + INSTANT * 1_000, 31), (SECOND, 1), (INSTANT, 1)],
    )
    def test_a_running_lease_is_a_conflict_that_says_when_it_ends(
        self, catalog: Catalog, left: timedelta, retry_after_s: int
    ) -> None:
        first = a_reservation(fingerprint="f")
        catalog.reserve(first, at=NOON)
        with pytest.raises(Conflict) as refusal:
            catalog.reserve(replace(first, holder=uuid4()), at=LEASE_END - left)
        assert not isinstance(refusal.value, KeyReused)
        assert refusal.value.retry_after_s == retry_after_s

    def test_once_the_lease_is_over_another_attempt_takes_the_upload(self, catalog: Catalog) -> None:
        image = an_image(fingerprint="f")
        late, new = reserved_for(image), reserved_for(image)
        catalog.reserve(late, at=NOON)
        assert catalog.reserve(new, at=LEASE_END) is None
        with pytest.raises(Conflict):
            catalog.commit(image, holder=late.holder)
        assert visible(catalog) == ()
        catalog.commit(image, holder=new.holder)
        assert visible(catalog) == (image,)

    def test_a_takeover_puts_its_own_lease_and_due_time_in_place(self, catalog: Catalog) -> None:
        late = a_reservation(fingerprint="f")
        new = replace(late, holder=uuid4(), lease_until=LEASE_END + HOUR, due=DUE + HOUR)
        catalog.reserve(late, at=NOON)
        catalog.reserve(new, at=LEASE_END)
        assert due_ids(catalog, DUE) == []
        assert due_ids(catalog, new.due) == [new.image_id]
        with pytest.raises(Conflict):
            catalog.reserve(replace(late, holder=uuid4()), at=new.lease_until - INSTANT)
        assert catalog.claim(new.image_id, claimant=uuid4(), at=new.due, until=new.due + MINUTE) == new

    def test_an_upload_without_a_fingerprint_is_never_taken_over(self, catalog: Catalog) -> None:
        first = a_reservation(fingerprint=None)
        catalog.reserve(first, at=NOON)
        with pytest.raises(Conflict) as refusal:
            catalog.reserve(replace(first, holder=uuid4()), at=LEASE_END + HOUR)
        assert not isinstance(refusal.value, KeyReused)

    @pytest.mark.parametrize("at", [NOON, LEASE_END, DUE])
    @pytest.mark.parametrize(("first", "second"), [("f", "g"), ("f", None), (None, "f")])
    def test_another_fingerprint_is_a_reused_key(
        self, catalog: Catalog, at: datetime, first: str | None, second: str | None
    ) -> None:
        reservation = a_reservation(fingerprint=first)
        catalog.reserve(reservation, at=NOON)
        with pytest.raises(KeyReused):
            catalog.reserve(replace(reservation, holder=uuid4(), fingerprint=second), at=at)

    def test_another_owner_takes_nothing_over(self, catalog: Catalog) -> None:
        first = a_reservation(fingerprint="f")
        catalog.reserve(first, at=NOON)
        with pytest.raises(Conflict):
            catalog.reserve(replace(first, owner=BOB, holder=uuid4()), at=LEASE_END)

    def test_another_fingerprint_than_that_of_a_trashed_record_is_a_reused_key(self, catalog: Catalog) -> None:
        image = an_image(fingerprint="f")
        trashed(catalog, image)
        with pytest.raises(KeyReused):
            catalog.reserve(replace(reserved_for(image), fingerprint="g"), at=NOON)

    @pytest.mark.parametrize("at", [NOON, DUE + HOUR])
    def test_an_upload_whose_record_is_in_the_trash_is_told_so(self, catalog: Catalog, at: datetime) -> None:
        image = an_image(fingerprint="f")
        trashed(catalog, image)
        with pytest.raises(InTrash):
            catalog.reserve(reserved_for(image), at=at)

    @pytest.mark.parametrize("at", [DUE, DUE + HOUR])
    def test_what_a_sweeper_ever_claimed_is_a_conflict_worth_another_try(self, catalog: Catalog, at: datetime) -> None:
        first = a_reservation(fingerprint="f")
        catalog.reserve(first, at=NOON)
        claimed(catalog, first.image_id)
        with pytest.raises(Conflict) as refusal:
            catalog.reserve(replace(first, holder=uuid4()), at=at)
        assert refusal.value.retry_after_s == 1

    def test_what_a_sweeper_has_forgotten_can_be_reserved_anew(self, catalog: Catalog) -> None:
        image = an_image(fingerprint="f")
        catalog.reserve(reserved_for(image), at=NOON)
        catalog.forget(image.image_id, claimant=claimed(catalog, image.image_id))
        assert stored(catalog, image) in visible(catalog)

    def test_a_refused_reservation_changes_nothing(self, catalog: Catalog) -> None:
        first = a_reservation(fingerprint="f")
        catalog.reserve(first, at=NOON)
        with pytest.raises(Conflict):
            catalog.reserve(replace(first, holder=uuid4(), due=DUE - MINUTE), at=NOON)
        assert due_ids(catalog, DUE - INSTANT) == []
        assert catalog.claim(first.image_id, claimant=uuid4(), at=DUE, until=DUE + MINUTE) == first

    def test_of_many_reservations_of_one_id_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image_id = uuid4()
            attempts = [a_reservation(image_id=image_id, fingerprint="f") for _ in range(4)]
            outcomes = race(*(partial(catalog.reserve, each, at=NOON) for each in attempts))
            assert winners(outcomes) == 1

    def test_of_many_takeovers_one_wins_and_can_commit(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = an_image(fingerprint="f")
            catalog.reserve(reserved_for(image), at=NOON)
            attempts = [replace(reserved_for(image), lease_until=LEASE_END + MINUTE) for _ in range(4)]
            outcomes = race(*(partial(catalog.reserve, each, at=LEASE_END) for each in attempts))
            assert winners(outcomes) == 1
            catalog.commit(image, holder=attempts[outcomes.index(None)].holder)


class TestCommit:
    def test_it_takes_the_reservation_out(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())
        assert due_ids(catalog, DUE) == []
        assert catalog.claim(image.image_id, claimant=uuid4(), at=DUE, until=DUE + MINUTE) is None

    def test_without_a_reservation_it_is_a_conflict(self, catalog: Catalog) -> None:
        with pytest.raises(Conflict):
            catalog.commit(an_image(), holder=uuid4())
        assert visible(catalog) == ()

    def test_by_another_holder_it_is_a_conflict(self, catalog: Catalog) -> None:
        image = an_image(tags=["a"])
        catalog.reserve(reserved_for(image), at=NOON)
        with pytest.raises(Conflict):
            catalog.commit(image, holder=uuid4())
        assert visible(catalog) == ()
        assert catalog.page(ANN, ByTags(parse_tags(["a"])), limit=1).images == ()
        assert due_ids(catalog, DUE) == [image.image_id]

    def test_a_lease_that_is_over_does_no_harm_as_long_as_nobody_took_over(self, catalog: Catalog) -> None:
        image = an_image()
        reservation = replace(reserved_for(image), lease_until=NOON - HOUR, due=NOON - MINUTE)
        catalog.reserve(reservation, at=NOON)
        catalog.commit(image, holder=reservation.holder)
        assert visible(catalog) == (image,)

    def test_what_a_sweeper_ever_claimed_can_not_be_committed(self, catalog: Catalog) -> None:
        image = an_image()
        reservation = reserved_for(image)
        catalog.reserve(reservation, at=NOON)
        claimant = claimed(catalog, image.image_id, until=DUE + INSTANT)
        with pytest.raises(Conflict):
            catalog.commit(image, holder=reservation.holder)
        catalog.forget(image.image_id, claimant=claimant)
        with pytest.raises(Conflict):
            catalog.commit(image, holder=reservation.holder)

    def test_repeating_it_succeeds_and_changes_nothing(self, catalog: Catalog) -> None:
        image = an_image(tags=["a"])
        reservation = reserved_for(image)
        catalog.reserve(reservation, at=NOON)
        catalog.commit(image, holder=reservation.holder)
        catalog.commit(image, holder=reservation.holder)
        assert visible(catalog) == (image,)
        assert catalog.page(ANN, ByTags(parse_tags(["a"])), limit=9).images == (image,)

    def test_another_record_of_a_committed_id_is_a_conflict(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())
        with pytest.raises(Conflict):
            catalog.commit(replace(image, title=Title("Dog")), holder=uuid4())
        assert visible(catalog) == (image,)

    def test_what_is_in_the_trash_can_not_be_committed(self, catalog: Catalog) -> None:
        image = an_image()
        trashed(catalog, image)
        with pytest.raises(Conflict):
            catalog.commit(image, holder=uuid4())

    def test_of_two_holders_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = an_image(fingerprint="f")
            late, new = reserved_for(image), reserved_for(image)
            catalog.reserve(late, at=NOON)
            taken, committed = race(
                partial(catalog.reserve, new, at=LEASE_END),
                partial(catalog.commit, image, holder=late.holder),
            )
            assert (taken is None) == isinstance(committed, Conflict)

    def test_of_a_commit_and_a_claim_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = an_image()
            reservation = reserved_for(image)
            catalog.reserve(reservation, at=NOON)
            committed, claim = race(
                partial(catalog.commit, image, holder=reservation.holder),
                partial(catalog.claim, image.image_id, claimant=uuid4(), at=DUE, until=DUE + MINUTE),
            )
            assert isinstance(committed, Conflict) == (claim is not None)
            assert (image in visible(catalog)) == (claim is None)


class TestAbandon:
    def test_it_is_due_sooner_and_the_same_otherwise(self, catalog: Catalog) -> None:
        reservation = a_reservation(fingerprint="f")
        catalog.reserve(reservation, at=NOON)
        for _ in range(2):
            catalog.abandon(reservation.image_id, holder=reservation.holder, due=NOON + 2 * MINUTE)
        assert due_ids(catalog, NOON + 2 * MINUTE - INSTANT) == []
        assert due_ids(catalog, NOON + 2 * MINUTE) == [reservation.image_id]
        entry = catalog.claim(reservation.image_id, claimant=uuid4(), at=NOON + 2 * MINUTE, until=DUE)
        assert entry == replace(reservation, due=NOON + 2 * MINUTE)

    def test_it_is_never_due_later(self, catalog: Catalog) -> None:
        reservation = a_reservation()
        catalog.reserve(reservation, at=NOON)
        catalog.abandon(reservation.image_id, holder=reservation.holder, due=DUE + HOUR)
        assert due_ids(catalog, DUE) == [reservation.image_id]

    def test_only_its_holder_can_and_only_as_long_as_it_is_there_and_unclaimed(self, catalog: Catalog) -> None:
        image, claimed_one = an_image(), a_reservation()
        reservation = reserved_for(image)
        for each in (reservation, claimed_one):
            catalog.reserve(each, at=NOON)
        claimed(catalog, claimed_one.image_id)
        catalog.abandon(image.image_id, holder=uuid4(), due=NOON)
        catalog.abandon(claimed_one.image_id, holder=claimed_one.holder, due=NOON)
        catalog.abandon(uuid4(), holder=uuid4(), due=NOON)
        assert due_ids(catalog, NOON) == []
        catalog.commit(image, holder=reservation.holder)
        catalog.abandon(image.image_id, holder=reservation.holder, due=NOON)
        catalog.trash(ANN, image.image_id, at=NOON, due=DUE)
        catalog.abandon(image.image_id, holder=reservation.holder, due=NOON)
        assert due_ids(catalog, NOON) == []
        assert catalog.restore(ANN, image.image_id, at=NOON).image == image

    def test_what_was_abandoned_can_still_be_taken_over(self, catalog: Catalog) -> None:
        image = an_image(fingerprint="f")
        first, second = reserved_for(image), reserved_for(image)
        catalog.reserve(first, at=NOON)
        catalog.abandon(image.image_id, holder=first.holder, due=LEASE_END)
        assert catalog.reserve(second, at=LEASE_END) is None
        catalog.commit(image, holder=second.holder)


class TestQuota:
    def test_what_a_reservation_takes_is_kept_all_life_long_and_given_back_when_it_is_forgotten(
        self, catalog: Catalog
    ) -> None:
        image, counted = an_image(size_bytes=7), Usage(images=1, size_bytes=7)
        assert catalog.usage(ANN) == Usage()
        stored(catalog, image)
        assert catalog.usage(ANN) == counted
        catalog.update(ANN, image.image_id, retitled("Dog"))
        catalog.trash(ANN, image.image_id, at=NOON, due=DUE)
        assert catalog.usage(ANN) == counted
        catalog.restore(ANN, image.image_id, at=NOON)
        catalog.trash(ANN, image.image_id, at=NOON, due=DUE)
        claimant = claimed(catalog, image.image_id)
        assert catalog.usage(ANN) == counted
        for _ in range(2):
            catalog.forget(image.image_id, claimant=claimant)
            assert catalog.usage(ANN) == Usage()

    def test_an_upload_that_never_commits_counts_until_it_is_forgotten(self, catalog: Catalog) -> None:
        reservation = a_reservation(size_bytes=7)
        catalog.reserve(reservation, at=NOON)
        assert catalog.usage(ANN) == Usage(images=1, size_bytes=7)
        catalog.forget(reservation.image_id, claimant=uuid4())
        assert catalog.usage(ANN) == Usage(images=1, size_bytes=7)
        catalog.forget(reservation.image_id, claimant=claimed(catalog, reservation.image_id))
        assert catalog.usage(ANN) == Usage()

    @pytest.mark.parametrize("quota", [Quota(images=2), Quota(size_bytes=20), Quota(images=2, size_bytes=20)])
    def test_it_is_filled_to_the_last_and_what_does_not_fit_changes_nothing(
        self, catalog: Catalog, quota: Quota
    ) -> None:
        for _ in range(2):
            assert catalog.reserve(a_reservation(size_bytes=10), at=NOON, quota=quota) is None
        refused = a_reservation(size_bytes=1)
        with pytest.raises(QuotaExceeded) as refusal:
            catalog.reserve(refused, at=NOON, quota=quota)
        unit, limit, used = ("bytes", 20, 20) if quota.images is None else ("images", 2, 2)
        assert (refusal.value.unit, refusal.value.limit, refusal.value.used) == (unit, limit, used)
        assert catalog.usage(ANN) == Usage(images=2, size_bytes=20)
        assert refused.image_id not in due_ids(catalog, DUE)
        assert catalog.reserve(refused, at=NOON) is None

    @pytest.mark.parametrize("quota", [Quota(images=0), Quota(size_bytes=0), Quota(size_bytes=1_233)])
    def test_what_is_too_much_alone_is_refused_to_who_has_nothing(self, catalog: Catalog, quota: Quota) -> None:
        with pytest.raises(QuotaExceeded):
            catalog.reserve(a_reservation(size_bytes=1_234), at=NOON, quota=quota)
        assert catalog.usage(ANN) == Usage()

    def test_each_owner_has_their_own(self, catalog: Catalog) -> None:
        quota = Quota(images=1)
        for owner in (ANN, BOB):
            catalog.reserve(a_reservation(owner=owner, size_bytes=5), at=NOON, quota=quota)
        with pytest.raises(QuotaExceeded):
            catalog.reserve(a_reservation(owner=ANN), at=NOON, quota=quota)
        assert catalog.usage(BOB) == Usage(images=1, size_bytes=5)

    def test_one_upload_counts_once_however_often_it_is_taken_over(self, catalog: Catalog) -> None:
        image, quota = an_image(fingerprint="f", size_bytes=7), Quota(images=1, size_bytes=7)
        late, new = reserved_for(image), reserved_for(image)
        catalog.reserve(late, at=NOON, quota=quota)
        assert catalog.reserve(new, at=LEASE_END, quota=quota) is None
        assert catalog.usage(ANN) == Usage(images=1, size_bytes=7)
        catalog.commit(image, holder=new.holder)
        assert catalog.reserve(reserved_for(image), at=NOON, quota=quota) == image
        assert catalog.usage(ANN) == Usage(images=1, size_bytes=7)

    def test_a_takeover_that_adds_nothing_is_let_through_a_quota_that_was_lowered(self, catalog: Catalog) -> None:
        image = an_image(fingerprint="f")
        catalog.reserve(a_reservation(), at=NOON)
        catalog.reserve(reserved_for(image), at=NOON)
        assert catalog.reserve(reserved_for(image), at=LEASE_END, quota=Quota(images=0, size_bytes=0)) is None

    @pytest.mark.parametrize("before", [3, None])
    def test_a_takeover_of_another_size_adds_the_difference(self, catalog: Catalog, before: int | None) -> None:
        first = a_reservation(fingerprint="f", size_bytes=before)
        catalog.reserve(first, at=NOON)
        assert catalog.usage(ANN) == first.usage
        second = replace(first, holder=uuid4(), size_bytes=10)
        with pytest.raises(QuotaExceeded):
            catalog.reserve(second, at=LEASE_END, quota=Quota(size_bytes=9))
        assert catalog.usage(ANN) == first.usage
        assert catalog.reserve(second, at=LEASE_END, quota=Quota(size_bytes=10)) is None
        assert catalog.usage(ANN) == Usage(images=1, size_bytes=10)
        third = replace(first, holder=uuid4(), size_bytes=1)
        assert catalog.reserve(third, at=LEASE_END, quota=Quota(size_bytes=0)) is None
        assert catalog.usage(ANN) == Usage(images=1, size_bytes=1)

    def test_whatever_else_is_wrong_with_an_upload_is_told_first(self, catalog: Catalog) -> None:
        reserved, image, full = a_reservation(fingerprint="f"), an_image(fingerprint="f"), Quota(images=0)
        catalog.reserve(reserved, at=NOON)
        trashed(catalog, image)
        with pytest.raises(KeyReused):
            catalog.reserve(replace(reserved, holder=uuid4(), fingerprint="g"), at=LEASE_END, quota=full)
        with pytest.raises(Conflict):
            catalog.reserve(replace(reserved, holder=uuid4()), at=NOON, quota=full)
        with pytest.raises(InTrash):
            catalog.reserve(reserved_for(image), at=NOON, quota=full)

    @pytest.mark.parametrize("quota", [Quota(images=5), Quota(size_bytes=5 * 1_234 + 1_233)])
    def test_of_sixteen_at_its_edge_just_as_many_win_as_fit(self, catalog: Catalog, quota: Quota) -> None:
        reservations = [a_reservation() for _ in range(16)]
        outcomes = race(*(partial(catalog.reserve, each, at=NOON, quota=quota) for each in reservations))
        assert winners(outcomes) == 5
        assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 11
        assert catalog.usage(ANN) == Usage(images=5, size_bytes=5 * 1_234)
        assert len(due_ids(catalog, DUE)) == 5

    def test_of_sweepers_that_forget_the_same_one_gives_back(self, catalog: Catalog) -> None:
        catalog.reserve(a_reservation(due=DUE + HOUR), at=NOON)
        for _ in range(ROUNDS):
            reservation = a_reservation()
            catalog.reserve(reservation, at=NOON)
            claimant = claimed(catalog, reservation.image_id)
            race(*[partial(catalog.forget, reservation.image_id, claimant=claimant)] * 4)
            assert catalog.usage(ANN) == Usage(images=1, size_bytes=1_234)

    def test_uploads_deletions_and_sweeps_at_once_leave_it_right(self, catalog: Catalog) -> None:
        quota = Quota(images=8)
        gone = [an_image() for _ in range(4)]
        for image in gone:
            trashed(catalog, image)
        kept = [stored(catalog, an_image()) for _ in range(4)]
        outcomes = race(
            *(partial(catalog.reserve, a_reservation(due=DUE + HOUR), at=NOON, quota=quota) for _ in range(6)),
            *(
                partial(catalog.forget, image.image_id, claimant=claimed(catalog, image.image_id, until=DUE + HOUR))
                for image in gone
            ),
            *(partial(catalog.trash, ANN, image.image_id, at=NOON, due=DUE + HOUR) for image in kept),
        )
        reserved = outcomes[:6].count(None)
        assert reserved <= 4
        assert winners(outcomes[6:]) == 8
        assert catalog.usage(ANN).images == len(due_ids(catalog, DUE + HOUR)) == 4 + reserved


class TestUpdate:
    def test_it_returns_and_stores_the_revision(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())
        revision = catalog.update(ANN, image.image_id, retitled("Dog"))
        assert (revision.image.title, revision.image.version) == ("Dog", 2)
        assert revision.event is not None
        assert catalog.get(ANN, image.image_id) == revision.image

    def test_a_revision_without_an_event_writes_nothing(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())
        revision = catalog.update(ANN, image.image_id, lambda found: Revision(replace(found, version=9), None))
        assert revision.event is None
        assert catalog.get(ANN, image.image_id) == image

    @pytest.mark.parametrize("which", ["absent", "foreign", "reserved", "trashed"])
    def test_only_the_owners_own_records_are_found(self, catalog: Catalog, which: str) -> None:
        image = an_image(owner=BOB if which == "foreign" else ANN)
        if which == "foreign":
            stored(catalog, image)
        if which == "reserved":
            catalog.reserve(reserved_for(image), at=NOON)
        if which == "trashed":
            trashed(catalog, image)
        for version in (None, 1, 7):
            with pytest.raises(NotFound):
                catalog.update(ANN, image.image_id, retitled("Dog"), expected_version=version)
            with pytest.raises(NotFound):
                catalog.trash(ANN, image.image_id, at=NOON, due=DUE, expected_version=version)
        if which == "foreign":
            assert catalog.get(BOB, image.image_id) == image

    @pytest.mark.parametrize("version", [0, 2])
    def test_at_another_version_it_changes_nothing(self, catalog: Catalog, version: int) -> None:
        image = stored(catalog, an_image())
        with pytest.raises(PreconditionFailed):
            catalog.update(ANN, image.image_id, retitled("Dog"), expected_version=version)
        assert catalog.get(ANN, image.image_id) == image

    def test_at_the_expected_version_it_goes_through(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())
        catalog.update(ANN, image.image_id, retitled("Dog"), expected_version=1)
        assert catalog.update(ANN, image.image_id, retitled("Cow"), expected_version=2).image.version == 3

    def test_an_error_of_the_change_passes_through_and_nothing_is_changed(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())

        def broken(_: Image) -> Revision:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            catalog.update(ANN, image.image_id, broken)
        assert catalog.get(ANN, image.image_id) == image
        assert catalog.update(ANN, image.image_id, retitled("Dog")).image.version == 2

    def test_the_tags_of_the_new_version_find_it_and_the_old_ones_no_longer(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image(tags=["a", "b"]))
        revised = catalog.update(ANN, image.image_id, retagged("b", "c")).image
        found = {tag: catalog.page(ANN, ByTags((Tag(tag),)), limit=9).images for tag in "abc"}
        assert found == {"a": (), "b": (revised,), "c": (revised,)}

    def test_the_title_of_the_new_version_finds_it_and_the_old_one_no_longer(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image(title="Cat"))
        revised = catalog.update(ANN, image.image_id, retitled("Dog")).image
        assert catalog.page(ANN, ByTitle(Title("cat")), limit=9).images == ()
        assert catalog.page(ANN, ByTitle(Title("dog")), limit=9).images == (revised,)

    def test_sixteen_threads_that_change_one_record_lose_nothing(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())

        def note(number: int) -> object:
            def change(found: Image) -> Revision:
                text = Description(f"{found.description} {number}")
                return found.revised(MetadataChange(description=text), at=NOON)

            return catalog.update(ANN, image.image_id, change)

        outcomes = race(*(partial(note, number) for number in range(16)))
        final = catalog.get(ANN, image.image_id)
        assert winners(outcomes) == 16
        assert final.version == 17
        assert sorted(final.description.split(), key=int) == [str(number) for number in range(16)]

    def test_of_two_updates_of_the_same_version_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = stored(catalog, an_image())
            outcomes = race(
                *(
                    partial(catalog.update, ANN, image.image_id, retitled(title), expected_version=1)
                    for title in ("Dog", "Cow")
                )
            )
            assert winners(outcomes) == 1
            assert catalog.get(ANN, image.image_id).version == 2


class TestTrashAndRestore:
    def test_a_trashed_image_is_gone_from_every_read(self, catalog: Catalog) -> None:
        image = an_image(title="Cat", tags=["a", "b"])
        entry = trashed(catalog, image)
        assert entry == TrashedImage(image=image, deleted_at=NOON, due=DUE)
        with pytest.raises(NotFound):
            catalog.get(ANN, image.image_id)
        for which in FILTERS:
            assert catalog.page(ANN, which, limit=9) == ((), None)
        assert catalog.count(ANN) == 0

    def test_a_restored_image_is_in_every_read_just_as_it_was(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image(title="Cat", tags=["a", "b"]))
        revised = catalog.update(ANN, image.image_id, retagged("b", "a")).image
        entry = catalog.trash(ANN, image.image_id, at=NOON, due=DUE)
        assert catalog.restore(ANN, image.image_id, at=DUE - INSTANT) == entry
        assert catalog.get(ANN, image.image_id) == revised
        for which in FILTERS:
            assert catalog.page(ANN, which, limit=9) == ((revised,), None)
        assert catalog.count(ANN) == 1
        assert due_ids(catalog, DUE) == []

    @pytest.mark.parametrize("version", [0, 2])
    def test_at_another_version_nothing_is_trashed(self, catalog: Catalog, version: int) -> None:
        image = stored(catalog, an_image())
        with pytest.raises(PreconditionFailed):
            catalog.trash(ANN, image.image_id, at=NOON, due=DUE, expected_version=version)
        assert catalog.get(ANN, image.image_id) == image
        assert due_ids(catalog, DUE) == []

    def test_at_the_expected_version_it_is_trashed(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())
        catalog.trash(ANN, image.image_id, at=NOON, due=DUE, expected_version=1)
        assert visible(catalog) == ()

    def test_nothing_is_trashed_or_restored_twice(self, catalog: Catalog) -> None:
        image = an_image()
        trashed(catalog, image)
        with pytest.raises(NotFound):
            catalog.trash(ANN, image.image_id, at=NOON, due=DUE)
        catalog.restore(ANN, image.image_id, at=NOON)
        with pytest.raises(NotFound):
            catalog.restore(ANN, image.image_id, at=NOON)

    def test_an_image_may_go_to_the_trash_and_back_again_and_again(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image(tags=["a"]))
        for _ in range(3):
            catalog.trash(ANN, image.image_id, at=NOON, due=DUE)
            catalog.restore(ANN, image.image_id, at=NOON)
        assert visible(catalog) == (image,)

    def test_what_is_due_can_not_be_restored(self, catalog: Catalog) -> None:
        image = an_image()
        trashed(catalog, image)
        for at in (DUE, DUE + HOUR):
            with pytest.raises(NotFound):
                catalog.restore(ANN, image.image_id, at=at)
        assert catalog.restore(ANN, image.image_id, at=DUE - INSTANT).image == image

    @pytest.mark.parametrize("at", [NOON, DUE - INSTANT, DUE + HOUR])
    def test_what_a_sweeper_ever_claimed_can_not_be_restored(self, catalog: Catalog, at: datetime) -> None:
        image = an_image()
        trashed(catalog, image)
        claimed(catalog, image.image_id, until=DUE + INSTANT)
        with pytest.raises(NotFound):
            catalog.restore(ANN, image.image_id, at=at)

    @pytest.mark.parametrize("which", ["absent", "foreign", "reserved", "visible"])
    def test_only_what_is_in_the_owners_own_trash_is_restored(self, catalog: Catalog, which: str) -> None:
        image = an_image(owner=BOB if which == "foreign" else ANN)
        if which == "foreign":
            trashed(catalog, image)
        if which == "reserved":
            catalog.reserve(reserved_for(image), at=NOON)
        if which == "visible":
            stored(catalog, image)
        with pytest.raises(NotFound):
            catalog.restore(ANN, image.image_id, at=NOON)
        if which == "foreign":
            assert catalog.restore(BOB, image.image_id, at=NOON).image == image

    def test_every_field_survives_the_trash(self, catalog: Catalog) -> None:
        image = stored(catalog, ODD_IMAGE)
        catalog.trash(image.owner, image.image_id, at=NOON + INSTANT, due=DUE)
        entry = catalog.claim(image.image_id, claimant=uuid4(), at=DUE, until=DUE + MINUTE)
        assert entry == TrashedImage(image=image, deleted_at=NOON + INSTANT, due=DUE)

    def test_of_two_deletions_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = stored(catalog, an_image())
            attempts = [partial(catalog.trash, ANN, image.image_id, at=NOON, due=DUE)] * 2
            assert winners(race(*attempts)) == 1

    def test_of_two_restores_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = an_image()
            trashed(catalog, image)
            attempts = [partial(catalog.restore, ANN, image.image_id, at=NOON)] * 2
            assert winners(race(*attempts)) == 1
            assert image in visible(catalog)

    def test_of_a_deletion_and_an_update_of_the_same_version_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = stored(catalog, an_image(tags=["a"]))
            deleted, updated = race(
                partial(catalog.trash, ANN, image.image_id, at=NOON, due=DUE, expected_version=1),
                partial(catalog.update, ANN, image.image_id, retagged("b"), expected_version=1),
            )
            assert isinstance(deleted, CalotypeError) != isinstance(updated, CalotypeError)

    def test_a_deletion_takes_along_whatever_an_update_wrote_before_it(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            image = stored(catalog, an_image(tags=["a"]))
            deleted, updated = race(
                partial(catalog.trash, ANN, image.image_id, at=NOON, due=DUE),
                partial(catalog.update, ANN, image.image_id, retagged("b")),
            )
            assert isinstance(deleted, TrashedImage)
            assert deleted.image == (updated.image if isinstance(updated, Revision) else image)
            assert visible(catalog) == catalog.page(ANN, ByTags((Tag("a"), Tag("b"))), limit=9).images == ()

    def test_of_a_restore_and_a_claim_one_wins(self, catalog: Catalog) -> None:
        # The sweeper's clock is ahead, or the restore has been on its way for a while.
        for _ in range(ROUNDS):
            image = an_image()
            trashed(catalog, image)
            restored, claim = race(
                partial(catalog.restore, ANN, image.image_id, at=DUE - INSTANT),
                partial(catalog.claim, image.image_id, claimant=uuid4(), at=DUE, until=DUE + MINUTE),
            )
            assert isinstance(restored, NotFound) == (claim is not None)
            assert (image in visible(catalog)) == (claim is None)


class TestReclaim:
    def test_an_entry_is_due_from_its_very_time_on(self, catalog: Catalog) -> None:
        reservation = a_reservation()
        catalog.reserve(reservation, at=NOON)
        image = an_image()
        trashed(catalog, image, due=DUE + INSTANT)
        assert due_ids(catalog, DUE - INSTANT) == []
        assert due_ids(catalog, DUE) == [reservation.image_id]
        assert set(catalog.due(DUE + INSTANT)) == {reservation.image_id, image.image_id}

    def test_a_walk_meets_every_entry_that_is_there_all_the_time_once(self, catalog: Catalog, scale: float) -> None:
        # More than SQLite's batch, and many of the same due time.
        entries = [a_reservation(due=DUE + (number % 3) * INSTANT) for number in range(round(520 * scale))]
        for entry in entries:
            catalog.reserve(entry, at=NOON)
        met = []
        for image_id in catalog.due(DUE + HOUR):
            met.append(image_id)
            if len(met) % 50 == 0:
                # What it met goes away, and others come: the usual life of a sweep.
                catalog.forget(image_id, claimant=claimed(catalog, image_id, at=DUE + HOUR))
                catalog.reserve(a_reservation(due=DUE + 2 * HOUR), at=NOON)
        assert sorted(met) == sorted(entry.image_id for entry in entries)

    def test_a_claim_returns_the_whole_entry(self, catalog: Catalog) -> None:
        reservation = a_reservation(fingerprint="f", lease_until=NOON + 7 * INSTANT)
        catalog.reserve(reservation, at=NOON)
        assert catalog.claim(reservation.image_id, claimant=uuid4(), at=DUE, until=DUE + MINUTE) == reservation

    def test_nothing_that_is_not_due_or_not_there_can_be_claimed(self, catalog: Catalog) -> None:
        reservation = a_reservation()
        catalog.reserve(reservation, at=NOON)
        for image_id in (reservation.image_id, uuid4()):
            assert catalog.claim(image_id, claimant=uuid4(), at=DUE - INSTANT, until=DUE + MINUTE) is None
        assert catalog.reserve(a_reservation(), at=NOON) is None

    def test_a_running_claim_keeps_other_sweepers_away_until_its_end(self, catalog: Catalog) -> None:
        reservation = a_reservation()
        catalog.reserve(reservation, at=NOON)
        claimed(catalog, reservation.image_id, until=DUE + MINUTE)
        late, later = DUE + MINUTE - INSTANT, DUE + MINUTE
        assert catalog.claim(reservation.image_id, claimant=uuid4(), at=late, until=late + HOUR) is None
        assert catalog.claim(reservation.image_id, claimant=uuid4(), at=later, until=later + HOUR) == reservation

    def test_only_the_present_claimant_makes_the_entry_forgotten(self, catalog: Catalog) -> None:
        reservation = a_reservation()
        catalog.reserve(reservation, at=NOON)
        catalog.forget(reservation.image_id, claimant=uuid4())
        former = claimed(catalog, reservation.image_id, until=DUE + MINUTE)
        present = claimed(catalog, reservation.image_id, at=DUE + MINUTE)
        for stranger in (former, uuid4(), reservation.holder):
            catalog.forget(reservation.image_id, claimant=stranger)
        assert due_ids(catalog, DUE) == [reservation.image_id]
        catalog.forget(reservation.image_id, claimant=present)
        assert due_ids(catalog, DUE) == []

    def test_forgetting_may_be_repeated_and_harms_no_later_entry(self, catalog: Catalog) -> None:
        reservation = a_reservation()
        catalog.reserve(reservation, at=NOON)
        claimant = claimed(catalog, reservation.image_id)
        catalog.forget(reservation.image_id, claimant=claimant)
        catalog.reserve(reservation, at=NOON)
        catalog.forget(reservation.image_id, claimant=claimant)
        assert due_ids(catalog, DUE) == [reservation.image_id]

    def test_the_entry_of_a_trashed_image_can_be_forgotten_too(self, catalog: Catalog) -> None:
        image = an_image()
        trashed(catalog, image)
        catalog.forget(image.image_id, claimant=claimed(catalog, image.image_id))
        assert due_ids(catalog, DUE) == []
        with pytest.raises(NotFound):
            catalog.restore(ANN, image.image_id, at=NOON)

    def test_of_many_claims_one_wins(self, catalog: Catalog) -> None:
        for _ in range(ROUNDS):
            reservation = a_reservation()
            catalog.reserve(reservation, at=NOON)
            attempts = [partial(catalog.claim, reservation.image_id, claimant=uuid4(), at=DUE, until=DUE + MINUTE)] * 4
            assert sorted(race(*attempts), key=bool) == [None, None, None, reservation]

    def test_a_store_that_works_answers_a_ping(self, catalog: Catalog) -> None:
        catalog.ping()


# A property before all examples: whatever is called in whatever order, an adapter answers as the reference model.
# An image id only ever belongs to one owner; others may well ask for it.

FILTERS: tuple[Filter, ...] = (
    ByOwner(),
    ByTitle(Title("cat")),
    ByTags((Tag("a"),)),
    ByTags((Tag("a"),), "all"),
    ByTags((Tag("a"), Tag("b"))),
    ByTags((Tag("a"), Tag("b")), "all"),
)
ODD_IMAGE = an_image(
    owner="a|b@c:d._-e",
    filename="100% _'\"; DROP TABLE images; \N{PILE OF POO}.jpg",
    title="Caf\N{LATIN SMALL LETTER E WITH ACUTE} Stra\N{LATIN SMALL LETTER SHARP S}e 'x' \"y\" %_#",
    description="one\0two\nthree\N{PILE OF POO}",
    tags=["%", "_", "a#b", "'", '"', "a\0b", "\N{FAMILY}", "e\N{COMBINING DOT BELOW}\N{COMBINING ACUTE ACCENT}", "a,b"],
    sha256="0f" * 32,
    size_bytes=25 * 1024 * 1024,
    width=100_000,
    height=1,
    created_at=NOON + INSTANT,
    updated_at=NOON + SECOND + INSTANT,
    version=12,
    fingerprint="f",
)

Call = Callable[[Catalog], object]
OWNER_OF = {UUID(int=1): ANN, UUID(int=2**127): ANN, UUID(int=3): BOB}
SIZE_OF = {UUID(int=1): 10, UUID(int=2**127): 20, UUID(int=3): 30}
ids = st.sampled_from([UUID(int=1), UUID(int=1), UUID(int=2**127), UUID(int=2**127), UUID(int=3)])
owners = st.sampled_from([ANN, ANN, ANN, BOB])
holders = st.sampled_from([UUID(int=11), UUID(int=12)])
fingerprints = st.sampled_from([None, "f", "f", "g"])
times = st.integers(0, 5).map(lambda step: NOON + step * MINUTE)
versions = st.sampled_from([None, None, 1, 2])
images = st.builds(
    lambda image_id, **fields: an_image(
        image_id=image_id, owner=OWNER_OF[image_id], size_bytes=SIZE_OF[image_id], **fields
    ),
    image_id=ids,
    fingerprint=fingerprints,
    title=st.sampled_from(["Cat", "cat", "Dog"]),
    tags=st.lists(st.sampled_from("abc"), unique=True),
    created_at=st.sampled_from([NOON, NOON, NOON + INSTANT]),
)
reservations = st.builds(
    lambda image_id, **fields: a_reservation(
        image_id=image_id, owner=OWNER_OF[image_id], size_bytes=SIZE_OF[image_id], **fields
    ),
    image_id=ids,
    holder=holders,
    lease_until=times,
    due=times,
    fingerprint=fingerprints,
)
quotas = st.sampled_from(
    [UNLIMITED, UNLIMITED, UNLIMITED, Quota(images=1), Quota(size_bytes=20), Quota(size_bytes=29), Quota(images=0)]
)
changes = st.builds(
    MetadataChange,
    title=st.none() | st.sampled_from([Title("Cat"), Title("Dog")]),
    tags=st.none() | st.lists(st.sampled_from("abc"), unique=True).map(parse_tags),
)


def reserve(reservation: Reservation, at: datetime, quota: Quota) -> Call:
    return lambda catalog: catalog.reserve(reservation, at=at, quota=quota)


def abandon(image_id: UUID, holder: UUID, due: datetime) -> Call:
    return lambda catalog: catalog.abandon(image_id, holder=holder, due=due)


def commit(image: Image, holder: UUID) -> Call:
    return lambda catalog: catalog.commit(image, holder=holder)


def upload(image: Image, holder: UUID, at: datetime) -> Call:
    def both(catalog: Catalog) -> None:
        catalog.reserve(replace(reserved_for(image), holder=holder, lease_until=at + MINUTE, due=at + MINUTE), at=at)
        catalog.commit(image, holder=holder)

    return both


def update(owner: UserId, image_id: UUID, change: MetadataChange, version: int | None) -> Call:
    return lambda catalog: catalog.update(
        owner, image_id, lambda image: image.revised(change, at=NOON), expected_version=version
    )


def trash(owner: UserId, image_id: UUID, at: datetime, due: datetime, version: int | None) -> Call:
    return lambda catalog: catalog.trash(owner, image_id, at=at, due=due, expected_version=version)


def restore(owner: UserId, image_id: UUID, at: datetime) -> Call:
    return lambda catalog: catalog.restore(owner, image_id, at=at)


def claim(image_id: UUID, claimant: UUID, at: datetime) -> Call:
    return lambda catalog: catalog.claim(image_id, claimant=claimant, at=at, until=at + MINUTE)


def forget(image_id: UUID, claimant: UUID) -> Call:
    return lambda catalog: catalog.forget(image_id, claimant=claimant)


calls = st.one_of(
    st.builds(upload, images, holders, times),
    st.builds(reserve, reservations, times, quotas),
    st.builds(abandon, ids, holders, times),
    st.builds(commit, images, holders),
    st.builds(update, owners, ids, changes, versions),
    st.builds(trash, owners, ids, times, times, versions),
    st.builds(restore, owners, ids, times),
    st.builds(claim, ids, holders, times),
    st.builds(forget, ids, holders),
)


def answer(catalog: Catalog, call: Call) -> object:
    try:
        return call(catalog)
    except Conflict as refusal:
        return type(refusal), refusal.retry_after_s
    except QuotaExceeded as refusal:
        return str(refusal)
    except CalotypeError as refusal:
        return type(refusal)


def everything_visible(catalog: Catalog) -> object:
    pages = [catalog.page(owner, which, limit=1) for owner in (ANN, BOB) for which in FILTERS]
    numbers = [(catalog.count(owner), catalog.usage(owner)) for owner in (ANN, BOB)]
    return pages, numbers, [sorted(catalog.due(NOON + k * MINUTE)) for k in range(6)]


def test_any_sequence_of_calls_is_answered_as_the_reference_model_answers(
    open_catalog: OpenCatalog, scale: float
) -> None:
    @settings(max_examples=round(100 * scale))
    @given(st.lists(calls, min_size=5, max_size=25))
    def law(sequence: list[Call]) -> None:
        model = MemoryMetadata()
        with open_catalog() as catalog:
            for number, call in enumerate(sequence, start=1):
                assert answer(catalog, call) == answer(model, call)
                if scale == 1 or number == len(sequence):
                    assert everything_visible(catalog) == everything_visible(model)

    law()
