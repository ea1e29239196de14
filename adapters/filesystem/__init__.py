"""Objects as files below one data directory: durable, create-only, with signed URLs of its own."""

from adapters.filesystem.audit import FilesystemObjectAudit
from adapters.filesystem.disk import DeferredSync, Disk
from adapters.filesystem.objects import FilesystemObjects
from adapters.filesystem.secret import load_secret

__all__ = ["DeferredSync", "Disk", "FilesystemObjectAudit", "FilesystemObjects", "load_secret"]
