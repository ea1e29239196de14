"""The state machine with faults: any call of any operation may fail, hang, be lost or be the process's last.

What nobody knows the outcome of is looked up at once: it is one of the two that it can be, and the model, which has
been told, sees to it that it stays so.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from application.commands.upload_image import image_id_for
from application.ports import ByOwner
from domain.errors import CalotypeError, Conflict, QuotaExceeded, Unavailable
from domain.image import image_id_of
from domain.quota import Usage
from domain.values import IdempotencyKey, ImageId, UserId
from tests.harness.faults import PLAIN, STREAMS, Fault, Faults, Hang, ProcessDied, StreamBroke
from tests.harness.machine import Harness, Which, good_forms, mostly, owners, with_state
from tests.harness.model import Change, Form, Model, Shown, Uploaded
from tests.harness.stage import CLAIM, FOR_GOOD, LEASE, RESERVATION
from tests.harness.systems import QUOTA, BusSystem, Stores

R = TypeVar("R")

_PAUSES = (LEASE, CLAIM, RESERVATION)
_FAULTS = len(PLAIN) + len(STREAMS) + 2 * len(_PAUSES)
_faults = st.integers(0, _FAULTS - 1)
_STEPS = st.sampled_from([timedelta(microseconds=1), LEASE, CLAIM, RESERVATION])


@dataclass
class FaultySystem(BusSystem):
    """The bus on ports that can fail; what the model is compared with is read past the faults."""

    faults: Faults = field(default_factory=Faults)

    def _open(self) -> None:
        super()._open()
        faulty = Stores(self.faults.wrap(self._stores.metadata), self.faults.wrap(self._stores.objects))
        self._bus = faulty.bus(self._clock, self._ids)

    def fault(self, number: int) -> Fault:
        faults: list[Fault] = [*PLAIN, *STREAMS]
        faults += [Hang(self._clock, pause, "before") for pause in _PAUSES]
        faults += [Hang(self._clock, pause, "after") for pause in _PAUSES]
        return faults[number]


class FaultyHarness(Harness):
    """`Harness`, with a fault now and then."""

    system: FaultySystem

    def __init__(self, system: FaultySystem) -> None:
        super().__init__(system)
        self.planned: Mapping[int, Fault] = {}
        self.leftovers: set[ImageId] = set()
        """Ids that a failed upload may have left a reservation for."""
        self.claims_end: datetime = system.now()
        """From when on nothing is claimed by a sweeper that failed."""
        self.failure: CalotypeError | None = None
        """How the last operation ended."""

    @rule(number=st.integers(0, 1), fault=_faults)
    def plan_a_fault(self, number: int, fault: int) -> None:
        """For the next command, or reading of bytes."""
        self.planned = {number: self.system.fault(fault)}

    @rule(number=st.integers(0, 2), fault=_faults, who=owners, form=good_forms)
    def upload_in_trouble(self, number: int, fault: int, who: str, form: Form) -> None:
        self.plan_a_fault(number, fault)
        self.send(self.owner(who), form)

    @rule(number=st.integers(0, 2), fault=_faults, image=with_state)
    @precondition(lambda self: self.model.ids_by_key)
    def upload_again_in_trouble(self, number: int, fault: int, image: Which) -> None:
        self.plan_a_fault(number, fault)
        self.upload_again(image)

    @rule(fault=_faults, image=mostly("live"), permanent=st.booleans())
    def delete_in_trouble(self, fault: int, image: Which, *, permanent: bool) -> None:
        self.plan_a_fault(0, fault)
        self.delete(image, None, permanent=permanent, by_stranger=False)

    @rule(number=st.integers(0, 5), fault=_faults)
    def sweep_in_trouble(self, number: int, fault: int) -> None:
        self.plan_a_fault(number, fault)
        self.sweep_all()

    @rule(step=_STEPS)
    def advance(self, step: timedelta) -> None:
        """Clocks aren't set back here: then a claim may stand beside a record of which the model says it isn't due."""
        self.system.advance(step)

    # ---- what is different where things fail

    def send(self, owner: UserId, form: Form) -> None:
        image_id = None if form.key is None else image_id_for(owner, IdempotencyKey(form.key))
        known = {shown.image_id for shown in self.shown(owner)}

        def expect(model: Model, answer: Uploaded | None) -> Uploaded | None:
            if isinstance(self.failure, QuotaExceeded):
                model.upload(owner, form, None)
                # It would fit, were it not for what failed uploads have left: that counts until it is swept.
                assert self.leftovers
                QUOTA.admit(Usage(images=1, size_bytes=len(form.picture.data)), used=self.system.usage(owner))
                return None
            if answer is None:  # unknown: has it come?
                new = [shown for shown in self.shown(owner) if shown.image_id not in known]
                assert len(new) <= 1
                model.now = new[0].created_at if new else model.now
                return model.upload(owner, form, new[0].image_id if new else None)
            return model.upload(owner, form, answer.image.image_id)

        # A reservation that was left, or an entry that a sweeper holds, may answer for the image.
        busy = image_id in self.leftovers | self.system.reclaimable()
        self.try_to(lambda: self.system.upload(owner, form), expect, may_conflict=busy)
        self.leftovers |= self.system.reclaimable() - set(self.model.trash)

    def revise_as(self, owner: UserId, image_id: ImageId, change: Change, version: int | None) -> None:
        self.try_to(
            lambda: self.system.revise(owner, image_id, change, version),
            lambda model, _: model.revise(owner, image_id, change, version),
        )

    def delete_as(self, owner: UserId, image_id: ImageId, version: int | None, *, permanent: bool) -> None:
        self.try_to(
            lambda: self.system.delete(owner, image_id, permanent=permanent, expected_version=version),
            lambda model, _: model.delete(owner, image_id, permanent=permanent, expected_version=version),
        )

    def restore_as(self, owner: UserId, image_id: ImageId) -> None:
        self.try_to(lambda: self.system.restore(owner, image_id), lambda model, _: model.restore(owner, image_id))

    def read_as(self, owner: UserId, image_id: ImageId, part: range | None) -> None:
        piece = slice(None) if part is None else slice(part.start, part.stop)
        self.try_to(
            lambda: self.system.read(owner, image_id, part), lambda model, _: model.read(owner, image_id, piece)
        )

    def sweep_all(self) -> None:
        planned, self.planned = self.planned, {}
        self.system.faults.arm(planned)
        with suppress(Unavailable):
            self.carry_out(self.system.sweep)
        met = self.system.faults.met
        if met:
            self.claims_end = self.system.now() + CLAIM
        self.system.faults.arm({})
        left, now = self.system.reclaimable(), self.system.now()
        for image_id in set(self.model.trash) - left:
            assert self.model.trash.pop(image_id).due <= now, "it was collected before it was due"
        self.leftovers &= left
        if now >= self.claims_end and not met:
            late = [image_id for image_id, trashed in self.model.trash.items() if trashed.due <= now]
            assert not late, "it is due, and no sweeper holds it, and it was not collected"

    def every_object_and_every_entry_is_accounted_for(self) -> None:
        stored, entries = self.system.stored(), self.system.reclaimable()
        assert self.model.keys() <= stored
        assert {image_id_of(key) for key in stored - self.model.keys()} <= self.leftovers
        assert set(self.model.trash) <= entries <= set(self.model.trash) | self.leftovers

    def usage_is_what_is_stored(self) -> None:
        assert self.system.miscounts() == []
        for owner in self.system.owners:
            left = self.system.usage(owner) - self.model.usage(owner)
            assert 0 <= left.images <= len(self.leftovers)
            assert (left.images == 0) == (left.size_bytes == 0)

    def clear_everything(self) -> None:
        self.planned = {}
        self.system.advance(FOR_GOOD)
        self.sweep_all()
        assert self.system.stored() == self.model.keys()
        assert not self.system.reclaimable()
        super().clear_everything()

    # ---- how it is done

    def try_to(
        self, ask: Callable[[], R], expect: Callable[[Model, R | None], R | None], *, may_conflict: bool = False
    ) -> None:
        """Compare as `agree` does; if nobody knows what came of it, let the model be what the system shows."""
        planned, self.planned = self.planned, {}
        self.system.faults.arm(planned)
        self.failure = None
        met: list[str] = []

        def asked() -> R:
            try:
                return self.carry_out(ask)
            except CalotypeError as error:
                self.failure = error
                raise
            finally:
                met.extend(self.system.faults.met)
                self.system.faults.arm({})

        before = _copied(self.model)

        def expected(answer: R | None) -> R | None:
            failure = self.failure
            if may_conflict and isinstance(failure, Conflict):
                raise failure
            if not isinstance(failure, Unavailable):
                return expect(self.model, answer)
            assert met, "nothing was wrong"
            with suppress(CalotypeError):
                expect(self.model, None)
            if not self.shows_all():
                self.model = before
            raise failure

        self.agree(asked, expected)

    def carry_out(self, ask: Callable[[], R]) -> R:
        try:
            return ask()
        except ProcessDied as end:
            self.system.reopen(gently=False)
            raise Unavailable from end
        except StreamBroke as end:
            raise Unavailable from end

    def shown(self, owner: UserId) -> list[Shown]:
        return list(self.system.page(owner, ByOwner(), 100, None).images)

    def shows_all(self) -> bool:
        return all(
            self.system.page(owner, ByOwner(), 100, None) == self.model.page(owner, ByOwner(), 100, None)
            for owner in self.system.owners
        )


def _copied(model: Model) -> Model:
    twin = copy(model)
    twin.live, twin.trash = dict(model.live), dict(model.trash)
    twin.forms, twin.ids_by_key = dict(model.forms), dict(model.ids_by_key)
    return twin
