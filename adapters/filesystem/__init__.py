"""Objects as files below one data directory: durable, create-only, with signed URLs of its own."""

from adapters.filesystem.objects import FilesystemObjects
from adapters.filesystem.secret import load_secret

__all__ = ["FilesystemObjects", "load_secret"]
