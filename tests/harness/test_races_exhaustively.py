"""Operations on one image at the same time, in every interleaving of their calls, with the clock moved in between.

All of them on the memory adapters, each state once; the schedules that lead through all those states then on others.
A line in STORES aims it at another adapter. See docs/testing.md.
"""

from collections.abc import Mapping

import pytest

from tests.harness.interleavings import Explorer, Race
from tests.harness.stage import (
    CLAIM,
    INSTANT,
    LEASE,
    OTHER,
    RESERVATION,
    RETENTION,
    delete,
    look,
    restore,
    revise,
    sweep,
    upload,
)

RACES: Mapping[str, Race] = {
    "upload and sweep": Race((upload(), sweep()), (), moves=(LEASE, RESERVATION, CLAIM)),
    "the same upload twice": Race((upload(), upload()), (), moves=(LEASE, LEASE)),
    "the same upload twice and sweep": Race((upload(), upload(), sweep()), (), moves=(LEASE, RESERVATION)),
    "two uploads with one key": Race((upload(), upload(OTHER)), (), moves=(LEASE,)),
    "delete and restore": Race((delete(), restore()), moves=(RETENTION,)),
    "delete, restore and delete": Race((delete(), restore(), delete()), moves=(INSTANT,)),
    "restore and sweep": Race((restore(), sweep()), (upload(), delete()), moves=(RETENTION, CLAIM)),
    "restore, sweep and sweep": Race((restore(), sweep(), sweep()), (upload(), delete()), moves=(RETENTION, CLAIM)),
    "revise and delete": Race((revise("Hill"), delete()), moves=(INSTANT,)),
    "revise, delete and restore": Race((revise("Hill"), delete(), restore()), moves=(INSTANT,)),
    "revise and revise": Race((revise("Hill"), revise("Dale")), moves=(INSTANT,)),
    "revise and revise at the same version": Race((revise("Hill", version=1), revise("Dale", version=1))),
    "revise and delete at the same version": Race((revise("Hill", version=1), delete(version=1))),
    "sweep and sweep": Race((sweep(), sweep()), (upload(), delete(permanent=True)), moves=(CLAIM, CLAIM)),
    "delete permanently, sweep and upload again": Race(
        (delete(permanent=True), sweep(), upload(OTHER)), moves=(LEASE, CLAIM)
    ),
    "sweep, sweep and upload again": Race(
        (sweep(), sweep(), upload(OTHER)), (upload(), delete(permanent=True)), moves=(CLAIM, LEASE)
    ),
    "read, delete permanently, sweep and upload again": Race(
        (look(), delete(permanent=True), sweep(), upload(OTHER)), moves=(INSTANT,)
    ),
    "delete and delete": Race((delete(), delete()), moves=(INSTANT,)),
    "restore and restore": Race((restore(), restore()), (upload(), delete()), moves=(RETENTION,)),
}


@pytest.mark.parametrize("race", RACES.values(), ids=list(RACES))
def test_every_interleaving_equals_some_serial_order(race: Race) -> None:
    explorer = Explorer(race)
    schedules = list(explorer.schedules())
    print(explorer.states, len(schedules))
