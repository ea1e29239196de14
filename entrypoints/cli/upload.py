"""``calotype upload``: files and folders to a server, several at a time, safe to repeat."""

import hashlib
import json
import math
import os
import queue
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import click

from domain.values import Description, Filename, IdempotencyKey, Tag, Title
from entrypoints.cli.app import EXIT_INTERRUPTED
from entrypoints.cli.bar import print_line, progress_bar
from entrypoints.cli.client import Client, ImageDocument, Refused, RequestFailed, Unreachable, Words
from entrypoints.cli.files import FileChanged, SteadyFile, find_images
from entrypoints.cli.options import Access, client_command, parsed_by, tags_option
from entrypoints.cli.text import human_size, shown

if TYPE_CHECKING:
    from rich.progress import Progress

IN_TRASH_CODE = "image_in_trash"
QUOTA_CODE = "quota_exceeded"
_JOBS_MAX = 32
# How long Ctrl-C waits for uploads under way to notice; one that waits for a silent server never does.
_GRACE_S = 1.0


class Outcome(StrEnum):
    """What became of one file."""

    UPLOADED = "uploaded"
    ALREADY_THERE = "already_there"
    IN_TRASH = "in_trash"
    FAILED = "failed"

    @property
    def words(self) -> str:
        """How it reads."""
        return {"in_trash": "in the trash"}.get(self.value, self.value.replace("_", " "))


