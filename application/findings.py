"""What an audit can find, and when an object is a stray: shared by the audit and by repairs, which look again."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from application.ports import FoundObject, Miscount, Posting, RecordAudit
from domain.image import Image


class Damage(StrEnum):
    """What can be wrong with a record's object."""

    MISSING = "missing_object"
    WRONG_SIZE = "wrong_size"
    WRONG_CHECKSUM = "wrong_checksum"
    UNREADABLE = "unreadable_object"


@dataclass(frozen=True, kw_only=True, slots=True)
class DamagedObject:
    """A record whose object is not what was stored. Nothing here can bring the bytes back: it is only ever told."""

    image: Image
    damage: Damage
    found: str = ""
    """The size or SHA-256 found instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StrayObject:
    """Something in the object store that no record names and no reclaim entry answers for."""

    found: FoundObject


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongPosting:
    """A posting that its record doesn't call for (``dangling``), or one that is called for and lacking."""

    posting: Posting
    dangling: bool
    since: datetime
    """When the image was last touched, as far as can be told: no younger than the fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongUsage:
    """An owner whose recorded usage is not what they have stored."""

    miscount: Miscount


Finding = DamagedObject | StrayObject | WrongPosting | WrongUsage


def is_unclaimed(records: RecordAudit, found: FoundObject) -> bool:
    """Tell whether neither a record names the object nor a reclaim entry answers for it."""
    if found.image_id is None:
        return True
    record, has_entry = records.standing(found.image_id)
    if has_entry:
        return False
    return record is None or record.key != found.key
