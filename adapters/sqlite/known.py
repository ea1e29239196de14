"""The records of pages that were read lately, so that a page costs its keys and not its records.

SQLite tells a record of 15 columns in JSON, and msgspec makes objects of it, in 5 us; a stamp takes 1 us.
"""

import threading
from collections.abc import Iterable

from adapters.sqlite.rows import to_micros
from domain.image import Image
from domain.values import ImageId

_IMAGES_KEPT = 2_048
_ID_CHARS = 32
# What a record says never changes at one version. An id that comes back, with its idempotency key, comes at another
# time: a deletion, a sweep and an upload lie between. Where the clock stands still, `forget` sees to it. The id is
# one owner's, as the table has it only once.
_STAMP = "hex(image_id) || '.' || created_at || '.' || updated_at || '.' || version"


def as_stamps(select: str) -> str:
    """Return a statement that gives the stamps of the rows of another, in its order, in one row; see KnownImages."""
    return f"SELECT group_concat({_STAMP}) FROM ({select})"  # noqa: S608 (put together of constants)


class KnownImages:
    """Some records by their stamps, the oldest forgotten first. Safe to share between threads.

    A record takes some 1.5 KB, and 30 KB when all its texts are as long as may be and of four bytes a character.
    """

    def __init__(self) -> None:
        self._images: dict[str, tuple[str, Image]] = {}
        self._adding = threading.Lock()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._images)

    def find(self, stamps: str | None) -> tuple[Image, ...] | None:
        """Return the records of a row of stamps; None if they are not all known."""
        if stamps is None:
            return ()
        images = []
        for stamp in stamps.split(","):
            known = self._images.get(stamp[:_ID_CHARS])
            if known is None or known[0] != stamp:
                return None
            images.append(known[1])
        return tuple(images)

    def add(self, images: Iterable[Image]) -> None:
        """Keep records that were read."""
        with self._adding:
            for image in images:
                self._images.pop(_id_text(image.image_id), None)  # to the end of the queue
                self._images[_id_text(image.image_id)] = (_stamp(image), image)
            while len(self._images) > _IMAGES_KEPT:
                del self._images[next(iter(self._images))]

    def forget(self, image_id: ImageId) -> None:
        """Keep nothing of an image: one that comes now may be another of that id."""
        with self._adding:
            self._images.pop(_id_text(image_id), None)


def _stamp(image: Image) -> str:
    created_at, updated_at = to_micros(image.created_at), to_micros(image.updated_at)
    return f"{_id_text(image.image_id)}.{created_at}.{updated_at}.{image.version}"


def _id_text(image_id: ImageId) -> str:
    return image_id.hex.upper()
