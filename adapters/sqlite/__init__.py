"""Records, postings and reclaim entries in one SQLite file, which several threads and processes may share."""

from adapters.sqlite.audit import SqliteRecordAudit
from adapters.sqlite.copies import CatalogCopy, Holdings
from adapters.sqlite.metadata import SqliteMetadata
from adapters.sqlite.replays import SqliteReplays

__all__ = ["CatalogCopy", "Holdings", "SqliteMetadata", "SqliteRecordAudit", "SqliteReplays"]
