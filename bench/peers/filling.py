"""A peer's SQLite file while it is filled and nobody else uses it: nothing is waited for before the end."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def filling(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to the file, in one transaction."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -1000000")
        with db:
            yield db
        db.execute("ANALYZE")
        db.execute("PRAGMA journal_mode = WAL")
    os.sync()
