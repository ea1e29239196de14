"""Trying again: conflicts of transactions, throttling and lost replies, with jitter, inside a deadline."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from adapters.dynamodb.errors import SDK_ERRORS, ConditionFailed, Fault, fault_of, found_instead, was_sent_before
from domain.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long one call of a port goes on trying, and how it waits.

    The deadline bounds when a try may start; how long one lasts is bounded by the client's own timeouts. Waits are
    "full jitter" (any length up to a bound that doubles), which is what parts writers that met once.
    """

    deadline_s: float = 4.0
    first_wait_s: float = 0.025
    longest_wait_s: float = 0.4
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random

    def begin(self) -> "Attempts":
        """Start the deadline of one call of a port."""
        return Attempts(self)


class Attempts:
    """The tries of one call of a port, however many requests it makes."""

    def __init__(self, patience: Patience) -> None:
        """Start the deadline."""
        self._patience = patience
        self.restart()

    def restart(self) -> None:
        """Start the deadline anew."""
        self._end = self._patience.monotonic() + self._patience.deadline_s
        self._wait_s = self._patience.first_wait_s

    def call(self, send: Callable[[], T]) -> T:
        """Send until there is an answer.

        Raises:
            ConditionFailed: a conditional write met another state.
            Unavailable: the deadline passed, or trying again is no use.
        """
        maybe_done = False
        while True:
            try:
                return send()
            except SDK_ERRORS as error:
                maybe_done = maybe_done or was_sent_before(error)
                found = found_instead(error)
                if found is not None:
                    raise ConditionFailed(found, maybe_done=maybe_done) from error
                fault = fault_of(error)
                if fault is Fault.BUG:
                    raise
                if fault is Fault.DOWN:
                    raise Unavailable("the record store refused the request") from error
                maybe_done = maybe_done or fault is Fault.UNKNOWN
                self.pause(error)

    def pause(self, cause: Exception | None = None) -> None:
        """Wait before the next try, a little longer each time on average.

        Raises:
            Unavailable: from the cause, when the deadline would pass meanwhile.
        """
        wait_s = self._patience.random() * self._wait_s
        if self._patience.monotonic() + wait_s >= self._end:
            raise Unavailable("the record store did not answer in time") from cause
        self._patience.sleep(wait_s)
        self._wait_s = min(2 * self._wait_s, self._patience.longest_wait_s)
