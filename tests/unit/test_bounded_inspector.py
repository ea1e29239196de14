"""The bound on what all inspections may work on at a time."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Event
from typing import BinaryIO

import pytest

from adapters.imaging import BoundedInspector
from application.ports import Inspection
from domain.errors import Invalid, Overloaded
from domain.limits import Limits
from domain.values import MediaType
from entrypoints.container import Container
from entrypoints.settings import Settings
from tests.builders import ANN, BOB
from tests.waiting import PATIENCE_S

FOUND = Inspection(media_type=MediaType.PNG, width=1, height=1, frames=1, orientation=1)


class SlowInspector:
    """Inspects until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.over = Event(), Event()

    def inspect(self, content: BinaryIO, *, limits: Limits) -> Inspection:
        del content, limits
        self.begun.set()
        assert self.over.wait(PATIENCE_S)
        return FOUND


class Refusing:
    def inspect(self, content: BinaryIO, *, limits: Limits) -> Inspection:
        del limits
        assert content.read() == b""  # wherever the position is left, the one inside begins where it likes
        raise Invalid("file", "is broken")


def test_what_has_no_room_is_refused_at_once_and_not_looked_at() -> None:
    slow = SlowInspector()
    bounded = BoundedInspector(slow, most_bytes=10)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(bounded.inspect, BytesIO(b"x" * 6), limits=Limits(), owner=ANN)
        assert slow.begun.wait(PATIENCE_S)
        with pytest.raises(Overloaded):
            bounded.inspect(BytesIO(b"x" * 5), limits=Limits(), owner=BOB)
        slow.over.set()
        assert first.result() == FOUND
    assert bounded.inspect(BytesIO(b"x" * 5), limits=Limits(), owner=ANN) == FOUND


def test_what_is_larger_than_all_the_room_is_let_in_alone() -> None:
    slow = SlowInspector()
    bounded = BoundedInspector(slow, most_bytes=10)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(bounded.inspect, BytesIO(b"x" * 60), limits=Limits(), owner=ANN)
        assert slow.begun.wait(PATIENCE_S)
        with pytest.raises(Overloaded):
            bounded.inspect(BytesIO(b"x"), limits=Limits(), owner=BOB)
        slow.over.set()
        assert first.result() == FOUND


def test_one_owner_gets_half_of_the_room_and_leaves_the_rest_to_the_others() -> None:
    slow = SlowInspector()
    bounded = BoundedInspector(slow, most_bytes=10)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(bounded.inspect, BytesIO(b"x" * 4), limits=Limits(), owner=ANN)
        assert slow.begun.wait(PATIENCE_S)
        with pytest.raises(Overloaded):
            bounded.inspect(BytesIO(b"x" * 2), limits=Limits(), owner=ANN)
        slow.begun.clear()
        second = threads.submit(bounded.inspect, BytesIO(b"x" * 5), limits=Limits(), owner=BOB)
        assert slow.begun.wait(PATIENCE_S)
        slow.over.set()
        assert first.result() == second.result() == FOUND
    assert not bounded._bytes
    assert not bounded._bytes_of


def test_room_comes_back_when_an_inspection_fails() -> None:
    bounded = BoundedInspector(Refusing(), most_bytes=10)
    for _ in range(3):
        with pytest.raises(Invalid):
            bounded.inspect(BytesIO(b"x" * 10), limits=Limits(), owner=ANN)


def test_the_bound_is_the_one_that_is_set() -> None:
    inspector = Container(settings=Settings(max_bytes_in_inspection=12_345)).inspector()
    assert isinstance(inspector, BoundedInspector)
    assert inspector._most_bytes == 12_345
