"""The file operations whose order and failures the store's promises hang on.

They are methods so that a test can record them, refuse them, or cut the power between two. Paths are bytes.
"""
# ruff: noqa: PTH102, PTH104, PTH106, PTH120
# (pathlib knows no bytes paths)

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What link(2) says where the file system has no hard links (FAT, exFAT, some FUSE and SMB mounts).
NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class Disk:
    """A file system as this store uses it. Nothing here is durable before it is synced: data and names alike."""

    # ---- single operations: what a test takes the place of

    def create(self, path: bytes) -> int:
        """Create a file that only its owner may read; return its descriptor."""
        return os.open(path, _NEW_FILE_FLAGS, 0o600)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of the data; return how many bytes."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Wait until a file's data, or a folder's entries, are on the medium."""
        os.fsync(descriptor)

    def link(self, source: bytes, target: bytes) -> None:
        """Give a file a second name; unlike a rename this never replaces what is there."""
        os.link(source, target)

    def rename(self, source: bytes, target: bytes) -> None:
        """Move a file."""
        os.rename(source, target)

    def mkdir(self, path: bytes) -> None:
        """Make a folder that only its owner may enter."""
        os.mkdir(path, 0o700)

    def unlink(self, path: bytes | str, *, dir_fd: int | None = None) -> None:
        """Remove a file's name."""
        os.unlink(path, dir_fd=dir_fd)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    # ---- made of them

    def write_all(self, descriptor: int, data: bytes) -> None:
        """Write all of the data: a nearly full disk takes a part and says so only at the next call."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.write(descriptor, rest) :]

    def sync_folder(self, path: bytes) -> None:
        """Make the names in a folder durable."""
        descriptor = os.open(path, FOLDER_FLAGS)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def ensure_folder(self, path: bytes) -> bool:
        """Make the folder; return False if it is there."""
        try:
            self.mkdir(path)
        except FileExistsError:
            return False
        return True

    def make_root(self, path: bytes) -> None:
        """Make a folder, with those above it that are missing, durably."""
        path = os.path.realpath(path)  # a link on the way is followed, and its target made durable
        above = os.path.dirname(path)
        try:
            self.ensure_folder(path)
        except FileNotFoundError:
            self.make_root(above)
            self.ensure_folder(path)
        # A folder that we may not read is not ours: whoever runs this machine made what is in it, long ago.
        with suppress(PermissionError):
            self.sync_folder(above)

    def temporary(self, path: bytes) -> "_Temporary":
        """Create a file, give its descriptor, and remove that name in the end; the one it was published under stays."""
        return _Temporary(self, path)

    def publish(self, source: bytes, target: bytes) -> None:
        """Give a finished file its name, whole or not at all, and never in place of another.

        The source may be gone afterwards, or be a second name.

        Raises:
            FileExistsError: the name is taken.
            FileNotFoundError: the source was removed meanwhile.
        """
        try:
            self.link(source, target)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            self._publish_by_rename(source, target)

    def _publish_by_rename(self, source: bytes, target: bytes) -> None:
        # A rename would replace, so look first; the lock on the folder, which every process here takes, keeps the
        # answer true until the rename. The kernel drops it if we die.
        with opened(os.path.dirname(target), FOLDER_FLAGS) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self.rename(source, target)


class _Temporary:
    """What Disk.temporary says. A class because a generator costs more than the system calls that it guards."""

    __slots__ = ("_descriptor", "_disk", "_path")

    def __init__(self, disk: Disk, path: bytes) -> None:
        self._disk = disk
        self._path = path

    def __enter__(self) -> int:
        self._descriptor = self._disk.create(self._path)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        # Nothing is lost if this fails: whoever collects the image collects its temporary files.
        with suppress(OSError):
            self._disk.unlink(self._path)


class DeferredSync(Disk):
    """For many files on which nobody relies before the last is there: waits for the medium once, not for each."""

    def sync(self, descriptor: int) -> None:
        """Don't wait yet."""

    def settle(self, root: bytes) -> None:
        """Wait until everything below a folder, names and data, is on the medium.

        ``sync`` writes all of it in one go, but reports no failure, and needn't wait on every system. Syncing file by
        file does both, and has hardly anything left to write.
        """
        os.sync()
        for folder, _, names in os.walk(root, onerror=_raised):
            for name in (*names, b"."):
                with opened(b"%b/%b" % (folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC) as descriptor:
                    super().sync(descriptor)


def _raised(error: OSError) -> None:
    raise error


@contextmanager
def opened(path: bytes, flags: int) -> Iterator[int]:
    """Open a descriptor, and close it."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
