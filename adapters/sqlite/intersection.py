"""Which images carry all of several tags: an intersection of posting lists that skips what can't match."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import cycle

from domain.values import Tag, UserId

Place = tuple[int, bytes]
"""A place in a listing as it is stored: microseconds and the id's bytes. A listing goes on strictly below it."""

_READ_AHEAD_MAX = 256
_NEXT_POSTINGS = """
    SELECT created_at, image_id FROM postings
    WHERE owner = ? AND tag = ? AND (created_at, image_id) < (?, ?)
    ORDER BY created_at DESC, image_id DESC LIMIT ?"""


def places_with_all(db: sqlite3.Connection, owner: UserId, tags: Sequence[Tag], below: Place) -> Iterator[Place]:
    """Walk the places below the given one at which each of the tags has a posting, newest first.

    A leapfrog: the tags take turns, and each jumps straight to its first posting at or behind the place where the one
    before it stands. A whole round passes at least one posting of every tag, so the rarest bounds the rounds.
    """
    candidate: Place | None = None
    agreeing = 0
    for postings in cycle([_Postings(db, owner, tag) for tag in tags]):
        place = postings.first(below)
        if place is None:
            return
        agreeing = agreeing + 1 if place == candidate else 1
        candidate = place
        if agreeing == len(tags):
            yield place
            agreeing, below = 0, place
        else:
            below = _just_above(place)


class _Postings:
    """One tag's postings, asked for by places that only ever go down.

    It reads ahead four times as many as the last batch gave answers. Where tags overlap much, that spares most of the
    statements; where they don't, it hardly reads anything in vain.
    """

    def __init__(self, db: sqlite3.Connection, owner: UserId, tag: Tag) -> None:
        self._db = db
        self._of = (owner, tag)
        self._ahead: list[Place] = []  # oldest first, so that the next is the last
        self._answers = 0

    def first(self, below: Place) -> Place | None:
        """Return the newest posting below the place, or None."""
        while self._ahead and self._ahead[-1] >= below:
            self._ahead.pop()
        if not self._ahead:
            batch = min(max(1, 4 * self._answers), _READ_AHEAD_MAX)
            self._ahead = self._db.execute(_NEXT_POSTINGS, (*self._of, *below, batch)).fetchall()[::-1]
            self._answers = 0
        self._answers += 1
        return self._ahead[-1] if self._ahead else None


def _just_above(place: Place) -> Place:
    # An id with a byte more follows that id and precedes all others: what lies strictly below includes the place.
    time, id_bytes = place
    return time, id_bytes + b"\0"
