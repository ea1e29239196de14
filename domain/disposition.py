"""The Content-Disposition value that gives an image its name again when it is shown or saved."""

import re
import unicodedata
from typing import Literal
from urllib.parse import quote

# What RFC 8187's attr-char allows beyond the letters, digits and `_.-~` that quote() always keeps.
_ATTR_CHARS = "!#$&+^`|"
# In a quoted-string some clients unescape, and some don't: backslash, quote and percent never appear in it
# (RFC 6266, appendix D), nor a semicolon, at which careless parsers split. A slash or a colon means a folder or a
# drive to whoever saves the file.
_UNSAFE = re.compile(r'[^ -~]|["\\%;/:]')


def content_disposition(disposition: Literal["inline", "attachment"], filename: str) -> str:
    """Return the header's value: printable ASCII whatever the name, so nothing in it can end the header.

    A name that ASCII can't carry comes twice, as RFC 6266 section 4.3 asks: ``filename`` with what ASCII can say of
    it, for old clients, and ``filename*`` (RFC 8187), exact, for all others.
    """
    if _UNSAFE.search(filename) is None:
        return f'{disposition}; filename="{filename}"'
    exact = quote(filename, safe=_ATTR_CHARS, errors="replace")
    return f"{disposition}; filename=\"{_ascii(filename)}\"; filename*=UTF-8''{exact}"


def _ascii(filename: str) -> str:
    """Return the nearest ASCII name: accents off, ``_`` for what has no ASCII form or is unsafe in quotes."""
    # Decomposing comes first: compatibility forms hide quotes and slashes (U+FF02, U+2100).
    decomposed = unicodedata.normalize("NFKD", filename)
    return _UNSAFE.sub("_", "".join(char for char in decomposed if not unicodedata.combining(char)))
