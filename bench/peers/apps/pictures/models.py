"""The image model, which the docs advise to make one's own: an index for each page."""

from django.db import models
from wagtail.images.models import AbstractImage, AbstractRendition, Image


class Picture(AbstractImage):
    """An image."""

    admin_form_fields = (*Image.admin_form_fields,)

    class Meta(AbstractImage.Meta):
        """Indexes."""

        indexes = (
            models.Index(fields=["uploaded_by_user", "created_at"]),
            models.Index(fields=["uploaded_by_user", "title", "created_at"]),
        )


class PictureRendition(AbstractRendition):
    """A rendition; none is made here."""

    image = models.ForeignKey(Picture, on_delete=models.CASCADE, related_name="renditions")

    class Meta:
        """As the docs have it."""

        unique_together = (("image", "filter_spec", "focal_point_key"),)
