"""Snapshots of the embedded default: one archive of its catalog and its objects, and the way back."""

from entrypoints.backup.archive import BadArchive
from entrypoints.backup.restoring import NotEmpty, restore
from entrypoints.backup.snapshots import Summary, snapshot

__all__ = ["BadArchive", "NotEmpty", "Summary", "restore", "snapshot"]
