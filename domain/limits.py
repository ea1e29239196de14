"""The limits in force. The configurable ones are fields; those that the contract fixes are constants."""

from dataclasses import dataclass

from domain.quota import UNLIMITED, Quota

TITLE_MAX_CHARS = 200
DESCRIPTION_MAX_CHARS = 5_000
TAGS_MAX = 30
TAG_MAX_CHARS = 64
FILENAME_MAX_BYTES = 255
USER_ID_MAX_CHARS = 128
IDEMPOTENCY_KEY_MAX_CHARS = 255
PAGE_MAX_ITEMS = 100
PAGE_DEFAULT_ITEMS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one upload may be: bytes a file, pixels a frame, pixels of all frames, bytes of all that is not picture.

    ``quota`` is what an owner may have stored.
    """

    max_upload_bytes: int = 25 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_file_pixels: int = 400_000_000
    max_metadata_bytes: int = 16 * 1024 * 1024
    quota: Quota = UNLIMITED
