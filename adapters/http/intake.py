"""Room for uploads: how many a process takes at a time, and how many bytes of them. Whoever finds none is sent away."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from adapters.http.authentication import header
from adapters.http.replies import Scope
from adapters.http.throttle import Throttle
from domain.errors import Overloaded
from domain.values import UserId

_STEP_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Load:
    """What is under way, or may be."""

    uploads: int = 0
    size_bytes: int = 0


Share = tuple[_Load, _Load]
"""What is under way, of all or of one owner, and the most that may be."""


class Intake:
    """Counts the uploads of one process and the bytes that they take up, on disk or in memory.

    A single owner gets half of the room at most, so that one who sends slowly, or much, doesn't shut the others out. An
    upload that is larger than all of it is taken while there is no other.

    All of it happens on the event loop, so there is nothing to lock.

    Args:
        most_uploads: that may be under way.
        most_bytes: of request bodies that may be.
        throttle: where bytes are paid for; None if they are free.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        most_uploads: int,
        most_bytes: int,
        throttle: Throttle | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty."""
        self._all = _Load()
        self._most = _Load(most_uploads, most_bytes)
        self._of_owner: dict[UserId, _Load] = {}
        self._most_of_one = _Load(max(1, most_uploads // 2), most_bytes // 2)
        self._throttle = throttle
        self._clock = clock

    @property
    def under_way(self) -> tuple[int, int]:
        """How many uploads there are, and for how many bytes."""
        return self._all.uploads, self._all.size_bytes

    def upload(self, scope: Scope, owner: UserId, *, body_max_bytes: int) -> "Arrival":
        """Return a context that has taken an upload in, before any of its body is read, for as long as it lasts.

        Entering it raises:
            Overloaded: there is no room.
            Problem: 429, the owner's budget does not allow that many bytes.
        """
        return Arrival(self, scope, owner, body_max_bytes, self._throttle, self._clock)

    def let_in(self, owner: UserId) -> Sequence[Share]:
        """Count one more upload, for its Arrival; return where its bytes are counted, and how many there may be.

        Raises:
            Overloaded: there are too many.
        """
        mine = self._of_owner.get(owner) or _Load()
        if self._all.uploads >= self._most.uploads or mine.uploads >= self._most_of_one.uploads:
            raise Overloaded("too many uploads are under way")
        self._of_owner[owner] = mine
        self._all.uploads += 1
        mine.uploads += 1
        return (self._all, self._most), (mine, self._most_of_one)

    def let_out(self, owner: UserId, size_bytes: int) -> None:
        """Count one less, of so many bytes, for its Arrival."""
        mine = self._of_owner[owner]
        for load in (self._all, mine):
            load.uploads -= 1
            load.size_bytes -= size_bytes
        if not mine.uploads:
            del self._of_owner[owner]


class Arrival:
    """One upload on its way in. What its length says is reserved and paid at once; without one, a step at a time.

    A class because asynchronous generators cost more than all that is done here.
    """

    def __init__(
        self,
        intake: Intake,
        scope: Scope,
        owner: UserId,
        body_max_bytes: int,
        throttle: Throttle | None,
        clock: Callable[[], float],
    ) -> None:
        """Take where it is counted, whose it is and how it is paid."""
        self.expected_bytes = 0
        self._shares: Sequence[Share] = ()
        self._arrived_bytes = 0
        self._paid_bytes = 0
        self._paid_at = math.inf
        self._intake = intake
        self._scope = scope
        self._owner = owner
        self._body_max_bytes = body_max_bytes
        self._throttle = throttle
        self._clock = clock

    async def __aenter__(self) -> Self:
        """Take it in; raise what Intake.upload says."""
        self._shares = self._intake.let_in(self._owner)
        try:
            length = header(self._scope, b"content-length") or ""
            await self.expect(min(int(length), self._body_max_bytes) if _is_length(length) else _STEP_BYTES)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let it out, and give back what was paid for bytes that never came."""
        self._intake.let_out(self._owner, self.expected_bytes)
        unused = self._paid_bytes - self._arrived_bytes
        if self._throttle is not None and unused > 0:
            await self._throttle.give_back(self._scope, unused, paid_s_ago=self._clock() - self._paid_at)

    async def expect(self, size_bytes: int) -> None:
        """Reserve and pay for so many more bytes; raise what Intake.upload does."""
        for load, most in self._shares:
            if load.size_bytes > self.expected_bytes and load.size_bytes + size_bytes > most.size_bytes:
                raise Overloaded("too much is being uploaded")
        for load, _ in self._shares:
            load.size_bytes += size_bytes
        self.expected_bytes += size_bytes
        if self._throttle is not None:
            await self._throttle.pay(self._scope, size_bytes)
            self._paid_bytes += size_bytes
            self._paid_at = min(self._paid_at, self._clock())

    async def took(self, size_bytes: int) -> None:
        """Note that so many bytes have come; raise what Intake.upload does if more come than were expected."""
        self._arrived_bytes += size_bytes
        while self._arrived_bytes > self.expected_bytes:
            await self.expect(_STEP_BYTES)


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18  # noqa: PLR2004 (more than any disk holds)
