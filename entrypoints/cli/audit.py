"""``calotype audit``: walk both stores, tell what is wrong, and repair what can be."""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from application.bus import Bus
from application.commands.purge_quarantine import PurgeQuarantine
from application.commands.repair import Repair, Repaired
from application.findings import DamagedObject, Finding, StrayObject, WrongPosting, WrongUsage
from application.ports import Estimate
from application.queries.audit import Audit, Checkpoint, Examined, Phase
from domain.errors import CalotypeError
from domain.quota import Usage
from entrypoints.audit import open_audit
from entrypoints.cli.app import EXIT_INTERRUPTED
from entrypoints.cli.bar import print_line, progress_bar
from entrypoints.cli.text import shown
from entrypoints.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from rich.progress import Progress

_SAVE_EVERY_S = 1.0


# ---- how far a run has come, in a file


@dataclass(slots=True)
class State:
    """What a later run has to know of this one: whose audit it was, how far it came, and what it counted."""

    store: str
    deep: bool
    phase: str = ""
    position: str = ""
    examined: int = 0
    findings: int = 0
    settled: int = 0

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where to go on."""
        return Checkpoint(phase=Phase(self.phase), position=self.position) if self.phase else None

    def passed(self, step: Examined) -> None:
        """Note that a step is done, its findings told and repaired."""
        self.phase, self.position = step.checkpoint.phase.value, step.checkpoint.position
        self.examined += 1


class StateFile:
    """Keeps the state, written anew as a whole, so that a crash leaves the old one or the new one."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self.path = path
        self._saved_at = 0.0

    def load(self, fresh: State) -> State:
        """Return the state in the file, if it is of an audit like the fresh one; raise UsageError otherwise."""
        try:
            state = State(**json.loads(self.path.read_text()))
            _ = state.checkpoint
        except FileNotFoundError as error:
            raise click.UsageError(f"There is nothing to resume: {self.path} isn't there.") from error
        except (OSError, ValueError, TypeError) as error:
            raise click.UsageError(f"{self.path} can't be used to resume an audit: {error}") from error
        if (state.store, state.deep) != (fresh.store, fresh.deep):
            kind = "a deep" if state.deep else "a plain"
            raise click.UsageError(f"{self.path} is of another audit: {kind} one of {state.store}.")
        return state

    def save(self, state: State, *, now: bool = False) -> None:
        """Write the state, if the last time was a while ago."""
        if not now and time.monotonic() - self._saved_at < _SAVE_EVERY_S:
            return
        temporary = self.path.with_name(f"{self.path.name}.new")
        try:
            temporary.write_text(json.dumps(asdict(state)))
            temporary.replace(self.path)
        except OSError as error:
            raise click.ClickException(f"the state can't be kept in {self.path}: {error.strerror}") from error
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Remove the file: there is nothing left to resume."""
        with suppress(OSError):
            self.path.unlink()


# ---- findings as lines


def as_document(finding: Finding) -> dict[str, Any]:
    """Return what --json prints of a finding, without its outcome."""
    match finding:
        case DamagedObject(image=image):
            document = {"finding": finding.damage.value, "image_id": str(image.image_id), "owner": image.owner}
            expected = {"size_bytes": image.size_bytes, "sha256": image.sha256}
            return {**document, "key": image.key, "expected": expected, "found": finding.found or None}
        case StrayObject(found=found):
            return {
                "finding": "stray_object",
                "image_id": None if found.image_id is None else str(found.image_id),
                "place": found.place,
                "size_bytes": found.size_bytes,
                "modified_at": found.modified_at.isoformat(),
            }
        case WrongPosting(posting=posting):
            return {
                "finding": "posting_without_record" if finding.dangling else "record_without_posting",
                "image_id": str(posting.image_id),
                "owner": posting.owner,
                "tag": posting.tag,
                "created_at": posting.created_at.isoformat(),
            }
        case WrongUsage(miscount=miscount):
            return {
                "finding": "wrong_usage",
                "owner": miscount.owner,
                "expected": asdict(miscount.actual),
                "found": asdict(miscount.recorded),
            }


def as_line(finding: Finding) -> str:
    """Return a finding as text: its kind, what it is about, and details, with tabs between."""
    match finding:
        case DamagedObject(image=image, damage=damage):
            details = f"of {image.owner}, {image.size_bytes} bytes, sha256 {image.sha256}"
            return _line(damage.value, image.key, f"{details}; found {finding.found}" if finding.found else details)
        case StrayObject(found=found):
            details = f"{found.size_bytes} bytes, {found.modified_at:%Y-%m-%d %H:%M:%S}"
            return _line("stray_object", found.place, details)
        case WrongPosting(posting=posting, dangling=dangling):
            kind = "posting_without_record" if dangling else "record_without_posting"
            return _line(kind, str(posting.image_id), f"of {posting.owner}, tag {posting.tag}")
        case WrongUsage(miscount=miscount):
            return _line("wrong_usage", miscount.owner, f"{_used(miscount.actual)}; found {_used(miscount.recorded)}")


def _used(usage: Usage) -> str:
    return f"{usage.images} images, {usage.size_bytes} bytes"


def _line(*parts: str) -> str:
    return "\t".join(map(shown, parts))


_OUTCOMES = {
    Repaired.REPAIRED: "repaired",
    Repaired.GONE: "not so any more",
    Repaired.TOO_YOUNG: "left: younger than a day",
    Repaired.BEYOND_REPAIR: "left: only a backup has the bytes",
}
_SETTLED = {Repaired.REPAIRED, Repaired.GONE}


# ---- the bar


class Bar(AbstractContextManager["Bar"]):
    """A progress bar on stderr, if that is a terminal; nothing otherwise."""

    def __init__(self, estimate: Estimate, *, wanted: bool) -> None:
        """Show nothing yet."""
        # Objects are about as many as records; what is in the trash has no record.
        self._totals = {
            Phase.RECORDS: estimate.records,
            Phase.OBJECTS: estimate.records,
            Phase.POSTINGS: estimate.postings,
            Phase.USAGE: 0,  # only what is wrong is told
        }
        self._phase: Phase | None = None
        self._progress: Progress | None = _progress_bar() if wanted else None

    def __enter__(self) -> Self:
        """Start the bar."""
        if self._progress is not None:
            self._task = self._progress.add_task("", total=None)
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the bar away: the summary says what it said."""
        if self._progress is not None:
            self._progress.stop()

    def passed(self, phase: Phase) -> None:
        """Note that one more item of this phase was examined."""
        if self._progress is None:
            return
        if phase is not self._phase:
            self._phase = phase
            self._progress.reset(self._task, description=phase.value, total=self._totals[phase])
        self._progress.advance(self._task)

    def line(self, text: str) -> None:
        """Print a line on stdout, above the bar."""
        print_line(text, above=self._progress)


