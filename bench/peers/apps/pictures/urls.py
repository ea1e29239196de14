"""Where everything is."""

from django.urls import path
from wagtail.api.v2.router import WagtailAPIRouter

from pictures.views import Original, OwnPictures, Upload

api = WagtailAPIRouter("api")
api.register_endpoint("images", OwnPictures)

urlpatterns = [
    path("api/", api.urls),
    path("upload/", Upload.as_view()),
    path("originals/<int:pk>", Original.as_view()),
]
