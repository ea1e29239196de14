"""Where the files of an image are. Pure: names only, nothing here touches the disk.

    objects/3/f/images/{image_id}/{filename}      an object
    objects/3/f/partial/{image_id}.{random}       a put that has not published yet, or never will

Both are in the same slot, so on one file system (a link can't cross two), and both are found from the image id
alone: that is how one reclaim entry answers for every byte of an upload. Slots are made when first needed and stay
for ever, so that none can vanish under a put. There are 256: with more, most uploads to a young library would make
four folders of a new slot and wait for them, and a million images are no more than 4,000 names in a folder.
"""

import hashlib
import re
import secrets
from typing import NamedTuple, Self

from domain.image import OBJECT_ROOT
from domain.limits import FILENAME_MAX_BYTES

IMAGES = OBJECT_ROOT.rstrip("/").encode()
PARTIAL = b"partial"

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FOLDER_KEY = re.compile(rf"{re.escape(OBJECT_ROOT)}({_UUID})/")

HASH_NAME = re.compile(rb"[0-9a-f]")
IMAGE_NAME = re.compile(_UUID.encode())


class ImagePlace(NamedTuple):
    """Where one image's files are. Paths are bytes, names in UTF-8: no process's locale may change them."""

    outer: bytes
    slot: bytes
    image_id: bytes

    @classmethod
    def of(cls, root: bytes, image_id: str) -> Self:
        """Return the place below the root; the levels are the first digits of the SHA-256 of ``images/{image_id}``."""
        digest = hashlib.sha256(f"{OBJECT_ROOT}{image_id}".encode()).hexdigest().encode()
        outer = b"%b/%b" % (root, digest[:1])
        return cls(outer, b"%b/%b" % (outer, digest[1:2]), image_id.encode())

    @property
    def images(self) -> bytes:
        """The folder of the slot's image folders."""
        return b"%b/%b" % (self.slot, IMAGES)

    @property
    def partials(self) -> bytes:
        """The folder of the slot's unpublished files."""
        return b"%b/%b" % (self.slot, PARTIAL)

    @property
    def folder(self) -> bytes:
        """The folder of this image's objects."""
        return b"%b/%b" % (self.images, self.image_id)

    def new_partial(self) -> bytes:
        """Return the path of an unpublished file that nobody else uses."""
        return b"%b/%b.%b" % (self.partials, self.image_id, secrets.token_hex(16).encode())

    def is_partial(self, name: str) -> bool:
        """Tell whether a name in ``partials`` is of this image."""
        return name.startswith(f"{self.image_id.decode()}.")


class ObjectPlace(NamedTuple):
    """Where one object is: its image's place, and its path."""

    image: ImagePlace
    path: bytes


def place_of_prefix(root: bytes, prefix: str) -> ImagePlace:
    """Return the place that ``images/{image_id}/`` names.

    Raises:
        ValueError: the prefix has another shape.
    """
    folder = _FOLDER_KEY.fullmatch(prefix)
    if folder is None:
        raise ValueError(f"not the prefix of an image: {prefix!r}")
    return ImagePlace.of(root, folder[1])


def place_of_key(root: bytes, key: str) -> ObjectPlace:
    """Return the place that ``images/{image_id}/{filename}`` names. It is never outside the root.

    Raises:
        ValueError: the key has another shape.
    """
    folder = _FOLDER_KEY.match(key)
    name = key[folder.end() :].encode() if folder is not None else b""
    # A name that is one component can't lead out of its folder, except for the two that every folder has.
    if folder is None or name in {b".", b".."} or b"/" in name or b"\0" in name:
        raise ValueError(f"not the key of an object: {key!r}")
    if not 1 <= len(name) <= FILENAME_MAX_BYTES:
        raise ValueError(f"the filename of an object has 1-{FILENAME_MAX_BYTES} bytes: {key!r}")
    image = ImagePlace.of(root, folder[1])
    return ObjectPlace(image, b"%b/%b" % (image.folder, name))


def image_of_prefix(root: bytes, prefix: str) -> ImagePlace | None:
    """Return the one image that keys with this prefix can belong to, or None if there may be several."""
    folder = _FOLDER_KEY.match(prefix)
    return None if folder is None else ImagePlace.of(root, folder[1])
