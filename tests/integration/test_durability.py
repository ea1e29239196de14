"""The order in which an upload reaches the medium, through both embedded adapters: nothing is relied on too early.

What each adapter owes for itself is in test_filesystem.py and test_sqlite.py.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.filesystem import FilesystemObjects
from adapters.imaging import BoundedInspector, PillowInspector
from adapters.memory import FixedClock
from adapters.sqlite import SqliteMetadata
from adapters.system import RandomIds
from application.commands.sweep import Sweep, SweepHandler, SweepReport
from application.commands.upload_image import UploadImage, UploadImageHandler
from application.content import Content
from application.ports import ByOwner
from domain.limits import Limits
from domain.values import Filename, UserId, parse_tags
from tests.integration.fragile_disk import Cut, FragileDisk, files_below
from tests.pictures import jpeg

ROOT = Path(__file__).parent.parent.parent
ADA = UserId("ada")
TTL = timedelta(hours=1)


# ---- both adapters, and the power cut after any operation on the objects' disk


@dataclass
class Embedded:
    """Both embedded adapters, the objects on a disk that forgets."""

    metadata: SqliteMetadata
    disk: FragileDisk
    objects: FilesystemObjects
    clock: FixedClock

    def upload(self, content: bytes) -> None:
        handler = UploadImageHandler(
            metadata=self.metadata,
            objects=self.objects,
            inspector=BoundedInspector(PillowInspector(), most_bytes=10**9),
            clock=self.clock,
            ids=RandomIds(),
            limits=Limits(),
            reservation_ttl=TTL,
        )
        handler(UploadImage(owner=ADA, filename=Filename("a.jpg"), content=Content.of(content), tags=parse_tags(["a"])))

    def sweep(self) -> SweepReport:
        self.clock.advance(TTL)
        handler = SweepHandler(metadata=self.metadata, objects=self.objects, clock=self.clock, ids=RandomIds())
        return handler(Sweep()).result


@contextmanager
def embedded(folder: Path) -> Iterator[Embedded]:
    folder.mkdir()
    disk, clock = FragileDisk(folder), FixedClock()
    objects = FilesystemObjects(
        folder / "objects", clock=clock, public_url="http://localhost", secret=b"s" * 32, disk=disk
    )
    with SqliteMetadata(folder / "catalog.sqlite3") as metadata:
        yield Embedded(metadata, disk, objects, clock)


def test_whenever_the_power_is_cut_a_record_has_its_object_and_the_rest_is_swept(tmp_path: Path) -> None:
    content, recorded, ended = jpeg(), list[bool](), False
    while not ended:
        folder = tmp_path / str(len(recorded))
        with embedded(folder) as stores:
            stores.disk.left = len(recorded)
            with suppress(Cut):
                stores.upload(content)
            ended = stores.disk.left > 0
            stores.disk.left = None
            stores.disk.lose_power()

            records = stores.metadata.page(ADA, ByOwner(), limit=9).images
            for image in records:
                with stores.objects.open(image.key, sha256=image.sha256) as body:
                    assert body.read() == content
            assert stores.sweep() == SweepReport(uploads=1 - len(records))
        assert [path.name for path in files_below(folder / "objects")] == ["a.jpg"] * len(records)
        recorded.append(bool(records))
    assert len(recorded) > 10
    # The commit comes when there is nothing left to be done for the object.
    assert recorded == sorted(recorded)


# ---- what the kernel is really asked for

_UPLOAD = """
import os, sys
import calotype
from tests.pictures import jpeg
with calotype.open(data_dir=sys.argv[1]) as bus:
    for name in ("first.jpg", "second.jpg"):
        bus.execute(calotype.UploadImage(
            owner=calotype.UserId("ada"), filename=calotype.Filename(name), content=calotype.Content.of(jpeg())
        ))
        os.write(1, f"acknowledged {name}".encode())
    os._exit(0)
