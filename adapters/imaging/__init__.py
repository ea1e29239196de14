"""What a file is, read from its headers by Pillow and pillow-heif. Pixels are never decoded."""

from adapters.imaging.bounded import BoundedInspector
from adapters.imaging.inspector import PillowInspector

__all__ = ["BoundedInspector", "PillowInspector"]
