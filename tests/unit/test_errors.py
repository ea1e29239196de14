import copy
import pickle

import pytest

from domain.errors import CalotypeError, Conflict, Damaged, Invalid, KeyReused, NotFound, QuotaExceeded, TooLarge

ERRORS = [
    Invalid("title", "is odd", code="odd", others=[Invalid("tags", "are odd")]),
    TooLarge(5),
    QuotaExceeded("images", 5, 7),
    Conflict("later", retry_after_s=3),
    KeyReused("other body"),
    NotFound(),
    Damaged("gone"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_whole_through_a_copy_and_a_pickle(error: CalotypeError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 (our own bytes)
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert {name: str(value) for name, value in vars(twin).items()} == {
            name: str(value) for name, value in vars(error).items()
        }


def test_errors_read_as_sentences() -> None:
    assert str(Invalid("title", "is odd")) == "title is odd"
    assert str(TooLarge(5)) == "the file is larger than 5 bytes"


def test_nothing_is_raised_for_no_faults() -> None:
    Invalid.raise_all([])


def test_one_fault_keeps_its_code() -> None:
    with pytest.raises(Invalid, match="limit is odd") as caught:
        Invalid.raise_all([Invalid("limit", "is odd", code="odd")])
    assert caught.value.code == "odd"
    assert [fault.field for fault in caught.value.faults] == ["limit"]


def test_several_faults_are_told_together_and_none_is_lost() -> None:
    nested = Invalid("title", "is odd", code="odd", others=[Invalid("tags", "are odd")])
    with pytest.raises(Invalid, match="title is odd") as caught:
        Invalid.raise_all([nested, Invalid("limit", "is odd")])
    assert caught.value.code == "invalid_input"
    assert [fault.field for fault in caught.value.faults] == ["title", "tags", "limit"]
