"""Owners' usage: a row each, kept in the transactions that reserve and forget. What is right, the other tables say."""

import sqlite3

from domain.quota import Usage
from domain.values import UserId

_READ = "SELECT images, size_bytes FROM usage WHERE owner = ?"
_ADD = """
    INSERT INTO usage (owner, images, size_bytes) VALUES (?, ?, ?)
    ON CONFLICT (owner) DO UPDATE
    SET images = images + excluded.images, size_bytes = size_bytes + excluded.size_bytes"""
# An entry without a size counts against nobody.
_STORED = (
    "SELECT owner, size_bytes FROM images UNION ALL SELECT owner, size_bytes FROM reclaim WHERE size_bytes IS NOT NULL"
)
# ruff: noqa: S608 (statements are put together of constants)
_COUNT = f"SELECT count(*), coalesce(sum(size_bytes), 0) FROM ({_STORED}) WHERE owner = ?"
_RECOUNT_ALL = f"INSERT INTO usage SELECT owner, count(*), sum(size_bytes) FROM ({_STORED}) GROUP BY owner"
MISCOUNTS = f"""
    SELECT owner, sum(images), sum(bytes), sum(actual_images), sum(actual_bytes) FROM (
        SELECT owner, images, size_bytes AS bytes, 0 AS actual_images, 0 AS actual_bytes FROM usage
        UNION ALL SELECT owner, 0, 0, count(*), sum(size_bytes) FROM ({_STORED}) GROUP BY owner)
    GROUP BY owner HAVING (sum(images), sum(bytes)) <> (sum(actual_images), sum(actual_bytes)) ORDER BY owner"""
"""Rows of an owner, what is recorded, and what is stored: where these differ."""


def read_usage(db: sqlite3.Connection, owner: UserId) -> Usage:
    """Return what is recorded."""
    return _usage(db.execute(_READ, (owner,)).fetchone() or (0, 0))


def add_usage(db: sqlite3.Connection, owner: UserId, more: Usage) -> None:
    """Add to what is recorded; less than nothing is taken away."""
    if more != Usage():
        db.execute(_ADD, (owner, more.images, more.size_bytes))


def count_usage(db: sqlite3.Connection, owner: UserId) -> Usage:
    """Return what the owner has stored."""
    return _usage(db.execute(_COUNT, (owner,)).fetchone())


def recount_all(db: sqlite3.Connection) -> None:
    """Record anew what all owners have stored."""
    db.execute("DELETE FROM usage")
    db.execute(_RECOUNT_ALL)


def _usage(row: tuple[int, int]) -> Usage:
    images, size_bytes = row
    return Usage(images=images, size_bytes=size_bytes)