"""
_CALLS = "creat,open,openat,mkdir,mkdirat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir"
_WRITES = "write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync"
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>\d+)")
_PATHS = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"\d+<(?P<path>[^>]*)>")


@dataclass
class Unsynced:
    """What would be gone, below a folder, if the power failed now: data belongs to a file, a name to its folder."""

    root: str
    data: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    def pass_on(self, call: str, paths: list[str], descriptor: str | None, *, creates: bool) -> None:
        match call:
            case "fsync" | "fdatasync" if descriptor is not None:
                self.data.discard(descriptor)
                self.names -= {name for name in self.names if os.path.dirname(name) == descriptor}  # noqa: PTH120
            case "write" | "pwrite64" | "writev" | "pwritev" | "ftruncate" if descriptor is not None:
                self.data.add(descriptor)
            case "link" | "linkat" | "rename" | "renameat" | "renameat2":
                source, target = paths
                assert source not in self.data, f"{target} was given its name before its data was synced"
                self._add(target)
            case "mkdir" | "mkdirat":
                self._add(paths[0])
            case "open" | "openat" | "creat" if creates:
                self._add(paths[0])
            case "unlink" | "unlinkat" | "rmdir":
                self.data.discard(paths[0])
                self.names.discard(paths[0])
            case _:
                pass

    def _add(self, name: str) -> None:
        if name not in self.known:
            self.known.add(name)
            self.names.add(name)

    def lost(self) -> set[str]:
        """Return what is lost of all that anybody relies on: the -shm, locks and partial folders are made anew."""
        lost = {name for name in self.data | self.names if name.startswith(self.root)}
        return {name for name in lost if not name.endswith(("-shm", "-turn", "-next", "/partial"))}


def _calls(trace: str) -> Iterator[tuple[str, list[str], str | None, bool, str]]:
    for line in trace.splitlines():
        if (match := _CALL.match(line)) is not None:
            arguments = match["arguments"]
            descriptor = _DESCRIPTOR.match(arguments)
            path = None if descriptor is None else descriptor["path"]
            yield match["name"], _PATHS.findall(arguments), path, "O_CREAT" in arguments, line


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """The file operations of two uploads into a folder several levels of which are not there yet."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (a package of that name): the system calls of an upload are not checked")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALOTYPE_")}
    folder = tmp_path / "several" / "levels" / "data"
    strace = ["strace", "-y", "-s", "4096", "-e", f"trace={_CALLS},{_WRITES}", "-o", str(tmp_path / "trace")]
    done = subprocess.run(
        [*strace, sys.executable, "-c", _UPLOAD, str(folder)],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr and done.returncode != 0:
        pytest.skip(f"strace may not trace here: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return (tmp_path / "trace").read_text(errors="replace")


def test_nothing_of_an_upload_is_still_unsynced_when_it_is_committed_or_acknowledged(
    trace: str, tmp_path: Path
) -> None:
    unsynced = Unsynced(str(tmp_path))
    steps: list[str] = []
    log = str(tmp_path / "several" / "levels" / "data" / "catalog.sqlite3-wal")
    for call, paths, descriptor, creates, line in _calls(trace):
        if call == "write" and "acknowledged" in line:
            assert unsynced.lost() == set()
            steps.append("acknowledge")
        else:
            if descriptor == log and call.startswith("pwrite"):
                # A note or a record goes to the log when all before it is on the medium.
                assert unsynced.lost() <= {log}
                steps.append("log")
            unsynced.pass_on(call, paths, descriptor, creates=creates)
        if call in {"fsync", "fdatasync"} and descriptor == log:
            steps.append("sync the log")
        if call == "write" and descriptor is not None and "/partial/" in descriptor:
            steps.append("write")
        if call == "link" and paths[1].endswith(".jpg"):
            steps.append("publish")
    told = [step for number, step in enumerate(steps) if step != steps[number - 1]]
    upload = ["log", "sync the log", "write", "publish", "log", "sync the log", "acknowledge"]
    assert told[-2 * len(upload) :] == upload * 2, told
