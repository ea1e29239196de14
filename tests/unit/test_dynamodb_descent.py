"""Merging and leapfrog over sorted rows, on lists in memory."""

from collections.abc import Sequence
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from adapters.dynamodb.descent import Batch, Bound, Descent, Fetch, in_all, in_any


class Rows:
    """Rows to walk over, which counts what is read of them."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = sorted((text(row) for row in rows), reverse=True)
        self.read = 0
        self.fetches = 0

    def fetch(self, bound: Bound | None, size: int) -> Batch:
        rows = self.rows
        if bound is not None:
            rows = [row for row in rows if row < bound.text or (bound.inclusive and row == bound.text)]
        self.read += len(rows[:size])
        self.fetches += 1
        return Batch(rows[:size], last=len(rows) <= size)


def text(number: int) -> str:
    return f"{number:06}"


def walks(*fetches: Fetch, start: int | None = None, batch: int = 3) -> list[Descent]:
    bound = None if start is None else Bound(text(start), inclusive=False)
    return [Descent(fetch, start=bound, batch=batch) for fetch in fetches]


def falling(numbers: set[int], start: int | None) -> list[str]:
    return [text(number) for number in sorted(numbers, reverse=True) if start is None or number < start]


several = st.lists(st.sets(st.integers(0, 60)), min_size=1, max_size=4)
starts = st.none() | st.integers(0, 60)


@given(several, starts, st.integers(1, 10))
def test_in_any_is_the_union_newest_first(sets: list[set[int]], start: int | None, batch: int) -> None:
    found = list(in_any(walks(*(Rows([*each]).fetch for each in sets), start=start, batch=batch)))
    assert found == falling(set.union(*sets), start)


@given(several, starts, st.integers(1, 10))
def test_in_all_is_the_intersection_newest_first(sets: list[set[int]], start: int | None, batch: int) -> None:
    found = list(in_all(walks(*(Rows([*each]).fetch for each in sets), start=start, batch=batch)))
    assert found == falling(set.intersection(*sets), start)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    first, second = Rows(range(100)), Rows(range(100))
    merged = in_any(walks(first.fetch, second.fetch, batch=10))
    assert (first.fetches, second.fetches) == (0, 0)
    assert len(list(islice(merged, 10))) == 10
    assert (first.fetches, second.fetches) == (1, 1)


def test_the_rows_of_a_first_batch_cost_one_read() -> None:
    rows = Rows(range(100))
    assert len(list(islice(in_any(walks(rows.fetch, batch=21)), 21))) == 21
    assert (rows.fetches, rows.read) == (1, 21)


def test_a_rare_tag_jumps_through_a_common_one() -> None:
    rare, common = Rows(range(0, 100_000, 20_000)), Rows(range(100_000))
    assert len(list(in_all(walks(common.fetch, rare.fetch, batch=21)))) == 5
    assert common.read < 100


def test_tags_that_alternate_are_read_in_ever_larger_batches() -> None:
    even, odd = Rows(range(0, 20_000, 2)), Rows(range(1, 20_000, 2))
    assert list(in_all(walks(even.fetch, odd.fetch, batch=21))) == []
    assert even.fetches + odd.fetches < 50


def test_a_walk_that_has_ended_ends_the_whole() -> None:
    short, long = Rows([9_999]), Rows(range(10_000))
    assert list(in_all(walks(long.fetch, short.fetch))) == [text(9_999)]
    assert long.read < 50
