"""The command bus: one typed door to every use case, with middleware around each.

`execute` takes commands, `ask` takes queries, and the type checker holds them apart. The bus is complete when built
and keeps no mutable state, so one instance serves all threads.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, cast

from domain.events import Event

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Command(Generic[R_co]):
    """An order to change something; carries what is needed, answers with an ``R_co``."""

    __slots__ = ()


class Query(Generic[R_co]):
    """A question; changes nothing, answers with an ``R_co``."""

    __slots__ = ()


Message = Command[Any] | Query[Any]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R_co]):
    """What a command handler hands back: the caller's result, and what happened on the way."""

    result: R_co
    events: tuple[Event, ...] = ()


CommandHandler = Callable[[Any], Outcome[Any]]
QueryHandler = Callable[[Any], Any]
CallNext = Callable[[Message], Any]


class Middleware(Protocol):
    """A layer around every handler. Called with the message and the rest of the chain.

    What ``call_next`` returns is an `Outcome` for a command and the plain answer for a query.
    """

    def __call__(self, message: Message, call_next: CallNext, /) -> Any:
        """Do something before and after ``call_next(message)``, and return what it returned."""


class Bus:
    """Runs commands and queries. Safe to share between threads."""

    def __init__(
        self,
        *,
        commands: Mapping[type[Command[Any]], CommandHandler],
        queries: Mapping[type[Query[Any]], QueryHandler],
        middleware: Sequence[Middleware] = (),
    ) -> None:
        """Wrap every handler in the middleware, the first outermost."""
        self._commands = _chained(commands.items(), middleware)
        self._queries = _chained(queries.items(), middleware)

    def execute(self, command: Command[R]) -> R:
        """Carry the command out and return its result.

        Raises:
            CalotypeError: as the command's handler says. LookupError for a command that no handler was given for.
        """
        outcome = self._commands[type(command)](command)
        return cast("Outcome[R]", outcome).result

    def ask(self, query: Query[R]) -> R:
        """Answer the query.

        Raises:
            CalotypeError: as the query's handler says. LookupError for a query that no handler was given for.
        """
        return cast("R", self._queries[type(query)](query))


def _chained(
    handlers: Iterable[tuple[type, Callable[[Any], Any]]], middleware: Sequence[Middleware]
) -> Mapping[type, CallNext]:
    chains: dict[type, CallNext] = {}
    for message_type, handler in handlers:
        chain: CallNext = handler
        for layer in reversed(middleware):
            chain = _layered(layer, chain)
        chains[message_type] = chain
    return MappingProxyType(chains)


def _layered(layer: Middleware, inner: CallNext) -> CallNext:
    def call(message: Message) -> Any:
        return layer(message, inner)

    return call
