"""List an owner's images, newest first: all, by tags, or by title."""

from dataclasses import dataclass

from application.bus import Query
from application.cursor import decode_cursor, encode_cursor
from application.ports import ByOwner, ByTags, Filter, MetadataReader
from domain.errors import Invalid
from domain.image import Image
from domain.limits import PAGE_DEFAULT_ITEMS, PAGE_MAX_ITEMS, TAGS_MAX
from domain.values import UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class ListImages(Query["ImagePage"]):
    """Which images has this owner? Go on behind the cursor of an earlier page of the same listing."""

    owner: UserId
    which: Filter = ByOwner()  # noqa: RUF009 (a value, immutable)
    limit: int = PAGE_DEFAULT_ITEMS
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ImagePage:
    """Images newest first, and the cursor of the next page; None at the end."""

    images: tuple[Image, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ListImagesHandler:
    """Reads one page."""

    records: MetadataReader

    def __call__(self, query: ListImages) -> ImagePage:
        """Return a page.

        Raises:
            Invalid: the limit is out of range, no tag or too many were given, or the cursor is of another listing.
        """
        if not 1 <= query.limit <= PAGE_MAX_ITEMS:
            raise Invalid("limit", f"must be 1-{PAGE_MAX_ITEMS}")
        if isinstance(query.which, ByTags) and not 1 <= len(query.which.tags) <= TAGS_MAX:
            raise Invalid("tags", f"must be 1-{TAGS_MAX} tags")
        after = None if query.cursor is None else decode_cursor(query.owner, query.which, query.cursor)
        images, following = self.records.page(query.owner, query.which, limit=query.limit, after=after)
        if following is None:
            return ImagePage(images, None)
        return ImagePage(images, encode_cursor(query.owner, query.which, following))
