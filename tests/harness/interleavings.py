"""Every interleaving of a few operations on one image, at the level of port calls, with the clock moved in between.

An operation is carried out by an `Actor`, one call at a time. No threads: handlers decide by the answers of their
ports alone, so an actor goes on by starting its handler anew, giving it the answers it had before, and letting one
more call go through. It can stand still before any call for as long as anybody likes, or for ever.

`explore` walks all states that can be reached on the memory adapters, each once: a state is what the stores hold, the
time, and the answers that each actor has had. It gives a schedule for each end of that walk; together they lead
through every state. `replay` carries such a schedule out on any adapters, and holds every answer against the
reference model's.
"""

import itertools
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, cast

from adapters.memory import MemoryMetadata, MemoryObjects
from application.commands.delete_image import DeleteImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.sweep import Sweep, SweepReport
from application.commands.upload_image import UploadedImage, UploadImage
from domain.errors import CalotypeError, Conflict, KeyReused, Unavailable
from domain.image import Image
from domain.reclaim import TrashedImage
from tests.harness.faults import Call, Port, through
from tests.harness.stage import (
    CLAIM,
    FOR_GOOD,
    OTHER,
    RESERVATION,
    CountedIds,
    Op,
    Seen,
    Stage,
    Stages,
    perform,
    upload,
)
from tests.harness.systems import Stores, memory_stores

Action = int | timedelta
"""The number of the actor whose next call goes through; or how far the clock is moved."""


@dataclass(frozen=True)
class Race:
    """Operations at the same time, after others that were done before."""

    ops: tuple[Op, ...]
    arranged: tuple[Op, ...] = (upload(),)
    waited: timedelta = timedelta(0)
    moves: tuple[timedelta, ...] = ()
    """How far the clock may be moved, each as often as it is there, at any time and in any order."""
    more_moves: tuple[timedelta, ...] = ()
    """For those who have minutes."""
    winners: int | None = None
    """How many must succeed, if that is always the same."""


class Answer(NamedTuple):
    """What a call came to."""

    value: Any = None
    error: CalotypeError | None = None

    @classmethod
    def of(cls, go: Callable[[], Any]) -> "Answer":
        try:
            value = go()
            return cls(tuple(value) if isinstance(value, Iterator) else value)
        except CalotypeError as error:
            return cls(error=error)

    def give(self) -> Any:
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.value

    @property
    def key(self) -> object:
        """Equal for equal answers."""
        if self.error is not None:
            return type(self.error)
        # An opened body is told by the bytes that its reader makes the result.
        return self.value if isinstance(self.value, Hashable) else type(self.value)

    @property
    def is_lost(self) -> bool:
        """Whether it says nothing but that others, or the time, were faster."""
        return type(self.error) in {Conflict, Unavailable}

    @property
    def gist(self) -> object:
        """What must be equal to that of a serial execution: all but ids and times."""
        match self.value:
            case UploadedImage(image, replayed):
                return "uploaded", replayed, image.title, image.version
            case Image() as image:
                return image.title, image.tags, image.version
            case TrashedImage(image=image):
                return "trashed", image.version
            case SweepReport():
                return "swept"
            case _:
                return self.key


class Step(NamedTuple):
    """What one call of one actor came to."""

    op: str
    call: str
    kind: str


class Schedule(NamedTuple):
    """Actions, and the steps that came one right after the other by them."""

    actions: tuple[Action, ...]
    sights: frozenset[tuple[Step, ...]]


def worth_most(schedules: Sequence[Schedule], count: int, chance: random.Random) -> list[Schedule]:
    """Choose: as long as there is one that shows what none before has shown, the one that shows most; then any."""
    left, chosen = list(schedules), list[Schedule]()
    unseen = set[tuple[Step, ...]]().union(*(each.sights for each in schedules))
    chance.shuffle(left)
    while left and len(chosen) < count:
        best = max(left, key=lambda each: len(each.sights & unseen)) if unseen else left[-1]
        unseen -= best.sights
        left.remove(best)
        chosen.append(best)
    return chosen


class _StandsStill(BaseException):
    """Unwinds a handler before a call that is not to go through yet."""


