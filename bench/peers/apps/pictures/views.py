"""Wagtail's own image API, cut down to what is the caller's own; and what that API has not: uploads and originals."""

from django.http import FileResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404
from rest_framework.fields import Field
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response
from rest_framework.views import APIView
from wagtail.images import get_image_model
from wagtail.images.api.v2.serializers import ImageSerializer
from wagtail.images.api.v2.views import ImagesAPIViewSet
from wagtail.images.forms import get_image_form

Picture = get_image_model()


class FetchedTags(Field):
    """Tags that were fetched for the whole page: Wagtail's own field asks once an image."""

    def to_representation(self, value):
        """Return their names."""
        return sorted(tag.name for tag in value.all())


class PictureSerializer(ImageSerializer):
    """An image as JSON."""

    tags = FetchedTags(read_only=True)


class OwnPictures(ImagesAPIViewSet):
    """Wagtail's image API, of the caller's own images."""

    base_serializer_class = PictureSerializer
    body_fields = [*ImagesAPIViewSet.body_fields, "created_at", "file_size", "file_hash"]
    listing_default_fields = [*ImagesAPIViewSet.listing_default_fields, *body_fields]
    model = Picture

    def get_queryset(self):
        """Return only the caller's own."""
        return super().get_queryset().filter(uploaded_by_user=self.request.user).prefetch_related("tags")


class Upload(APIView):
    """Upload an image through Wagtail's own form, which validates it."""

    parser_classes = [MultiPartParser]

    def post(self, request):
        """Store it."""
        form = get_image_form(Picture)(
            request.POST, request.FILES, instance=Picture(uploaded_by_user=request.user), user=request.user
        )
        if not form.is_valid():
            return Response(form.errors, status=400)
        picture = form.save()
        tags = sorted(tag.name for tag in picture.tags.all())
        return Response({"id": picture.id, "title": picture.title, "tags": tags, "size": picture.file_size}, status=201)


class Original(APIView):
    """The bytes, as Django's own `FileResponse` gives them."""

    def get(self, request, pk):
        """Send them, or say that they have not changed."""
        picture = get_object_or_404(Picture.objects.filter(uploaded_by_user=request.user), pk=pk)
        etag = f'"{picture.file_hash}"'
        if request.headers.get("If-None-Match") == etag:
            return HttpResponseNotModified(headers={"ETag": etag})
        return FileResponse(picture.file.open(), headers={"ETag": etag})
