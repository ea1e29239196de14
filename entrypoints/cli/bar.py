"""Progress bars on stderr, for people who watch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


def progress_bar(*columns: "ProgressColumn | str") -> "Progress":
    """Return a bar of these columns, which is gone at its end."""
    from rich.console import Console  # noqa: PLC0415 (slow to import, and wanted on a terminal only)
    from rich.progress import Progress  # noqa: PLC0415 (the same)

    # Not redirected: results would follow the bar to stderr.
    return Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )


def print_line(text: str, *, above: "Progress | None", err: bool = False) -> None:
    """Print a line on stdout or stderr, above the bar if there is one."""
    stream = sys.stderr if err else sys.stdout
    if above is not None and stream.isatty():
        above.console.out(text, highlight=False)
    else:
        click.echo(text, err=err)


@contextmanager
def byte_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Give what is to be told how many of how many bytes are done. It shows that on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich import progress  # noqa: PLC0415 (as above)

    with progress_bar(
        progress.TextColumn(label),
        progress.BarColumn(bar_width=None),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
