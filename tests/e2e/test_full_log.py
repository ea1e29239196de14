"""A server whose log is on a full disk: it starts, answers, counts and sweeps as ever."""

from contextlib import closing
from pathlib import Path

import pytest

from tests import pictures
from tests.e2e.client import Api
from tests.service import Service
from tests.waiting import wait_until

# The server takes the place of the shell, so that signals reach it.
SAYING_IT_ALL_TO_A_FULL_DISK = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_that_takes_nothing_costs_its_lines_alone(tmp_path: Path) -> None:
    settings = {"CALOTYPE_SWEEP_INTERVAL_S": "1"}
    service = Service(tmp_path / "data", workers=2, settings=settings, run_by=SAYING_IT_ALL_TO_A_FULL_DISK)
    objects, away = service.data_dir / "objects", service.data_dir / "away"
    with service, closing(Api(service, "ada")) as api:
        image = api.uploaded(pictures.jpeg())
        objects.rename(away)
        objects.touch()
        assert [api.get(image["image_id"]).status_code for _ in range(3)] == [500] * 3
        objects.unlink()
        away.rename(objects)
        assert api.delete(image["image_id"], permanent=True).status_code == 200
        wait_until(lambda: not [*objects.rglob(f"*{image['image_id']}*")])
        counted = 'calotype_http_requests_total{method="GET",route="/api/v1/images/{image_id}",status="500"} 3.0'
        wait_until(lambda: counted in api.http.get("/metrics").text)
        assert service.stop() == 0
