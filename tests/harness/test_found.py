"""What the harness has found, each as a test of its own."""

from datetime import timedelta

import pytest

from application.commands.sweep import Sweep
from domain.errors import Damaged, NotFound
from tests.harness.faults import Faults, Hang
from tests.harness.interleavings import Race, Scene
from tests.harness.machine import Harness
from tests.harness.model import Form, Picture
from tests.harness.stage import INSTANT, OTHER, Stages, delete, look, restore, sweep, upload
from tests.harness.systems import BusSystem, memory_stores
from tests.pictures import png

PICTURE = Picture(name="png", data=png(4, 3), media_type="image/png", width=4, height=3)


def test_a_permanent_deletion_stays_one_when_the_clock_is_set_back() -> None:
    # The state machine, on SQLite: the store was right, and the model restored it.
    harness = Harness(BusSystem(memory_stores()))
    harness.fill([("ann", Form(picture=PICTURE, filename="a.png"))], 0)
    (image_id,) = harness.model.live
    harness.delete_as(harness.owner("ann"), image_id, None, permanent=True)
    harness.advance(-timedelta(seconds=1))
    harness.restore_as(harness.owner("ann"), image_id)
    assert image_id in harness.model.trash
    harness.teardown()


@pytest.mark.parametrize("later", [INSTANT, timedelta(0)])
def test_a_reader_that_meets_a_purge_and_a_new_upload_is_told_that_the_image_is_gone(later: timedelta) -> None:
    # The search of races: record; purge; open; new upload under the id; record again.
    stage = Stages(memory_stores()).new()
    scene = Scene(Race((look(),)), stage)
    (reader,) = scene.actors
    reader.step(time_stands=False)  # the record
    stage.do(delete(permanent=True), sweep())
    reader.step(time_stands=False)  # no object
    stage.clock.advance(later)
    stage.do(upload(OTHER))
    reader.step(time_stands=False)
    assert reader.result is not None
    # A time tells the two uploads apart, so both in one microsecond (with a purge between) look like a loss.
    assert isinstance(reader.result.error, NotFound if later else Damaged)


def test_a_sweeper_that_hangs_in_its_deletion_meets_a_new_upload_and_does_it_no_harm() -> None:
    # Not a find, but the hazard of ADR 1 in its shortest form.
    stage = Stages(memory_stores()).new()
    stage.do(upload(), delete(permanent=True))

    def others() -> None:
        stage.sweep()
        stage.do(upload(OTHER))

    faults = Faults({3: Hang(stage.clock, timedelta(minutes=5), "before", others)})
    report = stage.bus(faults.wrap).execute(Sweep())
    assert faults.calls[3] == "delete_prefix"
    assert (report.failed, [data for *_, data in stage.seen()]) == (1, [OTHER])
    with pytest.raises(NotFound):
        stage.do(restore())
