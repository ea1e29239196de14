"""``calotype audit`` on the embedded stores, with damage made by hand on the disk."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

import calotype
from adapters.dynamodb import Tables, definitions
from application.commands.repair import MIN_AGE
from domain.image import Image
from entrypoints.cli import audit as module
from entrypoints.cli.app import cli
from tests.pictures import jpeg

OWNER = calotype.UserId("ada")
UNKNOWN_ID = "00000000-0000-4000-8000-00000000dead"


@dataclass
class Store:
    """A data folder, and what a careless hand can do to it."""

    folder: Path

    def upload(self, number: int = 0, *, tags: tuple[str, ...] = ()) -> Image:
        with calotype.open(calotype.Settings(data_dir=str(self.folder))) as bus:
            return bus.execute(
                calotype.UploadImage(
                    owner=OWNER,
                    filename=calotype.Filename(f"{number}.jpg"),
                    content=calotype.Content.of(jpeg()),
                    tags=calotype.parse_tags(tags),
                )
            ).image

    def path_of(self, image: Image) -> Path:
        (path,) = (self.folder / "objects").glob(f"*/*/{image.key}")
        return path

    def sql(self, statement: str, *parameters: object) -> None:
        with closing(sqlite3.connect(self.folder / "catalog.sqlite3")) as db, db:
            assert db.execute(statement, parameters).rowcount == 1

    def grow_old(self) -> None:
        """Make every file and every record look older than a day."""
        then = time.time() - MIN_AGE.total_seconds() - 60
        for path in (self.folder / "objects").rglob("*"):
            os.utime(path, (then, then))
        with closing(sqlite3.connect(self.folder / "catalog.sqlite3")) as db, db:
            for table in ("images", "postings"):
                db.execute(f"UPDATE {table} SET created_at = created_at - ?", (2 * 86_400 * 1_000_000,))  # noqa: S608
            db.execute("UPDATE images SET updated_at = created_at")

    def audit(self, *options: str) -> Result:
        return CliRunner().invoke(cli, ["audit", "--data-dir", str(self.folder), *options])

    def findings(self, *options: str) -> list[dict[str, Any]]:
        result = self.audit("--json", *options)
        findings = [json.loads(line) for line in result.stdout.splitlines()]
        assert result.exit_code == (
            1 if any(each.get("outcome") not in {"repaired", "gone"} for each in findings) else 0
        )
        return findings

    def kinds(self, *options: str) -> list[str]:
        return [each["finding"] for each in self.findings(*options)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name in [name for name in os.environ if name.startswith("CALOTYPE_")]:
        monkeypatch.delenv(name)
    store = Store(tmp_path / "data")
    store.upload(1, tags=("a", "b"))
    store.upload(2)
    return store


def a_stray(store: Store) -> Path:
    """Return the path of an object that lost its record."""
    image = store.upload(9)
    path = store.path_of(image)
    store.sql("DELETE FROM images WHERE image_id = ?", image.image_id.bytes)
    store.sql("UPDATE usage SET images = images - 1, size_bytes = size_bytes - ?", image.size_bytes)
    return path


def test_a_store_that_was_only_used_is_clean(store: Store) -> None:
    result = store.audit("--deep", "--repair")
    assert (result.exit_code, result.stdout) == (0, "")
    # 2 records, 2 objects, 2 postings
    assert result.stderr == "6 examined, 0 found, 0 settled, 0 left\n"
    assert list(store.folder.glob("audit.state*")) == []


def test_a_deleted_object_is_named_and_never_repaired_away(store: Store) -> None:
    image = store.upload(3)
    store.path_of(image).unlink()
    store.grow_old()
    (finding,) = store.findings("--repair")
    assert finding["finding"] == "missing_object"
    assert finding["outcome"] == "beyond_repair"
    assert finding["key"] == image.key
    with calotype.open(data_dir=store.folder) as bus:
        assert bus.ask(calotype.GetImage(owner=OWNER, image_id=image.image_id)).sha256 == image.sha256
        with pytest.raises(calotype.Damaged):
            bus.ask(calotype.ReadContent(owner=OWNER, image_id=image.image_id)).open()


def test_a_truncated_object_is_named(store: Store) -> None:
    path = store.path_of(store.upload(3))
    os.truncate(path, 100)
    (finding,) = store.findings()
    assert (finding["finding"], finding["found"]) == ("wrong_size", "100")


def test_a_flipped_byte_is_named_with_deep(store: Store) -> None:
    image = store.upload(3)
    path = store.path_of(image)
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    assert store.kinds() == []
    (finding,) = store.findings("--deep")
    assert finding["finding"] == "wrong_checksum"
    assert finding["expected"]["sha256"] == image.sha256 != finding["found"]


def test_a_stray_goes_to_the_quarantine_and_can_be_put_back(store: Store) -> None:
    path = a_stray(store)
    data = path.read_bytes()
    store.grow_old()
    (finding,) = store.findings("--repair")
    assert (finding["finding"], finding["outcome"]) == ("stray_object", "repaired")
    assert not path.parent.exists()
    assert store.kinds() == []
    (kept,) = (store.folder / "objects" / "quarantine").glob(f"*/{finding['place']}")
    assert kept.read_bytes() == data


def test_nothing_younger_than_a_day_is_touched(store: Store) -> None:
    path = a_stray(store)
    assert [each["outcome"] for each in store.findings("--repair")] == ["too_young"]
    assert path.exists()


def test_a_wrong_usage_is_told_and_counted_anew(store: Store) -> None:
    size_bytes = 2 * len(jpeg())
    store.sql("UPDATE usage SET images = 7")
    assert store.findings() == [
        {
            "finding": "wrong_usage",
            "owner": "ada",
            "expected": {"images": 2, "size_bytes": size_bytes},
            "found": {"images": 7, "size_bytes": size_bytes},
        }
    ]
    told = store.audit("--repair")
    assert (
        told.stdout == f"wrong_usage\tada\t2 images, {size_bytes} bytes; found 7 images, {size_bytes} bytes\trepaired\n"
    )
    assert store.findings() == []
    with calotype.open(data_dir=store.folder) as bus:
        assert bus.ask(calotype.GetUsage(owner=OWNER)) == calotype.Usage(images=2, size_bytes=size_bytes)


def test_what_a_dead_upload_left_is_a_stray_once_its_reservation_is_gone(store: Store) -> None:
    image = store.upload(3)
    partial = store.path_of(image).parents[2] / "partial" / f"{UNKNOWN_ID}.0123"
    partial.write_bytes(b"half")
    store.grow_old()
    (finding,) = store.findings("--repair")
    assert (finding["image_id"], finding["outcome"]) == (UNKNOWN_ID, "repaired")
    assert not partial.exists()
    assert partial.parent.exists()


@pytest.mark.parametrize("place", ["notes.txt", "f/f/images/readme", "f/f/images/x/y/z", "f/f/partial/x"])
def test_a_file_that_no_upload_could_have_made_is_a_stray(store: Store, place: str) -> None:
    path = store.folder / "objects" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"?")
    store.grow_old()
    (finding,) = store.findings("--repair")
    assert (finding["place"], finding["outcome"]) == (place, "repaired")
    assert not path.exists()


def test_a_copy_of_an_object_in_a_wrong_folder_is_a_stray(store: Store) -> None:
    image = store.upload(3)
    own = store.path_of(image)
    wrong = next(slot for slot in ("0/0", "1/1") if f"objects/{slot}/" not in str(own))
    path = store.folder / "objects" / wrong / image.key
    path.parent.mkdir(parents=True)
    path.write_bytes(own.read_bytes())
    assert store.kinds() == ["stray_object"]


def test_a_lost_posting_is_written_again(store: Store) -> None:
    image = store.upload(3, tags=("rome",))
    store.grow_old()
    store.sql("DELETE FROM postings WHERE tag = 'rome'")
    assert [(each["finding"], each["tag"], each["outcome"]) for each in store.findings("--repair")] == [
        ("record_without_posting", "rome", "repaired")
    ]
    with calotype.open(data_dir=store.folder) as bus:
        found = bus.ask(calotype.ListImages(owner=OWNER, which=calotype.ByTags(calotype.parse_tags(["rome"]))))
        assert [each.image_id for each in found.images] == [image.image_id]


def test_a_posting_that_leads_nowhere_is_removed(store: Store) -> None:
    store.sql("INSERT INTO postings VALUES ('ada', 'ghost', 0, ?)", bytes(16))
    assert [(each["finding"], each["outcome"]) for each in store.findings("--repair")] == [
        ("posting_without_record", "repaired")
    ]
    assert store.kinds() == []


def test_text_output_names_everything_a_line_each(store: Store) -> None:
    image = store.upload(3)
    store.path_of(image).unlink()
    result = store.audit()
    assert result.stdout.split("\t")[:2] == ["missing_object", image.key]
    assert result.stdout.count("\n") == 1


def test_the_quarantine_is_deleted_only_when_asked(store: Store) -> None:
    a_stray(store)
    store.grow_old()
    store.audit("--repair")
    assert store.audit("--purge-quarantine", "1").output == "0 objects deleted for good\n"
    (day,) = (store.folder / "objects" / "quarantine").iterdir()
    day.rename(day.with_name("2020-01-01"))
    assert json.loads(store.audit("--purge-quarantine", "1", "--json").output) == {"purged": 1}
    assert list((store.folder / "objects" / "quarantine").iterdir()) == []


class TestResume:
    def test_a_stopped_audit_goes_on_behind_its_last_step_and_counts_on(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.path_of(store.upload(3)).unlink()
        store.sql("INSERT INTO postings VALUES ('zoe', 'ghost', 0, ?)", bytes(16))
        monkeypatch.setattr(module.State, "passed", _stopping_after(4, module.State.passed))
        first = store.audit("--json")
        assert first.exit_code == 130
        assert f"calotype audit --resume --json --data-dir {store.folder} --state" in first.stderr
        monkeypatch.undo()
        second = store.audit("--json", "--resume")
        assert second.exit_code == 1
        told = [json.loads(line)["finding"] for line in (first.stdout + second.stdout).splitlines()]
        assert told == ["missing_object", "posting_without_record"]
        assert second.stderr == "8 examined, 2 found, 0 settled, 2 left\n"
        assert not (store.folder / "audit.state").exists()

    def test_an_audit_that_was_killed_can_be_resumed(self, store: Store) -> None:
        script = (
            "import os, signal\n"
            "from entrypoints.cli import audit, main\n"
            "audit._SAVE_EVERY_S = 0\n"
            "passed, steps = audit.Bar.passed, []\n"
            "def killed(self, phase):\n"
            "    steps.append(phase)\n"
            "    if len(steps) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
            "audit.Bar.passed = killed\n"
            f"main(['audit', '--data-dir', {str(store.folder)!r}])\n"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        assert json.loads((store.folder / "audit.state").read_text())["examined"] == 3
        assert store.audit("--resume").stderr == "6 examined, 0 found, 0 settled, 0 left\n"

    def test_an_audit_of_another_kind_is_not_resumed(self, store: Store, tmp_path: Path) -> None:
        state = tmp_path / "state"
        state.write_text(json.dumps({"store": str(store.folder), "deep": True, "phase": "objects", "position": ""}))
        result = store.audit("--resume", "--state", str(state))
        assert result.exit_code == 2
        assert "a deep one" in result.stderr

    @pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"store": "", "deep": false, "phase": "x"}'])
    def test_without_a_usable_state_there_is_nothing_to_resume(
        self, store: Store, tmp_path: Path, text: str | None
    ) -> None:
        if text is not None:
            (tmp_path / "state").write_text(text)
        assert store.audit("--resume", "--state", str(tmp_path / "state")).exit_code == 2


def test_a_mistyped_folder_is_an_error_and_not_a_clean_store(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["audit", "--data-dir", str(tmp_path / "dta")])
    assert result.exit_code == 1
    assert not (tmp_path / "dta").exists()


def test_the_stores_on_aws_are_audited_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "CALOTYPE_STORAGE": "aws",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with mock_aws():
        s3, dynamodb = boto3.client("s3", "eu-west-1"), boto3.client("dynamodb", "eu-west-1")
        s3.create_bucket(Bucket="image-uploads", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for definition in definitions(Tables()):
            dynamodb.create_table(**definition)
        s3.put_object(Bucket="image-uploads", Key=f"images/{UNKNOWN_ID}/x.jpg", Body=b"?")
        result = CliRunner().invoke(cli, ["audit", "--repair", "--json"])
    assert result.exit_code == 1
    finding = json.loads(result.stdout)
    assert (finding["image_id"], finding["outcome"]) == (UNKNOWN_ID, "too_young")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--deep", "--repair", "--resume"])
def test_a_purge_is_no_audit(store: Store, option: str) -> None:
    assert store.audit("--purge-quarantine", "7", option).exit_code == 2


def _stopping_after(count: int, passed: Any) -> Any:
    def stopping(state: module.State, step: Any) -> None:
        passed(state, step)
        if state.examined == count:
            raise KeyboardInterrupt

    return stopping