def _progress_bar() -> "Progress":
    from rich import progress  # noqa: PLC0415 (slow to import, and wanted on a terminal only)

    return progress_bar(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=None),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )


# ---- the command

_EPILOG = """\
\b
Findings, one a line on stdout, with tabs between kind, subject and details:
  missing_object, wrong_size, unreadable_object   a record without its bytes
  wrong_checksum                                  the same, found with --deep
  stray_object             bytes that no record and no upload answer for
  record_without_posting   an image that a search by tag would miss
  posting_without_record   an entry of the tag index that leads nowhere
  wrong_usage              an owner who is counted more, or less, than is stored

\b
With --repair, postings and usage are put right, and strays moved to the
quarantine, from where they can be put back until --purge-quarantine deletes
them. Each finding is looked at again first, and no object and no posting
younger than a day is touched. Lost or damaged bytes can't be repaired; their
records are kept.

\b
Examples:
  calotype audit
  calotype audit --deep --json > findings.jsonl
  calotype audit --resume               after Ctrl-C or a crash
  calotype audit --repair
  calotype audit --purge-quarantine 30  delete what lies there for 30 days

Exit code: 0 if nothing is wrong (any more), 1 if something is left, 2 on wrong usage, 130 when interrupted.
"""


@click.command(epilog=_EPILOG)
@click.option("--deep", is_flag=True, help="Read every original, and compare its SHA-256.")
@click.option("--repair", is_flag=True, help="Put right what can be.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each finding.")
@click.option("--resume", is_flag=True, help="Go on where the last run was stopped.")
@click.option(
    "--state",
    "state_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to keep how far the run has come.  [default: audit.state in the data folder; ./audit.state on AWS]",
)
@click.option(
    "--purge-quarantine",
    "purge_days",
    metavar="DAYS",
    type=click.IntRange(min=1),
    help="Instead of an audit: delete for good what was quarantined more than DAYS days ago.",
)
@click.option("--data-dir", help="Folder of the embedded default.  [CALOTYPE_DATA_DIR, default calotype-data]")
def audit(
    *,
    deep: bool,
    repair: bool,
    as_json: bool,
    resume: bool,
    state_path: Path | None,
    purge_days: int | None,
    data_dir: str | None,
) -> None:
    """Compare what is recorded with what is stored, in both directions.

    It is safe to do at any time, also while the service runs.
    """
    if purge_days is not None and (deep or repair or resume):
        raise click.UsageError("--purge-quarantine goes alone.")
    try:
        settings = load_settings(data_dir=data_dir)
        with open_audit(settings) as (bus, records):
            if purge_days is not None:
                removed = bus.execute(PurgeQuarantine(older_than=timedelta(days=purge_days)))
                click.echo(json.dumps({"purged": removed}) if as_json else f"{removed} objects deleted for good")
                return
            fresh = State(store=_store_of(settings), deep=deep)
            file = StateFile(state_path or _default_state(settings))
            state = file.load(fresh) if resume else fresh
            run = Run(bus, state, file, data_dir=data_dir, repair=repair, as_json=as_json)
            with run.resumable(), Bar(records.estimate(), wanted=sys.stderr.isatty()) as bar:
                run.work(bar)
    except (SettingsError, CalotypeError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(run.summary(), err=True)
    if state.findings > state.settled:
        click.get_current_context().exit(1)


class Run:
    """One audit, from its start or from where another was stopped."""

    def __init__(
        self, bus: Bus, state: State, file: StateFile, *, data_dir: str | None, repair: bool, as_json: bool
    ) -> None:
        """Do nothing yet."""
        self._bus = bus
        self._state = state
        self._file = file
        self._data_dir = data_dir
        self._repair = repair
        self._as_json = as_json

    def work(self, bar: Bar) -> None:
        """Walk to the end, and tell each finding as it comes."""
        state = self._state
        for step in self._bus.ask(Audit(deep=state.deep, after=state.checkpoint)):
            for finding in step.findings:
                self._settle(finding, bar)
            # After its findings, so that a crash in between tells them twice rather than never.
            state.passed(step)
            self._file.save(state)
            bar.passed(step.checkpoint.phase)
        self._file.remove()

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Keep the state when the block is stopped, by whatever it is, and say how to go on."""
        try:
            yield
        except BaseException as error:
            self._file.save(self._state, now=True)
            click.echo(f"Stopped after {self.summary()}.", err=True)
            click.echo(f"To go on: {self._resuming()}", err=True)
            if isinstance(error, KeyboardInterrupt):
                click.get_current_context().exit(EXIT_INTERRUPTED)
            raise

    def summary(self) -> str:
        """Return the numbers of this run and those it resumed, as a line."""
        state = self._state
        left = state.findings - state.settled
        return f"{state.examined} examined, {state.findings} found, {state.settled} settled, {left} left"

    def _settle(self, finding: Finding, bar: Bar) -> None:
        outcome = self._bus.execute(Repair(finding=finding)) if self._repair else None
        self._state.findings += 1
        self._state.settled += outcome in _SETTLED
        if self._as_json:
            document = as_document(finding)
            bar.line(json.dumps(document if outcome is None else {**document, "outcome": outcome.value}))
        else:
            line = as_line(finding)
            bar.line(line if outcome is None else f"{line}\t{_OUTCOMES[outcome]}")

    def _resuming(self) -> str:
        flags = {"--deep": self._state.deep, "--repair": self._repair, "--json": self._as_json}
        given = [flag for flag, is_given in flags.items() if is_given]
        if self._data_dir is not None:
            given += ["--data-dir", self._data_dir]
        return shlex.join(["calotype", "audit", "--resume", *given, "--state", str(self._file.path)])


def _store_of(settings: Settings) -> str:
    if settings.storage == "embedded":
        return os.fspath(settings.data_path)
    return f"s3://{settings.bucket} and tables {settings.table_prefix}*"


def _default_state(settings: Settings) -> Path:
    return settings.data_path / "audit.state" if settings.storage == "embedded" else Path("audit.state")
