"""Domain events to subscribers in the same process."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from domain.events import Event

E = TypeVar("E", bound=Event)

# The standard library's: inside another program it is that program's to say where the log goes.
_log = logging.getLogger("calotype.events")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whom to tell of which kind of event."""

    kind: type[Event]
    tell: Callable[[Event], None]


def on(kind: type[E], tell: Callable[[E], None]) -> Subscription:
    """Subscribe a callable to one kind of event; `Event` stands for all.

    It is called in the thread that caused the event, after the change is durable and before the caller has its
    answer. What it raises is logged, and changes nothing.
    """

    def tell_if_kind(event: Event) -> None:
        if isinstance(event, kind):
            tell(event)

    return Subscription(kind, tell_if_kind)


@dataclass(frozen=True, slots=True)
class SubscribedEvents:
    """EventPublisher that calls subscribers one after another."""

    subscriptions: Sequence[Subscription]

    def publish(self, event: Event) -> None:
        """See EventPublisher.publish."""
        for subscription in self.subscriptions:
            try:
                subscription.tell(event)
            except Exception:  # noqa: BLE001 (a subscriber's bug is no reason to fail what has already happened)
                _log.exception("subscriber_failed", extra={"event_type": type(event).__name__})
