"""The secret that signs URLs: made once for a data directory, shared by all processes that use it."""
# ruff: noqa: PTH120
# (pathlib knows no bytes paths)

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from adapters.filesystem.disk import Disk, opened
from adapters.filesystem.failures import store_failures
from domain.errors import Damaged

SECRET_BYTES = 32


@store_failures()
def load_secret(path: Path, *, disk: Disk | None = None) -> bytes:
    """Return the secret kept in the file; make the file, and folders above it, if it isn't there.

    Of any number of processes that start at once, one makes it and all get the same. A file that others may read is
    closed to them (mode 0600) and used: refusing would stop the service after every careless copy of its folder.

    Raises:
        Damaged: the file doesn't hold 32 bytes. It is never replaced: that would break every URL handed out.
        Unavailable: it can't be read or written.
    """
    disk = disk or Disk()
    name = os.fsencode(path.parent.resolve() / path.name)
    if not path.exists():
        _make(name, disk)
    # Also when another process made it: that one may not have come so far yet.
    disk.sync_folder(os.path.dirname(name))
    return _read(name)


def _make(name: bytes, disk: Disk) -> None:
    disk.make_root(os.path.dirname(name))
    temporary = b"%b.%b" % (name, secrets.token_hex(8).encode())
    with disk.temporary(temporary) as descriptor:
        disk.write_all(descriptor, secrets.token_bytes(SECRET_BYTES))
        disk.sync(descriptor)
        # Another process may be faster: then its secret is everyone's.
        with suppress(FileExistsError):
            disk.publish(temporary, name)


def _read(name: bytes) -> bytes:
    with opened(name, os.O_RDONLY | os.O_CLOEXEC) as descriptor:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
        secret = os.read(descriptor, SECRET_BYTES + 1)
    if len(secret) != SECRET_BYTES:
        raise Damaged(
            f"{os.fsdecode(name)} must hold just {SECRET_BYTES} bytes. Restore it from a backup; or remove it to have "
            "a new one made, and every signed URL handed out so far stops working"
        )
    return secret
