"""Bus middleware that publishes what commands made happen."""

from dataclasses import dataclass
from typing import Any

from application.bus import CallNext, Message, Outcome
from application.ports import EventPublisher


@dataclass(frozen=True, slots=True)
class PublishEvents:
    """Publishes a command's events once its handler has returned, so never for a change that failed."""

    publisher: EventPublisher

    def __call__(self, message: Message, call_next: CallNext, /) -> Any:
        """See Middleware."""
        outcome = call_next(message)
        if isinstance(outcome, Outcome):
            for event in outcome.events:
                self.publisher.publish(event)
        return outcome
