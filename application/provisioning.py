"""What it takes to bring a store into its wanted state: aspects of it, each of which can be read and written.

Operators' business, no use case: nothing here passes the bus.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

State: TypeAlias = bool | int | str | Sequence["State"] | Mapping[str, "State"] | None
"""Plain data to compare and to print. None is: not there at all."""


class Aspect(Protocol):
    """One thing to be true of a store. Reading and writing may both be repeated, and done by several at once.

    Each method may raise any of the errors below.
    """

    @property
    def what(self) -> str:
        """What it is, for people."""

    @property
    def wanted(self) -> State:
        """What `read` is to return."""

    def read(self) -> State:
        """Return what is so now."""

    def write(self) -> None:
        """Ask for what is wanted. It may take a while to show."""


class InMotion(Exception):
    """Somebody, perhaps this very run, is changing it; look again soon."""


class Unsupported(Exception):
    """The server doesn't know how, or it can't be done on this server; the message says which."""


class Refused(Exception):
    """The server said no, or it is in a state that only a person may change; the message says which."""
