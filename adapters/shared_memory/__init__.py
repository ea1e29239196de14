"""RateLimiter in memory that the workers of one machine share, of a size that never changes."""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Self

from application.rate_limits import Budget, Verdict, spend

_SECRET_BYTES = 32
_KEY_BYTES = 16
_WAYS = 8
_SETS = 8192
_KEYS_BYTES = _WAYS * _KEY_BYTES
# When a bucket was last looked at, what it lacked then, and when it will be full.
_BUCKET = struct.Struct("@3d")
_BUCKETS = struct.Struct(f"@{3 * _WAYS}d")
_SET_BYTES = _KEYS_BYTES + _BUCKETS.size


class SharedRateLimiter:
    """A hash table with room for 65,536 buckets, 2.5 MiB: sets of eight, and a bucket always goes to the same set.

    Where all eight are taken, the one that would have been full first is forgotten, and so is full at once. Nobody can
    aim at a set: its number comes from a secret hash. So names that somebody makes up can't make memory grow, and
    don't push out those who owe much; they push out each other.

    The lock is the kernel's, on one byte a set: it goes when its holder dies, whatever that was doing. It parts
    processes, not limiters: two on one file in one process don't lock each other out, and closing either lets go of
    what the other has locked (POSIX). So a process opens a file once.

    Args:
        memory: `SIZE_BYTES` that begin with a secret and go on with zeros.
        file: what to lock, if other processes have that memory too.
        clock: seconds, the same for all who share the memory.
    """

    SIZE_BYTES = _SECRET_BYTES + _SETS * _SET_BYTES

    def __init__(self, memory: mmap.mmap, file: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the memory."""
        self._memory = memory
        self._key = lru_cache(maxsize=4096)(partial(_key, memory[:_SECRET_BYTES]))
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()  # the kernel's doesn't part the threads of one process

    @classmethod
    def alone(cls, *, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return a limiter of this process."""
        memory = mmap.mmap(-1, cls.SIZE_BYTES)
        memory[:_SECRET_BYTES] = os.urandom(_SECRET_BYTES)
        return cls(memory, None, clock=clock)

    @classmethod
    def create(cls, path: Path) -> None:
        """Make the file that processes are to share, with all its bytes: a disk that is full later would be a crash."""
        with path.open("xb") as file:
            file.write(os.urandom(_SECRET_BYTES))
            file.write(bytes(cls.SIZE_BYTES - _SECRET_BYTES))

    @classmethod
    def shared(cls, path: Path, *, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return a limiter that is one with those of all other processes that open the file."""
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return cls(mmap.mmap(file, cls.SIZE_BYTES), file, clock=clock)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        if self._file is not None:
            os.close(self._file)

    async def take(self, bucket: bytes, budget: Budget, cost: int) -> Verdict:
        """See RateLimiter.take. Nobody holds the lock for longer than it takes to add up a few numbers."""
        key, number = self._key(bucket)
        with self._lock:
            if self._file is None:
                return self._take(number, key, budget, cost)
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, number)
            try:
                return self._take(number, key, budget, cost)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def _take(self, number: int, key: bytes, budget: Budget, cost: int) -> Verdict:
        memory = self._memory
        keys = _SECRET_BYTES + number * _SET_BYTES
        buckets = keys + _KEYS_BYTES
        now = self._clock()
        found = memory.find(key, keys, buckets)
        if found >= 0:
            way = (found - keys) // _KEY_BYTES
            at, missing, _ = _BUCKET.unpack_from(memory, buckets + way * _BUCKET.size)
            verdict = spend(missing, max(0.0, now - at), budget, cost)
        elif cost > 0:
            ends = _BUCKETS.unpack_from(memory, buckets)[2::3]
            way = ends.index(min(ends))
            verdict = spend(0.0, 0.0, budget, cost)
        else:
            return Verdict(allowed=True, missing=0.0)
        if verdict.allowed:
            full_at = now + verdict.missing / budget.per_s
            _BUCKET.pack_into(memory, buckets + way * _BUCKET.size, now, verdict.missing, full_at)
            if found < 0:
                memory[keys + way * _KEY_BYTES : keys + (way + 1) * _KEY_BYTES] = key
        return verdict


def _key(secret: bytes, bucket: bytes) -> tuple[bytes, int]:
    """Return what a bucket is known by, and the number of its set."""
    key = hashlib.blake2b(bucket, digest_size=_KEY_BYTES, key=secret).digest()
    return key, int.from_bytes(key[:4], "little") % _SETS
