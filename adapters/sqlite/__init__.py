"""Records, postings and reclaim entries in one SQLite file, which several threads and processes may share."""

from adapters.sqlite.metadata import SqliteMetadata

__all__ = ["SqliteMetadata"]
