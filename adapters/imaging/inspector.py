"""The image inspector: formats by their bytes, headers by Pillow and libheif, completeness by walking the container."""

from io import BytesIO
from typing import BinaryIO, NamedTuple

import pillow_heif
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from adapters.imaging.completeness import Container, orientation_of, walk
from adapters.imaging.reader import MAX_FRAMES, BrokenError, TooManyFramesError, TooMuchMetadataError
from application.ports import Inspection
from domain.errors import CalotypeError, Invalid, Unavailable
from domain.limits import Limits
from domain.values import MediaType

_SNIFF_BYTES = 64
_FIRST_TURNED = 5  # EXIF orientations 5-8 lie on their side

# The plugins by name, not Image.open: it would try others too, and warn or refuse by a limit that the whole process
# shares. JpegImageFile also opens MPO, as the one picture that every viewer shows.
_PLUGINS: dict[MediaType, type[ImageFile.ImageFile]] = {
    MediaType.JPEG: JpegImageFile,
    MediaType.PNG: PngImageFile,
    MediaType.GIF: GifImageFile,
    MediaType.WEBP: WebPImageFile,
    MediaType.AVIF: AvifImageFile,
    MediaType.TIFF: TiffImageFile,
    MediaType.BMP: BmpImageFile,
}


class PillowInspector:
    """Inspects by Pillow and pillow-heif, whoever it is for. Holds nothing; one instance serves all threads."""

    def inspect(self, content: BinaryIO, *, limits: Limits) -> Inspection:
        """See ImageInspector.inspect.

        The codes are unsupported_image, unreadable_image, too_many_pixels and too_much_metadata.
        """
        try:
            return _inspect(content, limits)
        except CalotypeError:
            raise
        except BrokenError as error:
            raise Invalid("file", str(error), code="unreadable_image") from error
        except TooManyFramesError as error:
            raise _too_many(f"has more than {MAX_FRAMES:,} frames") from error
        except TooMuchMetadataError as error:
            reason = f"has more than {limits.max_metadata_bytes:,} bytes of metadata"
            raise Invalid("file", reason, code="too_much_metadata") from error
        except Image.DecompressionBombError as error:
            raise _too_many("has more pixels than can be read") from error
        except MemoryError as error:
            raise Unavailable("there is no memory to read the file's header") from error
        except Exception as error:  # a parser of hostile bytes may raise anything
            if isinstance(error, OSError) and error.errno is not None:
                raise Unavailable("the file can't be read from disk") from error
            raise Invalid("file", "can't be read as the image it claims to be", code="unreadable_image") from error


class _Picture(NamedTuple):
    """What a library says of a header: the stored size, before it is turned, and all frames."""

    width: int
    height: int
    frames: int
    frame_pixels: int
    file_pixels: int
    orientation: int


def _inspect(content: BinaryIO, limits: Limits) -> Inspection:
    content.seek(0)
    media_type = MediaType.sniff(content.read(_SNIFF_BYTES))
    if media_type is None:
        known = ", ".join(each.name for each in MediaType)
        raise Invalid("file", f"is not an image of a known format ({known})", code="unsupported_image")
    container = walk(content, media_type, max_metadata_bytes=limits.max_metadata_bytes)
    # Before a library sees the file: some allocate the canvas at once.
    _check_pixels(container.frame_pixels, container.file_pixels, limits)
    picture = _open_heic(container) if media_type is MediaType.HEIC else _open(container, _PLUGINS[media_type])
    if min(picture.width, picture.height) <= 0:
        raise BrokenError("has no pixels")
    if picture.frames > MAX_FRAMES:
        raise TooManyFramesError
    _check_pixels(picture.frame_pixels, picture.file_pixels, limits)
    width, height = picture.width, picture.height
    if picture.orientation >= _FIRST_TURNED:
        width, height = height, width
    return Inspection(
        media_type=media_type, width=width, height=height, frames=picture.frames, orientation=picture.orientation
    )


def _open(container: Container, plugin: type[ImageFile.ImageFile]) -> _Picture:
    image = plugin(BytesIO(container.head))
    width, height = image.size
    if plugin is not AvifImageFile:
        return _Picture(
            width, height, container.frames, container.frame_pixels, container.file_pixels, container.orientation
        )
    frames = getattr(image, "n_frames", 1)
    # Pillow states irot and imir as an EXIF orientation, and a picture's own EXIF was left out of the head.
    turned = orientation_of(image.info.get("exif", b""))
    return _Picture(width, height, frames, width * height, frames * width * height, turned)


def _open_heic(container: Container) -> _Picture:
    """Ask libheif. Its sizes are those after irot and imir, so nothing is left to turn."""
    images = pillow_heif.open_heif(BytesIO(container.head))
    width, height = images.size
    pixels = [image.size[0] * image.size[1] for image in images]
    return _Picture(width, height, len(pixels), max(pixels), sum(pixels), 1)


def _check_pixels(frame_pixels: int, file_pixels: int, limits: Limits) -> None:
    if frame_pixels > limits.max_pixels:
        raise _too_many(f"has {frame_pixels:,} pixels a frame; at most {limits.max_pixels:,} are accepted")
    if file_pixels > limits.max_file_pixels:
        raise _too_many(f"has {file_pixels:,} pixels in all frames; at most {limits.max_file_pixels:,} are accepted")


def _too_many(reason: str) -> Invalid:
    return Invalid("file", reason, code="too_many_pixels")
