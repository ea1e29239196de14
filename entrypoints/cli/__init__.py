"""The command line: the client's side (upload, list, get, rm) and the server's (serve, sweep, snapshot and others)."""

from entrypoints.cli.app import main

__all__ = ["main"]
