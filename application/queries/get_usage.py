"""Get what an owner has stored, as it counts against their quota."""

from dataclasses import dataclass

from application.bus import Query
from application.ports import MetadataReader
from domain.quota import Usage
from domain.values import UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class GetUsage(Query[Usage]):
    """How many images and bytes does this owner have, with the trash and with uploads under way?"""

    owner: UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class GetUsageHandler:
    """Reads what is recorded."""

    records: MetadataReader

    def __call__(self, query: GetUsage) -> Usage:
        """Return zeros for an owner who has nothing."""
        return self.records.usage(query.owner)
