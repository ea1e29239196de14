"""The bus inside another process, without a server."""

from collections.abc import Sequence
from os import PathLike
from types import TracebackType
from typing import Self

import msgspec

from adapters.events import Subscription
from application.bus import Bus, Command, Query, R
from entrypoints.container import Container
from entrypoints.settings import Settings, load_settings


class OpenBus:
    """A bus with what it stands on. Use it as a context manager, or close it."""

    def __init__(self, container: Container) -> None:
        """Build everything."""
        self._bus: Bus = container.bus()
        self._stores = container.stores()

    def execute(self, command: Command[R]) -> R:
        """See Bus.execute."""
        return self._bus.execute(command)

    def ask(self, query: Query[R]) -> R:
        """See Bus.ask."""
        return self._bus.ask(query)

    def close(self) -> None:
        """Let go of the stores. May be repeated."""
        self._stores.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def open_bus(settings: Settings, *, subscribers: Sequence[Subscription] = ()) -> OpenBus:
    """Return the bus that the settings describe."""
    return OpenBus(Container(settings=settings, subscriptions=list(subscribers)))


def open(  # noqa: A001 (calotype.open, as in gzip.open)
    settings: Settings | None = None,
    *,
    data_dir: str | PathLike[str] | None = None,
    subscribers: Sequence[Subscription] = (),
) -> OpenBus:
    """Open Calotype inside this process.

    Args:
        settings: all settings; without them ``CALOTYPE_*`` variables and ``.env`` are read.
        data_dir: the folder that holds everything, for the embedded default; created if need be. A service may use
            it at the same time.
        subscribers: whom to tell of domain events: ``[calotype.on(calotype.ImageUploaded, print)]``.

    Raises:
        SettingsError: a setting can't be used.
        Unavailable: the data folder can't.
    """
    # A folder named here means that folder, whatever storage the environment is set up for.
    chosen = {} if data_dir is None else {"data_dir": str(data_dir), "storage": "embedded"}
    if settings is None:
        settings = load_settings(**chosen)
    elif chosen:
        settings = msgspec.structs.replace(settings, **chosen)
    return open_bus(settings, subscribers=subscribers)
