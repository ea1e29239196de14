"""The one place where what the operating system says becomes an error of the core."""

import errno
from contextlib import ContextDecorator
from types import TracebackType

from domain.errors import Unavailable


class store_failures(ContextDecorator):  # noqa: N801 (as contextlib names its own)
    """Turn every OSError into Unavailable, from the cause. The message names no path: it may reach a client.

    A class because a generator that does nothing costs as much as opening a file.
    """

    def __enter__(self) -> None:
        """Begin a block or a call."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Turn what it raised."""
        if isinstance(error, OSError):
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            raise Unavailable(f"the object files can't be used now ({name})") from error
