"""The oracle: what users must see, kept in two dictionaries, and the words in which every level is asked and answers.

It knows nothing of ports, stores or protocols. What only a system can decide, ids and the time, it is told.
"""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from application.ports import ByOwner, ByTags, ByTitle, Filter
from domain.errors import CalotypeError, InTrash, Invalid, KeyReused, NotFound, PreconditionFailed
from domain.quota import Quota, Usage
from domain.values import Description, Filename, ImageId, Title, UserId, parse_tags


@dataclass(frozen=True, kw_only=True, repr=False)
class Picture:
    """A file, and what must be found out about it: type and size, or the fault."""

    name: str
    data: bytes
    media_type: str = ""
    width: int = 0
    height: int = 0
    fault: CalotypeError | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _repr_pretty_(self, printer: Any, cycle: object) -> None:
        """Print no more than that to Hypothesis, too, which would print every field."""
        del cycle
        printer.text(repr(self))


@dataclass(frozen=True, kw_only=True)
class Form:
    """An upload as a client sends it."""

    picture: Picture
    filename: str
    title: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    key: str | None = None


Fields = dict[str, str | list[str] | None]
"""What a revision's JSON object holds. None is JSON's null, which only a patch may hold."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A revision as a client sends it."""

    way: Literal["put", "patch"]
    fields: Fields


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An image as its owner sees it."""

    image_id: ImageId
    owner: str
    key: str
    filename: str
    title: str
    description: str
    tags: tuple[str, ...]
    media_type: str
    size_bytes: int
    width: int
    height: int
    sha256: str
    created_at: datetime
    updated_at: datetime
    version: int

    @property
    def place(self) -> tuple[datetime, ImageId]:
        """Where it stands in a listing."""
        return self.created_at, self.image_id


@dataclass(frozen=True)
class Uploaded:
    image: Shown
    replayed: bool


@dataclass(frozen=True)
class Deleted:
    image_id: ImageId
    deleted_at: datetime
    restorable_until: datetime


@dataclass(frozen=True)
class Page:
    """Part of a listing, and whether more follows; what the cursor looks like is the system's own business."""

    images: tuple[Shown, ...]
    more: bool
    cursor: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Bookmark:
    """A cursor, the question it was given out for, and the place behind which it goes on."""

    owner: UserId
    which: Filter
    after: tuple[datetime, ImageId]
    cursor: str


@dataclass(frozen=True)
class Kept:
    image: Shown
    form: Form


@dataclass(frozen=True)
class Trashed:
    kept: Kept
    due: datetime
    permanent: bool