@dataclass
class Actor:
    """One operation, carried out a call at a time."""

    stage: Stage
    number: int
    op: Op
    answers: tuple[Answer, ...] = ()
    result: Answer | None = None
    after: frozenset[int] = frozenset()
    """The actors that had ended before this one began."""
    span: tuple[datetime, datetime] | None = None
    """When it began, and when its last call went through."""

    def __post_init__(self) -> None:
        self._given = 0
        self._ids = CountedIds("")
        self._bus = self.stage.bus(self._wrap, ids=self._ids, clock=self._wrap(self.stage.clock))

    def step(self, *, time_stands: bool = True) -> str:
        """Let one more call go through, and go on to just before the next; return the call's name.

        Readings of the clock in a row are one call, and none at all if ``time_stands`` from here on.
        """
        self._given, self._last, self._time_stands = 0, "", time_stands
        self._ids.row, self._ids.given = f"{self.stage.owner} {self.number}", 0
        command = self.op(self.stage.owner)
        with suppress(_StandsStill):
            self.result = Answer.of(lambda: perform(self._bus, command))
        now = self.stage.clock.now()
        self.span = (now if self.span is None else self.span[0], now)
        return self._last

    @property
    def times(self) -> list[datetime]:
        """All times that it may be said to have happened at: those that it has read, and when it began and ended."""
        read = [answer.value for answer in self.answers if isinstance(answer.value, datetime)]
        return sorted({*read, *(self.span or ())})

    @property
    def state(self) -> tuple[Any, ...]:
        return self.answers, self.result, self.after, self.span

    @state.setter
    def state(self, state: tuple[Any, ...]) -> None:
        self.answers, self.result, self.after, self.span = state

    @property
    def key(self) -> object:
        """What it will still do, or did; equal for equal."""
        if self.result is None:
            return tuple(answer.key for answer in self.answers), self.after
        return self.result.key, self.after, tuple(self.times)

    def _wrap(self, port: Port) -> Port:
        return through(self._hook, port)

    def _hook(self, call: Call) -> Any:
        if self._given < len(self.answers):
            self._given += 1
            return self.answers[self._given - 1].give()
        if self._last not in {"", "now"} or (self._last == "now" != call.name and not self._time_stands):
            raise _StandsStill
        self._last = call.name
        self._given += 1
        answer = Answer.of(call.go)
        self.answers = (*self.answers, answer)
        return answer.give()


class Scene:
    """A race under way."""

    def __init__(self, race: Race, stage: Stage) -> None:
        self.stage = stage
        stage.do(*race.arranged)
        stage.clock.advance(race.waited)
        self.actors = [Actor(stage, number, op) for number, op in enumerate(race.ops)]
        self.moves = race.moves
        self.last_step: Step | None = None

    @property
    def pending(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.result is None]

    def choices(self) -> list[Action]:
        pending = [actor.number for actor in self.pending]
        return [*pending, *dict.fromkeys(self.moves)] if pending else []

    def take(self, action: Action) -> str:
        """Do it; return what was done, in words."""
        if isinstance(action, timedelta):
            moves = list(self.moves)
            moves.remove(action)
            self.moves = tuple(moves)
            self.stage.clock.advance(action)
            self.last_step = None
            return f"the clock: {action} later"
        actor = self.actors[action]
        if not actor.answers:
            actor.after = frozenset(other.number for other in self.actors if other.result is not None)
        call = actor.step(time_stands=not self.moves)
        name = type(actor.op(self.stage.owner)).__name__
        said = actor.answers[-1]
        self.last_step = Step(name, call, type(said.value if said.error is None else said.error).__name__)
        ended = "" if actor.result is None else f", and it ends: {actor.result.error or actor.result.gist!r}"
        return f"{name} {action}: {call}{ended}"


# ---- on the memory adapters: every state, each once

_Memory = tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any], datetime]


