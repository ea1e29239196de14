"""The closed tree of errors that the domain, the handlers and every adapter may raise.

Adapters translate their store's errors into these in one table each; the HTTP adapter maps these to problem
documents in one table. Anything outside this tree that reaches a caller is a bug.
An error's ``args`` are its constructor's positional arguments, so that it can be copied and pickled.
"""

from collections.abc import Sequence
from typing import Literal


class CalotypeError(Exception):
    """The root of every error that Calotype raises on purpose."""


class Invalid(CalotypeError):
    """The input breaks a rule; nothing was changed.

    Args:
        field: the field, parameter or header at fault, by its wire name.
        reason: what is wrong, as the end of a sentence that starts with the field.
        code: a stable, machine-readable name of the kind of fault.
        others: further faults found in the same input.
    """

    def __init__(
        self, field: str, reason: str, *, code: str = "invalid_input", others: Sequence["Invalid"] = ()
    ) -> None:
        """Keep the fault; ``others`` are reported beside it."""
        super().__init__(field, reason)
        self.field = field
        self.reason = reason
        self.code = code
        self.others = tuple(others)

    def __str__(self) -> str:
        """Return the fault as a sentence."""
        return f"{self.field} {self.reason}"

    @property
    def faults(self) -> tuple["Invalid", ...]:
        """This fault and every other found with it."""
        return (self, *self.others)

    @staticmethod
    def raise_all(faults: Sequence["Invalid"]) -> None:
        """Raise one error that carries all the faults; do nothing when there are none."""
        if not faults:
            return
        first, *rest = (each for fault in faults for each in fault.faults)
        raise Invalid(
            first.field, first.reason, code=first.code if not rest else "invalid_input", others=rest
        ) from first


class TooLarge(CalotypeError):
    """The content is longer than the limit allows."""

    def __init__(self, limit_bytes: int) -> None:
        """Keep the limit that was passed, in bytes."""
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        """Return the limit as a sentence."""
        return f"the file is larger than {self.limit_bytes} bytes"


class QuotaExceeded(CalotypeError):
    """The upload does not fit into what its owner may have stored; nothing was changed."""

    def __init__(self, unit: Literal["images", "bytes"], limit: int, used: int) -> None:
        """Keep the quota that would be passed, and how much of it the owner has used."""
        super().__init__(unit, limit, used)
        self.unit = unit
        self.limit = limit
        self.used = used

    @property
    def room(self) -> int:
        """How much of the quota is left."""
        return max(0, self.limit - self.used)

    def __str__(self) -> str:
        """Return the quota as a sentence. It tells nothing of other owners."""
        return (
            f"{self.used} of {self.limit} {self.unit} of the quota are used; "
            "the trash and uploads under way count, and what was deleted for good until it is swept"
        )


class NotFound(CalotypeError):
    """Absent, or somebody else's: callers are never told which."""


class Conflict(CalotypeError):
    """The present state does not allow the change.

    ``retry_after_s`` is set when waiting that many seconds may help.
    """

    def __init__(self, reason: str, *, retry_after_s: int | None = None) -> None:
        """Keep why, and after how many seconds another try makes sense."""
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class KeyReused(Conflict):
    """An idempotency key came back with another content or other metadata."""


class InTrash(Conflict):
    """The image that an idempotency key stands for was deleted. Restore it, or wait until it is purged."""


class PreconditionFailed(CalotypeError):
    """The record is at another version than the caller expected."""


class Unavailable(CalotypeError):
    """A store did not answer, or failed; the call may be tried again.

    The outcome of a change that ended so is unknown: it happened wholly or not at all.
    """


class Overloaded(Unavailable):
    """There is no room for it at present. Nothing was done; the call may be tried again."""


class Damaged(CalotypeError):
    """A record's object is missing or is not what was stored. Never answered with other bytes instead."""
