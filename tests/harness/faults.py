"""A wrapper for any port that lets chosen calls meet a fault; and the faults.

faults = Faults()
bus = build_bus(metadata=faults.wrap(metadata), objects=faults.wrap(objects), ...)
faults.arm({2: fail_after})     # the third call from here on: it happens, and its reply is lost
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, BinaryIO, Literal, TypeVar, cast

from adapters.memory import FixedClock
from application.ports import ObjectBody, ObjectInfo
from domain.errors import CalotypeError, Unavailable

Port = TypeVar("Port")


class ProcessDied(BaseException):
    """The process ended here: who catches it drops everything above the stores."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a port on its way. It can go through any number of times: streams are read from where they stood."""

    name: str
    port: object
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    stood: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stood", tuple(stream.tell() for stream in self.streams))

    @property
    def streams(self) -> tuple[io.IOBase, ...]:
        return tuple(value for value in self.args if isinstance(value, io.IOBase))

    def go(self) -> Any:
        for stream, position in zip(self.streams, self.stood, strict=True):
            stream.seek(position)
        return getattr(self.port, self.name)(*self.args, **self.kwargs)

    def to(self, port: object) -> "Call":
        """The same call, of another port of the kind."""
        return replace(self, port=port)


Hook = Callable[[Call], Any]


def through(hook: Hook, port: Port) -> Port:
    """Return the port with every call going through the hook; so does each step of an iterator that it returns."""
    return cast("Port", _Through(hook, port))


class _Through:
    def __init__(self, hook: Hook, port: object) -> None:
        self._hook = hook
        self._port = port

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: object, **kwargs: object) -> object:
            answer = self._hook(Call(name, self._port, args, kwargs))
            return self._walk(name, answer) if isinstance(answer, Iterator) else answer

        return call

    def _walk(self, name: str, walk: Iterator[object]) -> Iterator[object]:
        over = object()
        while (item := self._hook(Call("__call__", _Named(f"{name}, next", lambda: next(walk, over))))) is not over:
            yield item


@dataclass(frozen=True)
class _Named:
    name: str
    function: Callable[[], object]

    def __call__(self) -> object:
        return self.function()


def name_of(call: Call) -> str:
    return call.port.name if isinstance(call.port, _Named) else call.name


# ---- the faults: what happens to a call instead of its going through

REPEATABLE = {"put", "abandon", "commit", "delete_prefix", "forget"}

Fault = Callable[[Call], Any]


def fail_before(call: Call) -> None:
    raise Unavailable(f"{name_of(call)} never arrived")


def fail_after(call: Call) -> None:
    _drop(call.go())
    raise Unavailable(f"the reply of {name_of(call)} was lost")


def die_before(call: Call) -> None:
    raise ProcessDied(f"before {name_of(call)}")


def die_after(call: Call) -> None:
    _drop(call.go())
    raise ProcessDied(f"after {name_of(call)}")


def deliver_twice(call: Call) -> Any:
    """The answer is the first one's; the second must be answered, too, if the port says that it may be repeated."""
    answer = call.go()
    if call.name in REPEATABLE:
        return call.go()
    with suppress(CalotypeError):
        _drop(call.go())
    return answer


def _drop(answer: object) -> None:
    # Nobody will: what was opened would stay open.
    close: Callable[[], None] | None = getattr(answer, "close", None)
    if close is not None:
        close()


def end_stream(call: Call) -> Any:
    """What is put ends too early, and says nothing."""
    return _with_stream(call, lambda data: io.BytesIO(data[: len(data) // 2])).go()


def break_stream(call: Call) -> Any:
    """What is put, or was opened, can be read to its middle and no further."""
    if call.name == "open":
        return _BreakingBody(call.go())
    return _with_stream(call, _BreakingStream).go()


@dataclass(frozen=True)
class Hang:
    """The time moves on before or during the call, then it goes on; ``meanwhile`` others are at work."""

    clock: FixedClock
    time: timedelta
    when: Literal["before", "after"] = "before"
    meanwhile: Callable[[], object] | None = None

    def __call__(self, call: Call) -> Any:
        answer = call.go() if self.when == "after" else None
        self.clock.advance(self.time)
        if self.meanwhile is not None:
            self.meanwhile()
        return answer if self.when == "after" else call.go()

    def __str__(self) -> str:
        return f"hang {self.time} {self.when}{', others sweep' if self.meanwhile else ''}"


PLAIN: tuple[Fault, ...] = (fail_before, fail_after, die_before, die_after, deliver_twice)
STREAMS: tuple[Fault, ...] = (end_stream, break_stream)
"""For calls that carry a stream."""


def label(fault: Fault) -> str:
    return str(fault) if isinstance(fault, Hang) else getattr(fault, "__name__", repr(fault))


@dataclass
class Faults:
    """Counts the calls of all ports that it wraps, in one row, and lets those that are planned meet their fault."""

    planned: dict[int, Fault] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    watch: Callable[[], object] | None = None
    """Called after every call, whatever came of it."""

    def wrap(self, port: Port) -> Port:
        return through(self._meet, port)

    def arm(self, planned: Mapping[int, Fault]) -> None:
        """Count from zero again; what was planned and not met is forgotten."""
        self.planned, self.calls, self.met = dict(planned), [], []

    def _meet(self, call: Call) -> Any:
        fault = self.planned.pop(len(self.calls), None)
        self.calls.append(name_of(call))
        if fault in STREAMS and not (call.streams or (call.name == "open" and fault is break_stream)):
            fault = None
        try:
            if fault is None:
                return call.go()
            self.met.append(f"{name_of(call)}: {label(fault)}")
            return fault(call)
        finally:
            if self.watch is not None:
                self.watch()


def _with_stream(call: Call, change: Callable[[bytes], io.BytesIO]) -> Call:
    def changed(value: object) -> object:
        if not isinstance(value, io.IOBase):
            return value
        content = cast("BinaryIO", value)
        position = content.tell()
        stream = change(content.read())
        content.seek(position)
        return stream

    return replace(call, args=tuple(map(changed, call.args)))


class StreamBroke(Exception):
    """What a broken stream raises: nothing that any adapter knows."""


class _BreakingStream(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        middle = len(self.getbuffer()) // 2
        room = middle - self.tell()
        if room <= 0 or size is None or size < 0:
            raise StreamBroke
        return super().read(min(size, room))


@dataclass
class _BreakingBody:
    body: ObjectBody
    given: int = 0

    @property
    def info(self) -> ObjectInfo:
        return self.body.info

    @property
    def path(self) -> None:
        return None

    def read_at_hand(self, size: int, /) -> None:
        del size

    def read(self, size: int = -1, /) -> bytes:
        room = self.body.info.size_bytes // 2 - self.given
        if room <= 0 or size < 0:
            raise Unavailable("the connection broke")
        piece = self.body.read(min(size, room))
        self.given += len(piece)
        return piece

    def close(self) -> None:
        self.body.close()
