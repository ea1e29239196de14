"""The rules: what clients do, in any order, and what must be true after every step. The same for every level."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from application.commands.sweep import SweepReport
from application.ports import ByOwner, ByTags, ByTitle, Filter
from domain.errors import CalotypeError, Invalid, TooLarge
from domain.values import ImageId, Tag, Title, UserId
from tests import pictures
from tests.harness.model import Bookmark, Change, Deleted, Fields, Form, Model, Page, Picture, Shown, Trashed, Uploaded
from tests.harness.systems import MAX_UPLOAD_BYTES, NAMES, QUOTA, RETENTION, System

R = TypeVar("R")

State = Literal["live", "trash", "gone", "nobody's"]
Which = tuple[State, int]
"""An image by its state and a number among those in that state."""

NOBODYS = UUID(int=7)

# ---- what clients send: small alphabets, so that the same comes again

_TITLES = ["Sea", "SEA", "Stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE", "100% _\N{PILE OF POO}"]
_TAGS = ["sea", "Sea", "b%", "a_b", "\N{LATIN SMALL LETTER SHARP S}", "ss", "\N{PILE OF POO}"]
_FILENAMES = [
    "cat.jpg",
    "Sea",
    "../../b.png",
    "\u043a\u043e\u0442 1.gif",
    "CON.png",
    "100%25.gif",
    "a;b=\N{PILE OF POO}.tiff",
]
_GOOD = [
    Picture(name=f"{name} {seed}", data=make(40, 30, seed=seed), media_type=name, width=40, height=30)
    for name, make in pictures.EVERY_FORMAT.items()
    for seed in (1, 2)[: 1 if name == "image/heic" else 2]
]
_GOOD += [
    # More than the server keeps in memory, and than is read at a time.
    Picture(name="big", data=pictures.bmp(500, 400), media_type="image/bmp", width=500, height=400),
    Picture(name="turned", data=pictures.jpeg(40, 30, orientation=6), media_type="image/jpeg", width=30, height=40),
]
_BAD = [
    Picture(name="empty", data=b"", fault=Invalid("file", "is empty", code="empty_file")),
    Picture(name="html", data=pictures.html(), fault=Invalid("file", "is no image", code="unsupported_image")),
    Picture(name="cut", data=pictures.png(40, 30)[:-30], fault=Invalid("file", "is cut", code="unreadable_image")),
    Picture(name="large", data=b"BM".ljust(MAX_UPLOAD_BYTES + 1), fault=TooLarge(MAX_UPLOAD_BYTES)),
]

rarely = st.integers(0, 3).map(lambda number: number == 3)
owners = st.sampled_from([*NAMES, NAMES[0], NAMES[0]])
titles, tag_lists = st.sampled_from(_TITLES), st.lists(st.sampled_from(_TAGS), max_size=3)
descriptions = st.sampled_from(["", "one\ntwo", "e\N{COMBINING ACUTE ACCENT}"])
good_forms = st.builds(
    Form,
    picture=st.sampled_from(_GOOD),
    filename=st.sampled_from(_FILENAMES),
    title=st.none() | titles | titles,
    description=descriptions,
    tags=tag_lists.map(tuple),
    key=st.sampled_from([None, None, None, None, "k1", "k2"]),
)
forms = good_forms | st.builds(replace, good_forms, picture=st.sampled_from(_BAD + _GOOD))
puts: st.SearchStrategy[Fields] = st.fixed_dictionaries(
    {}, optional={"title": titles, "description": descriptions, "tags": tag_lists}
)
patches: st.SearchStrategy[Fields] = st.fixed_dictionaries(
    {},
    optional={
        "title": st.none() | titles,
        "description": st.none() | descriptions,
        "tags": st.none() | tag_lists,
    },
)
filters: st.SearchStrategy[Filter] = st.one_of(
    st.just(ByOwner()),
    st.just(ByOwner()),
    st.builds(ByTitle, st.sampled_from([Title(title) for title in _TITLES])),
    st.builds(
        ByTags,
        st.lists(st.sampled_from(sorted({Tag(tag) for tag in _TAGS})), min_size=1, max_size=3, unique=True).map(tuple),
        st.sampled_from(["any", "all"]),
    ),
)
limits = st.integers(1, 4) | st.sampled_from([20, 100, 0, 101])
version_offsets = st.sampled_from([None, None, 0, 1, -1])
"""Added to the version that the image is at; None expects none."""
steps = st.sampled_from(
    [
        timedelta(microseconds=1),
        timedelta(seconds=61),
        timedelta(hours=1),
        -timedelta(seconds=1),  # clocks are set back, too
    ]
)


with_state: st.SearchStrategy[Which] = st.tuples(st.sampled_from(["live", "trash", "gone"]), st.integers(0, 9))


def mostly(state: State) -> st.SearchStrategy[Which]:
    others: list[State] = ["live", "trash", "gone", "nobody's"]
    return st.tuples(st.sampled_from([state] * 8 + others), st.integers(0, 9))


fractions = st.tuples(st.integers(0, 99), st.integers(1, 100)).map(sorted)


@dataclass
class Walk:
    """Somebody who reads a listing page by page while others change it."""

    owner: UserId
    which: Filter
    bookmarks: list[Bookmark]
    seen: list[Shown]
    steady: set[tuple[datetime, ImageId]]
    """The places of images that have matched all the time."""


@dataclass(frozen=True)
class Refused:
    kind: type[CalotypeError]
    code: str | None


class Harness(RuleBasedStateMachine):
    """Asks the system and the model the same, and compares the answers. Times must lie within the call."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system
        self.model = Model(RETENTION, system.now(), QUOTA)
        self.walks: list[Walk] = []
        self.reading: list[Walk] = []

    # ---- commands

    @initialize(first=st.lists(st.tuples(owners, good_forms), min_size=5, max_size=12), deleted=st.integers(0, 3))
    def fill(self, first: list[tuple[str, Form]], deleted: int) -> None:
        for who, form in first:
            self.send(self.owner(who), form)
        for image_id in list(self.model.live)[:deleted]:
            self.delete_as(UserId(self.model.live[image_id].image.owner), image_id, None, permanent=False)

    @rule(who=owners, form=forms)
    def upload(self, who: str, form: Form) -> None:
        self.send(self.owner(who), form)

    @precondition(lambda self: self.model.ids_by_key)
    @rule(image=with_state)
    def upload_again(self, image: Which) -> None:
        owner, form = self.model.forms[self.find(image, with_key=True)]
        self.send(owner, form)

    @precondition(lambda self: self.model.ids_by_key)
    @rule(image=with_state, other=good_forms, by_stranger=rarely)
    def upload_another_with_the_same_key(self, image: Which, other: Form, *, by_stranger: bool) -> None:
        owner, form = self.model.forms[self.find(image, with_key=True)]
        self.send(self.stranger(owner) if by_stranger else owner, replace(other, key=form.key))

    @rule(image=mostly("live"), fields=patches, offset=version_offsets, by_stranger=rarely)
    def patch(self, image: Which, fields: Fields, offset: int | None, *, by_stranger: bool) -> None:
        image_id = self.find(image)
        who, version = self.asker(image_id, by_stranger=by_stranger), self.version(image_id, offset)
        self.revise_as(who, image_id, Change(way="patch", fields=fields), version)

    @rule(image=mostly("live"), fields=puts, offset=version_offsets, by_stranger=rarely)
    def put(self, image: Which, fields: Fields, offset: int | None, *, by_stranger: bool) -> None:
        image_id = self.find(image)
        who, version = self.asker(image_id, by_stranger=by_stranger), self.version(image_id, offset)
        self.revise_as(who, image_id, Change(way="put", fields=fields), version)

    @precondition(lambda self: self.model.live)
    @rule(number=st.integers(0, 9))
    def revise_to_what_it_is(self, number: int) -> None:
        image_id = self.find(("live", number))
        image = self.model.live[image_id].image
        same = Change(
            way="put", fields={"title": image.title, "description": image.description, "tags": list(image.tags)}
        )
        self.revise_as(UserId(image.owner), image_id, same, None)

    @rule(image=mostly("live"), permanent=rarely, offset=version_offsets, by_stranger=rarely)
    def delete(self, image: Which, offset: int | None, *, permanent: bool, by_stranger: bool) -> None:
        image_id = self.find(image)
        who, version = self.asker(image_id, by_stranger=by_stranger), self.version(image_id, offset)
        self.delete_as(who, image_id, version, permanent=permanent)

    @precondition(lambda self: self.model.trash)
    @rule(image=mostly("trash"), by_stranger=rarely)
    def restore(self, image: Which, *, by_stranger: bool) -> None:
        image_id = self.find(image)
        self.restore_as(self.asker(image_id, by_stranger=by_stranger), image_id)

    @precondition(lambda self: self.model.trash)
    @rule()
    def sweep(self) -> None:
        self.sweep_all()

    # ---- queries

    @rule(image=mostly("live"), by_stranger=rarely)
    def get(self, image: Which, *, by_stranger: bool) -> None:
        image_id = self.find(image)
        who = self.asker(image_id, by_stranger=by_stranger)
        self.agree(lambda: self.system.get(who, image_id), lambda _: self.model.get(who, image_id))

    @rule(image=mostly("live"), percent=st.none() | fractions, by_stranger=rarely)
    def read(self, image: Which, percent: list[int] | None, *, by_stranger: bool) -> None:
        image_id, part = self.find(image), None
        if percent is not None:
            size_bytes = len(self.model.forms[image_id][1].picture.data) if image_id in self.model.forms else 100
            start = size_bytes * percent[0] // 100
            part = range(start, max(start + 1, size_bytes * percent[1] // 100))
        self.read_as(self.asker(image_id, by_stranger=by_stranger), image_id, part)

    @rule(who=owners, which=filters, limit=limits)
    def list_images(self, who: str, which: Filter, limit: int) -> None:
        self.turn(self.owner(who), which, limit, None)

    # ---- reading page by page, while the other rules go on

    @precondition(lambda self: self.model.live)
    @rule(number=st.integers(0, 9), by=st.sampled_from(["owner", "title", "any", "all"]), limit=st.integers(1, 2))
    def begin_walk(self, number: int, by: Literal["owner", "title", "any", "all"], limit: int) -> None:
        image = self.model.live[self.find(("live", number))].image
        owner, which = UserId(image.owner), filter_that_finds(image, by)
        walk = Walk(owner, which, [], [], {each.place for each in self.model.matching(owner, which)})
        self.go_on(walk, limit)
        if walk.bookmarks:
            self.walks.append(walk)
            self.reading.append(walk)

    @precondition(lambda self: self.reading)
    @rule(number=st.integers(0, 99), limit=st.integers(1, 3))
    def turn_a_page(self, number: int, limit: int) -> None:
        self.go_on(self.reading[number % len(self.reading)], limit)

    @precondition(lambda self: self.walks)
    @rule(number=st.integers(0, 99), page=st.integers(0, 99), limit=limits)
    def use_a_cursor_again(self, number: int, page: int, limit: int) -> None:
        walk = self.walks[number % len(self.walks)]
        bookmark = walk.bookmarks[page % len(walk.bookmarks)]
        self.turn(walk.owner, walk.which, limit, bookmark)

    @precondition(lambda self: self.walks)
    @rule(number=st.integers(0, 99), who=st.none() | owners, which=st.none() | filters)
    def use_a_cursor_elsewhere(self, number: int, who: str | None, which: Filter | None) -> None:
        walk = self.walks[number % len(self.walks)]
        self.turn(walk.owner if who is None else self.owner(who), which or walk.which, 3, walk.bookmarks[-1])

    # ---- time, and the end of processes

    @precondition(lambda self: self.system.moves_time)
    @rule(step=steps)
    def advance(self, step: timedelta) -> None:
        self.system.advance(step)

    @precondition(lambda self: self.system.moves_time and self.soonest_due() is not None)
    @rule(just_before=st.booleans(), then=st.sampled_from(["sweep", "restore"]))
    def advance_to_the_next_due(self, then: str, *, just_before: bool) -> None:
        soonest = self.soonest_due()
        assert soonest is not None
        self.system.advance(soonest.due - self.system.now() - timedelta(microseconds=just_before))
        if then == "sweep":
            self.sweep_all()
        else:
            self.restore_as(UserId(soonest.kept.image.owner), soonest.kept.image.image_id)

    @rule(chance=st.integers(1, 10), gently=st.booleans())
    def reopen(self, chance: int, *, gently: bool) -> None:
        if chance > 10 - self.system.reopens_in_ten:
            self.system.reopen(gently=gently)

    # ---- what is always true

    @invariant()
    def every_owner_sees_what_the_model_says(self) -> None:
        for owner in self.system.owners:
            page = self.system.page(owner, ByOwner(), 100, None)
            assert page == self.model.page(owner, ByOwner(), 100, None), owner

    @invariant()
    def every_object_and_every_entry_is_accounted_for(self) -> None:
        # P2 and P3: nothing that should be there is missing, and all else is somebody's or waits for the sweeper.
        assert self.system.stored() == self.model.keys()
        assert self.system.reclaimable() == set(self.model.trash)

    @invariant()
    def usage_is_what_is_stored(self) -> None:
        assert self.system.miscounts() == []
        for owner in self.system.owners:
            assert self.system.usage(owner) == self.model.usage(owner), owner

    @invariant()
    def walks_know_what_was_there_all_the_time(self) -> None:
        for walk in self.reading:
            walk.steady &= {image.place for image in self.model.matching(walk.owner, walk.which)}

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.look_at_everything()
                self.clear_everything()
        finally:
            self.system.close()

    def look_at_everything(self) -> None:
        for owner in {owner for owner, _ in self.model.forms.values()}:
            for title in _TITLES:
                self.turn(owner, ByTitle(Title(title)), 100, None)
            for tag in {Tag(tag) for tag in _TAGS}:
                self.turn(owner, ByTags((tag,)), 100, None)
        for image_id, kept in self.model.live.items():
            self.read_as(UserId(kept.image.owner), image_id, None)

    def clear_everything(self) -> None:
        """Delete all for good, and see that nothing is left."""
        for image_id, trashed in list(self.model.trash.items()):
            self.restore_as(UserId(trashed.kept.image.owner), image_id)  # some are due: that is refused
        for image_id, kept in list(self.model.live.items()):
            self.delete_as(UserId(kept.image.owner), image_id, None, permanent=True)
        last = max((trashed.due for trashed in self.model.trash.values()), default=self.system.now())
        if self.system.moves_time and last > self.system.now():
            self.system.advance(last - self.system.now())  # the clock was set back
        self.sweep_all()
        assert (self.system.stored(), self.system.reclaimable()) == (set(), set())

    # ---- how it is done

    def agree(self, ask: Callable[[], R], expect: Callable[[R | None], R | None]) -> R | None:
        """Compare what the system answers with what the model does; return it, or None for a refusal.

        The model is told what the system answered only to learn new ids from it.
        """
        began = self.system.now()
        answer = _outcome(ask)
        ended = self.system.now()
        stamp = _stamp(answer)
        # The time of the change, if it can be; else the model's answer will show another, and they differ.
        self.model.now = stamp if stamp is not None and began <= stamp <= ended else began
        given = None if isinstance(answer, Refused) else answer
        expected = _outcome(lambda: expect(given))
        assert answer == expected, f"the system said {answer}, the model {expected}"
        return given

    def send(self, owner: UserId, form: Form) -> None:
        self.agree(
            lambda: self.system.upload(owner, form),
            lambda answer: self.model.upload(owner, form, None if answer is None else answer.image.image_id),
        )

    def revise_as(self, owner: UserId, image_id: ImageId, change: Change, version: int | None) -> None:
        self.agree(
            lambda: self.system.revise(owner, image_id, change, version),
            lambda _: self.model.revise(owner, image_id, change, version),
        )

    def delete_as(self, owner: UserId, image_id: ImageId, version: int | None, *, permanent: bool) -> None:
        self.agree(
            lambda: self.system.delete(owner, image_id, permanent=permanent, expected_version=version),
            lambda _: self.model.delete(owner, image_id, permanent=permanent, expected_version=version),
        )

    def restore_as(self, owner: UserId, image_id: ImageId) -> None:
        self.agree(lambda: self.system.restore(owner, image_id), lambda _: self.model.restore(owner, image_id))

    def sweep_all(self) -> None:
        self.agree(self.system.sweep, lambda _: SweepReport(images=self.model.sweep()))

    def read_as(self, owner: UserId, image_id: ImageId, part: range | None) -> None:
        piece = slice(None) if part is None else slice(part.start, part.stop)
        self.agree(lambda: self.system.read(owner, image_id, part), lambda _: self.model.read(owner, image_id, piece))

    def turn(self, owner: UserId, which: Filter, limit: int, bookmark: Bookmark | None) -> Page | None:
        cursor = None if bookmark is None else bookmark.cursor
        return self.agree(
            lambda: self.system.page(owner, which, limit, cursor),
            lambda _: self.model.page(owner, which, limit, bookmark),
        )

    def go_on(self, walk: Walk, limit: int) -> None:
        page = self.turn(walk.owner, walk.which, limit, walk.bookmarks[-1] if walk.bookmarks else None)
        assert page is not None
        walk.seen.extend(page.images)
        if page.cursor is not None:
            walk.bookmarks.append(Bookmark(walk.owner, walk.which, page.images[-1].place, page.cursor))
            return
        # The law of pagination, said again without the model's pages.
        places = [image.place for image in walk.seen]
        assert places == sorted(set(places), reverse=True)
        assert walk.steady <= set(places)
        if walk in self.reading:
            self.reading.remove(walk)

    def find(self, which: Which, *, with_key: bool = False) -> ImageId:
        """Return an image in that state; else any that ever was; else nobody's."""
        state, number = which
        ever = [image_id for image_id, (_, form) in self.model.forms.items() if form.key is not None or not with_key]
        ids = [image_id for image_id in ever if self.state(image_id) == state] or ever
        return ids[number % len(ids)] if ids and state != "nobody's" else NOBODYS

    def state(self, image_id: ImageId) -> State:
        if image_id in self.model.live:
            return "live"
        return "trash" if image_id in self.model.trash else "gone"

    def soonest_due(self) -> Trashed | None:
        later = [trashed for trashed in self.model.trash.values() if trashed.due > self.system.now()]
        return min(later, key=lambda trashed: trashed.due, default=None)

    def owner(self, name: str) -> UserId:
        return self.system.owners[NAMES.index(name)]

    def stranger(self, owner: UserId) -> UserId:
        return self.system.owners[(self.system.owners.index(owner) + 1) % len(self.system.owners)]

    def asker(self, image_id: ImageId, *, by_stranger: bool) -> UserId:
        owner = self.model.forms[image_id][0] if image_id in self.model.forms else self.system.owners[0]
        return self.stranger(owner) if by_stranger else owner

    def version(self, image_id: ImageId, offset: int | None) -> int | None:
        kept = self.model.live.get(image_id)
        return None if offset is None else offset + (1 if kept is None else kept.image.version)


def filter_that_finds(image: Shown, by: Literal["owner", "title", "any", "all"]) -> Filter:
    match by:
        case "title":
            return ByTitle(Title(image.title))
        case "any" | "all" if image.tags:
            # For "any" one that others carry, too; "all" asks for all that the image has.
            tags = tuple(map(Tag, image.tags))
            return ByTags(tags, "all") if by == "all" else ByTags(tuple(dict.fromkeys((*tags, Tag(_TAGS[0])))), "any")
        case _:
            return ByOwner()


def _outcome(call: Callable[[], R]) -> R | Refused:
    try:
        return call()
    except CalotypeError as error:
        return Refused(type(error), error.code if isinstance(error, Invalid) else None)


def _stamp(answer: object) -> datetime | None:
    match answer:
        case Uploaded(Shown() as image) | (Shown() as image):
            return image.updated_at
        case Deleted():
            return answer.deleted_at
        case _:
            return None
