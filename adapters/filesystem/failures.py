"""The one place where what the operating system says becomes an error of the core."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from domain.errors import Unavailable


@contextmanager
def store_failures() -> Iterator[None]:
    """Turn every OSError into Unavailable, from the cause. The message names no path: it may reach a client."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise Unavailable(f"the object files can't be used now ({name})") from error