_GOOD = {Outcome.UPLOADED, Outcome.ALREADY_THERE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of one file, with the image or with what was wrong, a line a fault.

    A ``hopeless`` one says that no other file can fare better: nobody answers, we are not let in, or the quota is full.
    """

    file: Path
    outcome: Outcome
    image: ImageDocument | None = None
    faults: tuple[str, ...] = ()
    problem: Mapping[str, Any] | None = None
    hopeless: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what --json prints."""
        document: dict[str, Any] = {"file": str(self.file), "outcome": self.outcome.value}
        if self.image is not None:
            return {**document, "image": self.image}
        return {**document, "error": {"message": "; ".join(self.faults), **(self.problem or {})}}


def idempotency_key(sha256: str, filename: Filename, words: Words) -> IdempotencyKey:
    """Return the name under which an upload happens once: the same for the same file and words, on any machine."""
    parts = [sha256, filename, words.title, words.description, words.tags]
    return IdempotencyKey("cli-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest())


# ---- one file


class Cancelled(Exception):
    """The run is over; the file in hand is left as it is."""


class Uploader:
    """Uploads one file after another; threads share it.

    Args:
        client: to the server.
        words: that go with every file.
        check: raises Cancelled when it is time to stop.
        moved: told how far each file has got, in bytes.
    """

    def __init__(
        self, client: Client, words: Words, *, check: Callable[[], object], moved: Callable[[Path, int], object]
    ) -> None:
        """Upload nothing yet."""
        self._client = client
        self._words = words
        self._check = check
        self._moved = moved
        # Two files of a run that are one image take turns, so that the second finds the first one's result; at the
        # same time it would be sent away until the first one's lease is over.
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        # The size of the smallest file that the quota had no room for: what is as large is not even sent.
        self._no_room_bytes: float = math.inf

    def __call__(self, path: Path) -> Result:
        """Upload the file; a failure is its result. Raise Cancelled when it was stopped."""
        try:
            return self._upload(path)
        except Refused as refusal:
            return _refused(path, refusal)
        except RequestFailed as failure:
            hopeless = isinstance(failure, Unreachable)
            return Result(file=path, outcome=Outcome.FAILED, faults=failure.lines, hopeless=hopeless)
        except OSError as error:
            return Result(file=path, outcome=Outcome.FAILED, faults=(error.strerror or str(error),))
        except FileChanged as error:
            return Result(file=path, outcome=Outcome.FAILED, faults=(str(error),))

    def _upload(self, path: Path) -> Result:
        def on_read(position: int) -> None:
            self._check()
            self._moved(path, position)

        with SteadyFile(path, on_read) as file:
            filename = Filename(path.name)
            if file.size_bytes >= self._no_room_bytes:
                no_room = "not sent: the quota had no room for a file that is no larger"
                return Result(file=path, outcome=Outcome.FAILED, faults=(no_room,))
            key = idempotency_key(file.sha256, filename, self._words)
            with self._turns[key]:
                try:
                    image, replayed = self._client.upload(filename, cast("BinaryIO", file), self._words, key=key)
                except Refused as refusal:
                    if refusal.problem.code == QUOTA_CODE:
                        self._no_room_bytes = min(self._no_room_bytes, file.size_bytes)
                    raise
            if image["sha256"] != file.sha256:
                return Result(file=path, outcome=Outcome.FAILED, faults=("the server stored other bytes than it got",))
        return Result(file=path, outcome=Outcome.ALREADY_THERE if replayed else Outcome.UPLOADED, image=image)


def _refused(path: Path, refusal: Refused) -> Result:
    in_trash = refusal.problem.code == IN_TRASH_CODE
    # With room left, a smaller file may fit.
    smaller_may_fit = refusal.problem.code == QUOTA_CODE and bool(refusal.problem.errors)
    faults = (
        ("it was uploaded before, and then deleted: restore it, or upload it with another title",)
        if in_trash
        else refusal.lines
    )
    return Result(
        file=path,
        outcome=Outcome.IN_TRASH if in_trash else Outcome.FAILED,
        faults=faults,
        problem=refusal.problem.as_json(),
        hopeless=refusal.problem.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and not smaller_may_fit,
    )


# ---- many files at a time


class Crew:
    """Threads that work through files, and can be stopped soon.

    They are daemons because Ctrl-C must not wait for one that waits for the network, and they print nothing: results
    are handed to the one thread that asks for them.
    """

    def __init__(
        self, files: Sequence[Path], work: Callable[[Path], Result], *, jobs: int, stop: threading.Event
    ) -> None:
        """Start to work."""
        self._work = work
        self._stop = stop
        self._files: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for file in files:
            self._files.put(file)
        self._done: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._at_work = min(jobs, len(files))
        for number in range(self._at_work):
            threading.Thread(target=self._run, name=f"upload-{number}", daemon=True).start()

    def results(self, *, within_s: float | None = None) -> Iterator[Result]:
        """Walk the results as they come, until all have ended or the time is over."""
        deadline = None if within_s is None else time.monotonic() + within_s
        while self._at_work:
            try:
                result = self._done.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if result is None:
                self._at_work -= 1
            else:
                yield result

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._done.put(self._work(self._files.get_nowait()))
        except (queue.Empty, Cancelled):
            pass
        finally:
            self._done.put(None)


# ---- what the user sees


class Display(AbstractContextManager["Display"]):
    """Lines on stdout and stderr, and under them a progress bar when ``sizes`` are given (bytes by file)."""

    def __init__(self, sizes: Mapping[Path, int] | None = None) -> None:
        """Show nothing yet."""
        self._sizes = sizes
        self._positions: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        """Start the bar."""
        if self._sizes is not None:
            self._progress = _progress_bar()
            self._task = self._progress.add_task("", total=sum(self._sizes.values()), files=0, of=len(self._sizes))
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the bar away: the summary says what it said."""
        if self._progress is not None:
            self._progress.stop()

    def moved(self, file: Path, position: int) -> None:
        """Note how far a file has got; back to 0 when it is sent anew. May be called by any thread."""
        if self._progress is None:
            return
        with self._lock:
            advance = position - self._positions.get(file, 0)
            self._positions[file] = position
        self._progress.update(self._task, advance=advance)

    def finished(self, file: Path, done: int) -> None:
        """Note that a file has ended, the ``done``-th."""
        if self._progress is not None and self._sizes is not None:
            self.moved(file, self._sizes.get(file, 0))
            self._progress.update(self._task, files=done)

    def line(self, text: str, *, err: bool = False) -> None:
        """Print a line above the bar."""
        print_line(text, above=self._progress, err=err)


def _progress_bar() -> "Progress":
    from rich import progress  # noqa: PLC0415 (slow to import, and wanted on a terminal only)

    return progress_bar(
        progress.BarColumn(bar_width=None),
        progress.TextColumn("{task.fields[files]} of {task.fields[of]}"),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )


class Report:
    """Tells each result as it comes, and sums up."""

    def __init__(self, display: Display, *, as_json: bool, quiet: bool) -> None:
        """Tell nothing yet."""
        self._display = display
        self._as_json = as_json
        self._quiet = quiet
        self._started_at = time.monotonic()
        self._bytes = 0
        self.counts: Counter[Outcome] = Counter()

    def tell(self, result: Result) -> None:
        """Tell one result: what there is now on stdout, what went wrong on stderr; all on stdout as JSON."""
        self.counts[result.outcome] += 1
        if result.outcome is Outcome.UPLOADED and result.image is not None:
            self._bytes += result.image["size_bytes"]
        self._display.finished(result.file, self.counts.total())
        if self._as_json:
            self._display.line(json.dumps(result.as_json()))
        elif result.outcome in _GOOD and result.image is not None:
            if not self._quiet:
                fields = (result.outcome.words, result.image["image_id"], str(result.file))
                self._display.line("\t".join(map(shown, fields)))
        else:
            for fault in result.faults:
                self._display.line(shown(f"{result.outcome.words}: {result.file}: {fault}"), err=True)

    @property
    def all_good(self) -> bool:
        """Whether every result told was good."""
        return set(self.counts) <= _GOOD

    def summary(self, untold: int) -> str:
        """Return the last line; ``untold`` files have no result."""
        parts = [f"{self.counts[outcome]} {outcome.words}" for outcome in Outcome if self.counts[outcome]]
        if untold:
            parts.append(f"{untold} not finished")
        took_s = time.monotonic() - self._started_at
        sent = f" ({human_size(self._bytes)} in {took_s:.1f} s)" if self._bytes else ""
        return (", ".join(parts) or "nothing to upload") + sent


# ---- the command

_EPILOG = """\
\b
Repeating a run is safe: what was uploaded before, with the same name, title,
description and tags, is found and shown as "already there". What was
uploaded and then deleted is shown as "in the trash", and not uploaded again.

\b
Output: a line a file on stdout, with tabs between outcome, image id and file;
failures and a summary on stderr. With --json, one JSON object a line:
  {"file": ..., "outcome": "uploaded" or "already_there", "image": {...}}
  {"file": ..., "outcome": "failed" or "in_trash", "error": {"message": ...}}
A file without a line was not finished when the run was stopped: by Ctrl-C,
or because no other file could fare better, as when the quota is full.

\b
Examples:
  calotype upload cat.jpg
  calotype upload --tag rome,2024 --tag holiday Pictures/Rome
  calotype upload --title "The cat" --description "Asleep" cat.jpg
  calotype upload -j 8 --json Pictures | jq -r .image.image_id

Exit code: 0 if every file is there now, 1 if not, 2 on wrong usage, 130 when interrupted.
"""


@click.command(epilog=_EPILOG)
@click.argument("paths", metavar="FILES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--title", callback=parsed_by(Title), help="The title of every image. Default: the file's name without its ending."
)
@click.option("--description", callback=parsed_by(Description), help="The description of every image.")
@tags_option("A tag for every image; repeat it, or put commas between several.")
@click.option(
    "--jobs", "-j", type=click.IntRange(1, _JOBS_MAX), default=4, show_default=True, help="How many files at a time."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each file.")
@click.option("--quiet", "-q", is_flag=True, help="Say only what went wrong.")
@client_command
def upload(
    access: Access,
    *,
    paths: tuple[Path, ...],
    title: Title | None,
    description: Description | None,
    tags: tuple[Tag, ...],
    jobs: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Upload images and folders of images.

    Of folders the image files are taken, at any depth, known by their extension; hidden ones are passed over. A file
    that is named is uploaded whatever it is called: the server looks at the bytes.
    """
    words = Words(title=title, description=description or "", tags=tags)
    faults: list[Result] = []
    files = find_images(paths, on_error=lambda error: faults.append(_unreadable_folder(error)))
    bar_wanted = not as_json and not quiet and sys.stderr.isatty()
    with Display(_sizes(files) if bar_wanted else None) as display:
        report = Report(display, as_json=as_json, quiet=quiet)
        for fault in faults:
            report.tell(fault)
        interrupted = _run(access, files, words, jobs=jobs, display=display, report=report)
    untold = len(files) + len(faults) - report.counts.total()
    if not quiet:
        click.echo(report.summary(untold), err=True)
    if interrupted:
        click.get_current_context().exit(EXIT_INTERRUPTED)
    if untold or not report.all_good:
        click.get_current_context().exit(1)


def _run(access: Access, files: Sequence[Path], words: Words, *, jobs: int, display: Display, report: Report) -> bool:
    """Upload the files and tell the results; return whether it was interrupted."""
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Cancelled

    def pause(seconds: float) -> None:
        stop.wait(seconds)
        check()

    with ExitStack() as stack:
        client = stack.enter_context(access.client(pause=pause))
        crew = Crew(files, Uploader(client, words, check=check, moved=display.moved), jobs=jobs, stop=stop)
        try:
            for result in crew.results():
                report.tell(result)
                if result.hopeless:
                    stop.set()
        except KeyboardInterrupt:
            stop.set()
            for result in crew.results(within_s=_GRACE_S):
                report.tell(result)
            return True
    return False


def _unreadable_folder(error: OSError) -> Result:
    return Result(
        file=Path(os.fsdecode(error.filename)), outcome=Outcome.FAILED, faults=(error.strerror or str(error),)
    )


def _sizes(files: Sequence[Path]) -> dict[Path, int]:
    def size_of(file: Path) -> int:
        try:
            return file.stat().st_size
        except OSError:
            return 0

    return {file: size_of(file) for file in files}
