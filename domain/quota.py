"""Quotas: how much an owner may have stored at a time, and how much that is.

Everything counts that takes room: images, images in the trash, uploads under way. An amount is taken when an upload is
reserved and given back when its reclaim entry is forgotten; what happens in between only moves it.
"""

from dataclasses import dataclass

from domain.errors import QuotaExceeded


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """How many images, and how many bytes their originals have together."""

    images: int = 0
    size_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Return both together."""
        return Usage(images=self.images + other.images, size_bytes=self.size_bytes + other.size_bytes)

    def __sub__(self, other: "Usage") -> "Usage":
        """Return what is left without the other."""
        return Usage(images=self.images - other.images, size_bytes=self.size_bytes - other.size_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """The most that an owner may have stored; None for as much as they like."""

    images: int | None = None
    size_bytes: int | None = None

    def admit(self, more: Usage, *, used: Usage) -> None:
        """Raise QuotaExceeded unless ``more`` fits on top of what is used. What adds nothing always fits."""
        if self.images is not None and more.images > 0 and used.images + more.images > self.images:
            raise QuotaExceeded("images", self.images, used.images)
        if self.size_bytes is not None and more.size_bytes > 0 and used.size_bytes + more.size_bytes > self.size_bytes:
            raise QuotaExceeded("bytes", self.size_bytes, used.size_bytes)


UNLIMITED = Quota()
