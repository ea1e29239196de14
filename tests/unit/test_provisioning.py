"""The loop of bootstrap, over stores that race, lag, refuse and don't know how."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from application.provisioning import InMotion, Refused, State, Unsupported
from domain.errors import Unavailable
from entrypoints.provisioning import Finding, Outcome, Patience, compare, provision


@dataclass
class Light:
    """An aspect. What happens at each read and write can be given; then both are plain."""

    found: State = "off"
    wanted: State = "on"
    what: str = "light"
    at_read: list[Callable[[], None]] = field(default_factory=list)
    at_write: list[Callable[[], None]] = field(default_factory=list)
    writes: int = 0
    deaf: bool = False

    def read(self) -> State:
        if self.at_read:
            self.at_read.pop(0)()
        return self.found

    def write(self) -> None:
        self.writes += 1
        if self.at_write:
            self.at_write.pop(0)()
        if not self.deaf:
            self.found = self.wanted

    def turn_on(self) -> None:
        self.found = self.wanted


def fail(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


@dataclass
class Time:
    """Passes only while somebody waits."""

    now_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def patience(self) -> Patience:
        return Patience(deadline_s=600, shows_within_s=10, sleep=self.sleep, monotonic=lambda: self.now_s)


def provisioned(*lights: Light) -> list[Finding]:
    return list(provision([lights], Time().patience()))


def outcome_of(light: Light) -> Outcome:
    (finding,) = provisioned(light)
    return finding.outcome


@pytest.mark.parametrize(("found", "outcome"), [(None, "created"), ("off", "changed"), ("on", "unchanged")])
def test_what_is_not_as_wanted_is_made_so_once(found: State, outcome: str) -> None:
    light = Light(found)
    assert outcome_of(light) == outcome
    assert light.found == "on"
    assert light.writes == (outcome != "unchanged")


@pytest.mark.parametrize(("found", "outcome"), [(None, "missing"), ("off", "differs"), ("on", "unchanged")])
def test_a_comparison_writes_nothing(found: State, outcome: str) -> None:
    light = Light(found)
    assert list(compare([[light]])) == [Finding(Outcome(outcome), "light", found, "on")]
    assert light.writes == 0


def test_what_is_in_motion_differs_in_a_comparison() -> None:
    (finding,) = compare([[Light(at_read=[fail(InMotion("it is CREATING"))])]])
    assert (finding.outcome, finding.reason) == ("differs", "it is CREATING")


def test_a_finding_tells_what_was_there_before() -> None:
    assert provisioned(Light()) == [Finding(Outcome.CHANGED, "light", "off", "on")]


def test_what_another_run_is_making_is_waited_for_and_not_made_again() -> None:
    light = Light("on", at_read=[fail(InMotion("it is CREATING"))] * 3)
    assert outcome_of(light) == "unchanged"
    assert light.writes == 0


def test_a_write_that_meets_another_runs_is_left_to_it() -> None:
    light = Light(None)

    def lose() -> None:
        light.turn_on()
        raise InMotion("it exists")

    light.at_write = [lose]
    assert outcome_of(light) == "unchanged"
    assert light.writes == 1


def test_a_refusal_of_what_another_run_has_just_done_is_none() -> None:
    light = Light(None)

    def lose() -> None:
        light.turn_on()
        raise Refused("the index exists already")

    light.at_write = [lose]
    assert outcome_of(light) == "unchanged"


def test_a_write_that_could_not_be_made_yet_is_made_later() -> None:
    light = Light(at_write=[fail(InMotion("the table is UPDATING"))] * 2)
    assert outcome_of(light) == "changed"
    assert light.writes == 3


def test_a_read_that_lags_behind_the_write_is_repeated() -> None:
    light = Light(deaf=True)
    light.at_read = [lambda: None, lambda: None, light.turn_on]
    assert outcome_of(light) == "changed"
    assert light.writes == 1


def test_what_takes_long_may_take_long() -> None:
    light = Light(None, deaf=True)
    light.at_read = [lambda: None, *[fail(InMotion("it is CREATING"))] * 100, lambda: None, light.turn_on]
    assert outcome_of(light) == "created"


def test_what_takes_longer_than_the_deadline_fails_and_says_so() -> None:
    (finding,) = provisioned(Light(at_read=[fail(InMotion("it is CREATING"))] * 1000))
    assert finding.outcome == "failed"
    assert finding.reason == "it is CREATING, for 600 s now; run this again later"


def test_what_a_server_accepts_and_ignores_is_not_supported() -> None:
    light = Light(deaf=True)
    (finding,) = provisioned(light)
    assert (finding.outcome, finding.reason) == ("not supported", "accepted, but a read doesn't show it")
    assert light.writes == 1


def test_what_a_server_does_not_know_is_not_supported() -> None:
    assert outcome_of(Light(at_read=[fail(Unsupported("unknown operation"))])) == "not supported"
    assert outcome_of(Light(at_write=[fail(Unsupported("unknown operation"))])) == "not supported"


@pytest.mark.parametrize("error", [Refused("not yours"), Unavailable("not there")])
def test_a_failure_does_not_keep_the_other_aspects_from_being_done(error: Exception) -> None:
    findings = provisioned(Light("on"), Light(at_write=[fail(error)]), Light())
    assert [each.outcome for each in findings] == ["unchanged", "failed", "changed"]
    assert findings[1].reason == str(error)


def test_of_a_store_that_does_not_exist_nothing_else_is_said() -> None:
    assert len(list(compare([[Light(None), Light()], [Light("on"), Light()]]))) == 3
    assert len(provisioned(Light(None, at_write=[fail(Refused("taken"))]), Light())) == 1