@dataclass
class Model:
    """``now`` is set before each call."""

    retention: timedelta
    now: datetime
    quota: Quota
    live: dict[ImageId, Kept] = field(default_factory=dict)
    trash: dict[ImageId, Trashed] = field(default_factory=dict)
    forms: dict[ImageId, tuple[UserId, Form]] = field(default_factory=dict)
    """Who first uploaded each id that was ever given out, and what."""
    ids_by_key: dict[tuple[UserId, str], ImageId] = field(default_factory=dict)

    def upload(self, owner: UserId, form: Form, new_id: ImageId | None) -> Uploaded | None:
        """``new_id`` is what the system called the image; None if it refused."""
        if form.picture.fault is not None:
            raise form.picture.fault
        known_id = None if form.key is None else self.ids_by_key.get((owner, form.key))
        if known_id in self.live:
            kept = self.live[known_id]
            _check_same(kept.form, form)
            return Uploaded(kept.image, replayed=True)
        if known_id in self.trash:
            _check_same(self.trash[known_id].kept.form, form)
            raise InTrash("it is in the trash")
        self.quota.admit(Usage(images=1, size_bytes=len(form.picture.data)), used=self.usage(owner))
        if new_id is None:
            return None
        assert new_id == known_id or new_id not in self.forms, "an id was given out twice"
        image = Shown(
            image_id=new_id,
            owner=owner,
            key=f"images/{new_id}/{Filename(form.filename)}",
            filename=Filename(form.filename),
            title=Title.from_filename(Filename(form.filename)) if form.title is None else Title(form.title),
            description=Description(form.description),
            tags=parse_tags(form.tags),
            media_type=form.picture.media_type,
            size_bytes=len(form.picture.data),
            width=form.picture.width,
            height=form.picture.height,
            sha256=hashlib.sha256(form.picture.data).hexdigest(),
            created_at=self.now,
            updated_at=self.now,
            version=1,
        )
        self.live[new_id] = Kept(image, form)
        self.forms[new_id] = (owner, form)
        if form.key is not None:
            self.ids_by_key[owner, form.key] = new_id
        return Uploaded(image, replayed=False)

    def revise(self, owner: UserId, image_id: ImageId, change: Change, expected_version: int | None) -> Shown:
        kept = self._owned(owner, image_id, expected_version)
        old = kept.image
        fields = dict(change.fields)
        if change.way == "put":
            fields = {"title": None, "description": None, "tags": None, **fields}
        new = old
        for name, value in fields.items():
            match name, value:
                case "title", str():
                    new = replace(new, title=Title(value))
                case "title", _:
                    new = replace(new, title=Title.from_filename(Filename(old.filename)))
                case "description", str():
                    new = replace(new, description=Description(value))
                case "description", _:
                    new = replace(new, description="")
                case _:
                    new = replace(new, tags=parse_tags(value or ()))
        if new != old:
            new = replace(new, version=old.version + 1, updated_at=max(self.now, old.updated_at))
        self.live[image_id] = Kept(new, kept.form)
        return new

    def delete(
        self, owner: UserId, image_id: ImageId, *, permanent: bool = False, expected_version: int | None = None
    ) -> Deleted:
        kept = self._owned(owner, image_id, expected_version)
        due = self.now if permanent else self.now + self.retention
        del self.live[image_id]
        self.trash[image_id] = Trashed(kept, due, permanent)
        return Deleted(image_id, self.now, due)

    def restore(self, owner: UserId, image_id: ImageId) -> Shown:
        trashed = self.trash.get(image_id)
        if trashed is None or trashed.kept.image.owner != owner:
            raise NotFound
        if trashed.permanent or trashed.due <= self.now:
            raise NotFound
        del self.trash[image_id]
        self.live[image_id] = trashed.kept
        return trashed.kept.image

    def sweep(self) -> int:
        """Return how many images are gone for good."""
        due = [image_id for image_id, trashed in self.trash.items() if trashed.due <= self.now]
        for image_id in due:
            del self.trash[image_id]
        return len(due)

    def get(self, owner: UserId, image_id: ImageId) -> Shown:
        return self._owned(owner, image_id, None).image

    def read(self, owner: UserId, image_id: ImageId, part: slice) -> bytes:
        return self._owned(owner, image_id, None).form.picture.data[part]

    def matching(self, owner: UserId, which: Filter) -> list[Shown]:
        """The whole listing, newest first."""
        images = [
            kept.image for kept in self.live.values() if kept.image.owner == owner and _matches(kept.image, which)
        ]
        return sorted(images, key=lambda image: image.place, reverse=True)

    def page(self, owner: UserId, which: Filter, limit: int, bookmark: Bookmark | None) -> Page:
        if not 1 <= limit <= 100:
            raise Invalid("limit", "must be 1-100")
        images = self.matching(owner, which)
        if bookmark is not None:
            if (owner, _asked(which)) != (bookmark.owner, _asked(bookmark.which)):
                raise Invalid("cursor", "is of another listing", code="invalid_cursor")
            images = [image for image in images if image.place < bookmark.after]
        return Page(tuple(images[:limit]), more=len(images) > limit)

    def usage(self, owner: UserId) -> Usage:
        """What counts against the quota: the trash as well, until it is swept."""
        kept = [*self.live.values(), *(trashed.kept for trashed in self.trash.values())]
        sizes = [each.image.size_bytes for each in kept if each.image.owner == owner]
        return Usage(images=len(sizes), size_bytes=sum(sizes))

    def keys(self) -> set[str]:
        """The objects that must be stored, and no others: those of all records and all of the trash."""
        kept = [*self.live.values(), *(trashed.kept for trashed in self.trash.values())]
        return {each.image.key for each in kept}

    def _owned(self, owner: UserId, image_id: ImageId, expected_version: int | None) -> Kept:
        kept = self.live.get(image_id)
        if kept is None or kept.image.owner != owner:
            raise NotFound
        if expected_version not in (None, kept.image.version):
            raise PreconditionFailed
        return kept


def _check_same(first: Form, again: Form) -> None:
    if _meant(first) != _meant(again):
        raise KeyReused("the key was used for another upload")


def _meant(form: Form) -> tuple[object, ...]:
    title = None if form.title is None else Title(form.title)
    tags, description = parse_tags(form.tags), Description(form.description)
    return form.picture.data, Filename(form.filename), title, description, tags


def _matches(image: Shown, which: Filter) -> bool:
    match which:
        case ByOwner():
            return True
        case ByTags(tags, "any"):
            return any(tag in image.tags for tag in tags)
        case ByTags(tags):
            return all(tag in image.tags for tag in tags)
        case ByTitle(title):
            return image.title.casefold() == title.casefold()


def _asked(which: Filter) -> object:
    """What makes two questions the same: the order of tags and the case of a title don't count."""
    match which:
        case ByOwner():
            return None
        case ByTags(tags, match):
            return match, sorted(tags)
        case ByTitle(title):
            return title.casefold()
