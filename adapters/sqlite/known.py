"""The records of pages that were read lately, so that a page costs its keys and not its records.

SQLite tells a record of 15 columns in JSON, and msgspec makes objects of it, in 5 us; a stamp takes 1 us.
"""

import threading
from collections.abc import Iterable

from adapters.sqlite.rows import to_micros
from domain.image import Image

_IMAGES_KEPT = 2_048
# What a record says never changes at one version, and an id that comes back, with its idempotency key, comes at
# another time. The id is one owner's, as the table has it only once.
_STAMP = "hex(image_id) || '.' || created_at || '.' || updated_at || '.' || version"


def as_stamps(select: str) -> str:
    """Return a statement that gives the stamps of the rows of another, in its order, in one row; see KnownImages."""
    return f"SELECT group_concat({_STAMP}) FROM ({select})"  # noqa: S608 (put together of constants)


class KnownImages:
    """Some records by their stamps, the oldest forgotten first. Safe to share between threads.

    A record takes some 1.5 KB, and 30 KB when all its texts are as long as may be and of four bytes a character.
    """

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        self._adding = threading.Lock()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._images)

    def find(self, stamps: str | None) -> tuple[Image, ...] | None:
        """Return the records of a row of stamps; None if they are not all known."""
        if stamps is None:
            return ()
        try:
            return tuple([self._images[stamp] for stamp in stamps.split(",")])
        except KeyError:
            return None

    def add(self, images: Iterable[Image]) -> None:
        """Keep records that were read."""
        with self._adding:
            self._images.update((_stamp(image), image) for image in images)
            while len(self._images) > _IMAGES_KEPT:
                del self._images[next(iter(self._images))]


def _stamp(image: Image) -> str:
    created_at, updated_at = to_micros(image.created_at), to_micros(image.updated_at)
    return f"{image.image_id.hex.upper()}.{created_at}.{updated_at}.{image.version}"
