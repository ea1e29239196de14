"""Inspections in a process of their own, where a crash, a hang and the memory taken can be seen.

Run as a script it is that process: files come in on standard input, each behind its length, and for each a line of JSON
goes out. A process that dies or falls silent was brought down by the file it was given last.
"""

import json
import logging
import resource
import select
import struct
import subprocess
import sys
import time
import warnings
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from adapters.imaging import PillowInspector
from application.content import HashedBytes
from domain.errors import Invalid
from domain.limits import Limits

_LENGTH = struct.Struct(">I")
_SILENCE_S = 120.0
# A bomb that goes off must not take the machine with it.
_ADDRESS_SPACE_BYTES = 16 * 1024**3


class Seen(NamedTuple):
    """What became of a file: ``outcome`` is ``accepted``, the code of a refusal, or words for what should never be.

    ``cpu_s`` and ``memory_bytes`` are what it took to inspect it, the memory on top of that of the idle process and the
    file.
    """

    outcome: str
    cpu_s: float = 0.0
    memory_bytes: int = 0


class Inspecting:
    """The process, seen from outside. One that has died is followed by another."""

    def __init__(self) -> None:
        self._process = _start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _stop(self._process)

    def inspect(self, data: bytes) -> Seen:
        source, sink = self._process.stdout, self._process.stdin
        assert source
        assert sink
        try:
            sink.write(_LENGTH.pack(len(data)) + data)
            sink.flush()
            if select.select([source], [], [], _SILENCE_S)[0]:
                if line := source.readline():
                    return Seen(*json.loads(line))
                self._process.wait()
        except BrokenPipeError:
            self._process.wait()
        code = self._process.poll()
        _stop(self._process)
        self._process = _start()
        return Seen("fell silent" if code is None else f"died with {code}")


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.inspecting"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    said: list[str] = []
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_: said.append(str(message))
    words = logging.Handler()
    words.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(words)
    inspector = PillowInspector()
    idle = _peak_bytes()
    while length := sys.stdin.buffer.read(_LENGTH.size):
        file = HashedBytes(sys.stdin.buffer.read(_LENGTH.unpack(length)[0]))  # as an upload's
        said.clear()
        _forget_peak()
        started = time.process_time()
        outcome = _outcome(inspector, file)
        memory = _peak_bytes() - idle - file.getbuffer().nbytes
        seen = Seen(f"said {said}" if said else outcome, time.process_time() - started, memory)
        sys.stdout.write(json.dumps(seen) + "\n")
        sys.stdout.flush()
        del file  # its memory is not the next one's


def _outcome(inspector: PillowInspector, file: BytesIO) -> str:
    try:
        inspector.inspect(file, limits=Limits())
    except Invalid as refused:
        return refused.code
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is what the tests are about)
        return f"raised {error!r} from {error.__cause__!r}"
    return "accepted"


def _forget_peak() -> None:
    """Let the high-water mark of resident memory begin anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024


if __name__ == "__main__":
    _serve()
