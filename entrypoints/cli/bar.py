"""A progress bar in bytes, for people who watch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def byte_bar(label: str, *, wanted: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Give what is to be told how many of how many bytes are done. It shows that on stderr, if that is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich import progress  # noqa: PLC0415 (slow to import, and wanted on a terminal only)
    from rich.console import Console  # noqa: PLC0415 (the same)

    with progress.Progress(
        progress.TextColumn(label),
        progress.BarColumn(bar_width=None),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
