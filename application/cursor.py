"""Cursors: opaque positions in a listing.

A cursor holds where to go on and a digest of the question it belongs to, so that it is refused when it was cut or
altered, or comes back with another question. It grants nothing: the owner always comes from the caller.
"""

import base64
import binascii
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from application.ports import ByOwner, ByTags, ByTitle, Filter, Position
from domain.errors import Invalid
from domain.values import UserId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSITION = struct.Struct(">Bq16s")
_VERSION = 1
_DIGEST_BYTES = 8


def encode_cursor(owner: UserId, which: Filter, position: Position) -> str:
    """Return the cursor that goes on behind the position."""
    micros = (position.created_at - _EPOCH) // _MICROSECOND
    packed = _POSITION.pack(_VERSION, micros, position.image_id.bytes)
    return base64.urlsafe_b64encode(packed + _digest(owner, which, packed)).decode()


def decode_cursor(owner: UserId, which: Filter, cursor: str) -> Position:
    """Return the position that a cursor of the same owner and filter stands for.

    Raises:
        Invalid: it is not one.
    """
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        _, micros, id_bytes = _POSITION.unpack(raw[:-_DIGEST_BYTES])
        position = Position(_EPOCH + micros * _MICROSECOND, UUID(bytes=id_bytes))
    except (ValueError, binascii.Error, struct.error, OverflowError) as error:
        raise _refused() from error
    # The whole text is compared: b64decode takes "+" for "-" as well.
    if cursor != encode_cursor(owner, which, position):
        raise _refused()
    return position


def _refused() -> Invalid:
    return Invalid("cursor", "is not one that this listing gave out", code="invalid_cursor")


def _digest(owner: UserId, which: Filter, packed: bytes) -> bytes:
    question = json.dumps([owner, *_described(which)]).encode()
    return hashlib.blake2b(packed + question, digest_size=_DIGEST_BYTES, person=b"calotype-cursor").digest()


def _described(which: Filter) -> list[str]:
    match which:
        case ByOwner():
            return ["user"]
        case ByTags(tags, match):
            return ["tags", match, *sorted(tags)]
        case ByTitle(title):
            return ["title", title.folded]