class Explorer:
    """Walks all states of a race, and checks in each what must hold there, and after everybody died there."""

    def __init__(
        self,
        race: Race,
        new_metadata: Callable[[], MemoryMetadata] = MemoryMetadata,
        new_objects: Callable[[Any], MemoryObjects] = MemoryObjects,
    ) -> None:
        self.race = race
        self.states = 0
        self._open_stores = partial(memory_stores, new_metadata, new_objects)
        self._scene = Scene(race, self._new())
        self._path: list[Action] = []
        self._steps: list[Step | None] = []
        self._seen: set[object] = set()
        self._sights: frozenset[tuple[Step, ...]] = frozenset()
        self._survived: set[object] = set()
        self._serial: dict[object, tuple[Mapping[int, object], Seen]] = {}

    def schedules(self) -> Iterator[Schedule]:
        """Walk on, and give a schedule at each end: together they show all states, and each pair of steps."""
        scene = self._scene
        key = (self._stores_key, tuple(actor.key for actor in scene.actors), scene.moves)
        steps = [step for step in self._steps if step is not None]
        schedule = Schedule(tuple(self._path), frozenset(itertools.pairwise(steps)))
        if key in self._seen:
            if not schedule.sights <= self._sights:
                self._sights |= schedule.sights
                yield schedule
            return
        self._seen.add(key)
        self.states += 1
        with self._explained():
            self._examine()
        states = self.states
        for action in scene.choices():
            memory, actors, moves = self._memory, [actor.state for actor in scene.actors], scene.moves
            self._path.append(action)
            with self._explained():
                scene.take(action)
            self._steps.append(scene.last_step)
            yield from self.schedules()
            self._steps.pop()
            self._path.pop()
            self._memory, scene.moves = memory, moves
            for actor, state in zip(scene.actors, actors, strict=True):
                actor.state = state
        if self.states == states:
            self._sights |= schedule.sights
            yield schedule

    def _new(self) -> Stage:
        return Stages(self._open_stores()).new()

    def _examine(self) -> None:
        scene = self._scene
        scene.stage.check()
        if not scene.pending:
            self._check_is_serial()
        memory = self._memory
        if self._stores_key not in self._survived:
            self._survived.add(self._stores_key)
            scene.stage.settle()
            self._check_the_key_works()
            self._memory = memory
        dead = tuple((actor.number, actor.key) for actor in scene.pending if actor.answers)
        if dead and (self._stores_key, dead) not in self._survived:
            self._survived.add((self._stores_key, dead))
            self._check_the_dead_may_come_back()
            self._memory = memory

    def _check_the_key_works(self) -> None:
        stage = self._scene.stage
        seen = stage.seen()
        with suppress(KeyReused):  # as long as the image is there
            stage.do(upload(OTHER, title="Again"))
            assert not seen
        assert len(stage.seen()) == 1

    def _check_the_dead_may_come_back(self) -> None:
        """Others take all for dead, collect, and upload anew; then the dead go on where they stood."""
        scene = self._scene
        if any(isinstance(actor.op(scene.stage.owner), DeleteImage | ReviseMetadata) for actor in scene.pending):
            return  # these would rightly change the new one
        actors = [actor.state for actor in scene.actors]
        for time in (timedelta(0), CLAIM, RESERVATION, FOR_GOOD):
            scene.stage.clock.advance(time)
            scene.stage.sweep()
            with suppress(Conflict):
                scene.stage.do(upload(OTHER, title="Again"))
                break
        seen = scene.stage.seen()
        for actor in scene.pending:
            while actor.result is None:
                actor.step()
                scene.stage.check()
        if any(title == "Again" for title, *_ in seen):
            assert scene.stage.seen() == seen, "what came back from the dead harmed a new upload"
        scene.stage.settle()
        for actor, state in zip(scene.actors, actors, strict=True):
            actor.state = state

    def _check_is_serial(self) -> None:
        """Some order of the operations, one after another, gives the same results, and the same is seen at the end."""
        actors, seen = self._scene.actors, self._scene.stage.seen()
        results = {actor.number: cast("Answer", actor.result) for actor in actors}
        uploads = [actor for actor in actors if isinstance(actor.op(actor.stage.owner), UploadImage)]
        sweeps = [actor for actor in actors if isinstance(actor.op(actor.stage.owner), Sweep)]
        if uploads and not sweeps and self._scene.moves == self.race.moves:
            assert any(not results[actor.number].is_lost for actor in uploads), "nobody won"
        lost = {actor.number for actor in actors if results[actor.number].is_lost}
        if lost & {actor.number for actor in uploads}:
            # The key was another upload's as long as that had not failed.
            lost |= {actor.number for actor in uploads if isinstance(results[actor.number].error, KeyReused)}
        if (expected_winners := self.race.winners) is not None:
            assert expected_winners == sum(result.error is None for result in results.values()), "too many won, or few"
        certain = [actor for actor in actors if actor not in sweeps and actor.number not in lost]
        # A sweep may have come too early for the others, or too late, or end in the middle: it counts or it doesn't.
        for some in (some for count in range(len(sweeps) + 1) for some in itertools.combinations(sweeps, count)):
            for order in itertools.permutations([*certain, *some]):
                places = {actor.number: place for place, actor in enumerate(order)}
                if any(places.get(other, -1) > places[actor.number] for actor in order for other in actor.after):
                    continue
                for times in itertools.product(*(actor.times for actor in order)):
                    expected, expected_seen = self._done_serially(order, times)
                    if expected_seen == seen and all(
                        expected[actor.number] == results[actor.number].gist for actor in certain
                    ):
                        return
        told = {number: result.gist for number, result in results.items()}
        raise AssertionError(f"no serial order gives {told}, and that {seen} is seen")

    def _done_serially(self, order: Sequence[Actor], times: Sequence[datetime]) -> tuple[Mapping[int, object], Seen]:
        key = tuple((actor.number, time) for actor, time in zip(order, times, strict=True))
        if key not in self._serial:
            scene = Scene(self.race, self._new())
            gists = {}
            for number, time in key:
                scene.stage.clock.present = time
                actor = scene.actors[number]
                while actor.result is None:
                    actor.step()
                gists[number] = actor.result.gist
            self._serial[key] = gists, scene.stage.seen()
        return self._serial[key]

    @property
    def _memory(self) -> _Memory:
        stores, clock = self._scene.stage.stores, self._scene.stage.clock
        metadata, objects = cast("MemoryMetadata", stores.metadata), cast("MemoryObjects", stores.objects)
        return dict(metadata.records), dict(metadata.entries), dict(objects.objects), clock.present

    @_memory.setter
    def _memory(self, memory: _Memory) -> None:
        stores, clock = self._scene.stage.stores, self._scene.stage.clock
        metadata, objects = cast("MemoryMetadata", stores.metadata), cast("MemoryObjects", stores.objects)
        metadata.records, metadata.entries, objects.objects = (dict(each) for each in memory[:3])
        clock.present = memory[3]

    @property
    def _stores_key(self) -> object:
        *contents, now = self._memory
        return (*(frozenset(content.items()) for content in contents), now)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _StandsStill:
            raise
        except Exception as error:
            error.add_note("\n".join(["by this schedule:", *told(self.race, self._path)]))
            raise


