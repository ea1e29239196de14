"""The command line: the server's side (serve, sweep, config) and the client's (upload, list, get, rm)."""

from entrypoints.cli.app import main

__all__ = ["main"]
