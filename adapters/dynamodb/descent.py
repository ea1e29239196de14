"""Walks over sorted rows from the highest down: merging several, or meeting in all of them. Pure; no I/O of its own.

Rows are texts whose order is the listing's. A walk reads them in batches through a function that it is given, and
only when it is asked for the next.
"""

import heapq
import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_SMALLEST_BATCH = 8
_LARGEST_BATCH = 1_000
_WELL_USED = 4


class Bound(NamedTuple):
    """Where to read from, downwards: below the text, or at it."""

    text: str
    inclusive: bool


class Batch(NamedTuple):
    """Rows in falling order; ``last`` when none follow. Not empty unless it is the last."""

    rows: Sequence[str]
    last: bool


Fetch = Callable[[Bound | None, int], Batch]
"""Reads at most so many rows, from the bound down or from the top."""


class Descent:
    """One walk, able to skip.

    Args:
        fetch: reads a batch.
        start: where to begin; None for the top.
        batch: how many rows to read at first. Later batches grow while their rows are used, and shrink while they are
            skipped, so that neither a long walk nor far jumps read much more than they need.
    """

    def __init__(self, fetch: Fetch, *, start: Bound | None, batch: int) -> None:
        """Remember where to begin; nothing is read yet."""
        self._fetch = fetch
        self._next = start
        self._size = batch
        self._rows: list[str] = []  # rising, so that the head is popped off the end
        self._read = 0
        self._used = 0
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        """Give the rows one by one; each is gone once the next is asked for."""
        while (head := self.head()) is not None:
            yield head
            self.advance()

    def head(self) -> str | None:
        """Return the highest row left, or None at the end."""
        if not self._rows and not self._ended:
            self._refill()
        return self._rows[-1] if self._rows else None

    def advance(self) -> None:
        """Drop the head."""
        self._rows.pop()
        self._used += 1

    def seek(self, target: str) -> str | None:
        """Drop the rows above the target, without reading those in between; return the head that is left."""
        if self._rows:
            del self._rows[bisect_right(self._rows, target) :]
            self._used += 1
        if not self._rows and (self._next is None or target < self._next.text):
            self._next = Bound(target, inclusive=True)
        return self.head()

    def _refill(self) -> None:
        if self._read:
            grows = self._used * _WELL_USED >= self._read
            self._size = min(2 * self._size, _LARGEST_BATCH) if grows else max(self._size // 2, _SMALLEST_BATCH)
        rows, self._ended = self._fetch(self._next, self._size)
        self._rows = list(reversed(rows))
        self._read, self._used = len(rows), 0
        if rows:
            self._next = Bound(rows[-1], inclusive=False)


def in_any(walks: Sequence[Descent]) -> Iterator[str]:
    """Give each row that any of the walks has, once, in falling order."""
    for row, _ in itertools.groupby(heapq.merge(*walks, reverse=True)):
        yield row


def in_all(walks: Sequence[Descent]) -> Iterator[str]:
    """Give each row that all of the walks have, in falling order, by leapfrog: each walk jumps to where another is."""
    target = walks[0].head()
    agreeing = 0
    for walk in itertools.cycle(walks):
        if target is None:
            return
        head = walk.seek(target)
        agreeing = agreeing + 1 if head == target else 1
        target = head
        if target is not None and agreeing >= len(walks):
            yield target
            walk.advance()
            target = walk.head()
            agreeing = 1