def told(race: Race, schedule: Sequence[Action]) -> Iterator[str]:
    """The schedule in words, as the memory adapters carry it out."""
    scene = Scene(race, Stages(memory_stores()).new())
    for action in schedule:
        try:
            yield scene.take(action)
        except Exception as error:  # noqa: BLE001 (what it tells of has failed)
            yield f"{action}: {error!r}"
            return


# ---- on any adapters


def replay(race: Race, schedule: Sequence[Action], stages: Stages) -> None:
    """Carry the schedule out: each call must be answered as the reference model answers it, and what holds must hold.

    Afterwards everybody dies, sweepers pass, and the stores are left empty.
    """
    stage = stages.new()
    model = memory_stores()
    with model(stages.clock) as twin:
        scene = Scene(race, replace(stage, stores=side_by_side(stage.stores, twin)))
        try:
            for action in schedule:
                scene.take(action)
            stage.check()
            assert stage.seen() == Stage(twin, stages.clock, stage.owner).seen()
            stage.clock.advance(FOR_GOOD)
            stage.sweep()
            stage.check_nothing_is_left_over()
            assert stage.seen() == Stage(twin, stages.clock, stage.owner).seen()
            stage.clear()
        except BaseException as error:
            error.add_note("\n".join(["by this schedule:", *told(race, schedule)]))
            raise


def side_by_side(stores: Stores, model: Stores) -> Stores:
    """Stores that do everything twice, and answer only what both say."""
    return Stores(_beside(stores.metadata, model.metadata), _beside(stores.objects, model.objects), stores.debris)


def _beside(port: Port, model: Port) -> Port:
    def both(call: Call) -> Any:
        same = call.to(model)
        answer, expected = Answer.of(call.go), Answer.of(same.go)
        if call.name not in {"open", "head", "list_prefix"}:  # stores have clocks of their own for their objects
            assert _unordered(answer) == _unordered(expected), f"{call.name} says {answer}, the model {expected}"
        return answer.give()

    return through(both, port)


def _unordered(answer: Answer) -> object:
    return set(answer.value) if isinstance(answer.value, list) else answer.key
