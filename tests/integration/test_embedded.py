"""Calotype inside another program: what calotype.open() opens."""

from pathlib import Path

import pytest

import calotype
from tests.pictures import jpeg

ADA = calotype.UserId("ada")


def _upload(bus: calotype.OpenBus, key: str | None = None) -> calotype.Image:
    return bus.execute(
        calotype.UploadImage(
            owner=ADA,
            filename=calotype.Filename("a.jpg"),
            content=calotype.Content.of(jpeg()),
            idempotency_key=None if key is None else calotype.IdempotencyKey(key),
        )
    ).image


def test_a_folder_named_in_code_is_opened_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALOTYPE_STORAGE", "aws")
    monkeypatch.setenv("CALOTYPE_DATA_DIR", str(tmp_path / "elsewhere"))
    with calotype.open(data_dir=tmp_path / "here") as bus:
        _upload(bus)
    assert (tmp_path / "here" / "catalog.sqlite3").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_two_programs_may_have_the_same_folder_open(tmp_path: Path) -> None:
    with calotype.open(data_dir=tmp_path) as one, calotype.open(data_dir=tmp_path) as other:
        image = _upload(one, key="k")
        assert other.ask(calotype.GetImage(owner=ADA, image_id=image.image_id)) == image
        assert _upload(other, key="k") == image


def test_a_quota_holds_in_process_too(tmp_path: Path) -> None:
    settings = calotype.Settings(data_dir=str(tmp_path), quota_images=1)
    with calotype.open(settings) as bus:
        _upload(bus)
        with pytest.raises(calotype.QuotaExceeded, match="1 of 1 images of the quota are used"):
            _upload(bus)
        assert bus.ask(calotype.GetUsage(owner=ADA)) == calotype.Usage(images=1, size_bytes=len(jpeg()))


def test_a_body_is_closed_with_its_block(tmp_path: Path) -> None:
    with calotype.open(data_dir=tmp_path) as bus:
        content = bus.ask(calotype.ReadContent(owner=ADA, image_id=_upload(bus).image_id))
        with content.open() as body:
            assert body.read() == jpeg()


def test_a_subscriber_hears_of_its_kind_of_event_and_its_failure_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uploads: list[calotype.ImageUploaded] = []

    def fails(event: calotype.Event) -> None:
        raise RuntimeError(f"no time for {type(event).__name__}")

    subscribers = [calotype.on(calotype.Event, fails), calotype.on(calotype.ImageUploaded, uploads.append)]
    with calotype.open(data_dir=tmp_path, subscribers=subscribers) as bus:
        image = _upload(bus)
        bus.execute(calotype.DeleteImage(owner=ADA, image_id=image.image_id))
    assert [event.image_id for event in uploads] == [image.image_id]
    assert "subscriber" in caplog.text


def test_a_closed_bus_says_so(tmp_path: Path) -> None:
    bus = calotype.open(data_dir=tmp_path)
    bus.close()
    bus.close()
    with pytest.raises(calotype.Unavailable):
        bus.ask(calotype.ListImages(owner=ADA))
