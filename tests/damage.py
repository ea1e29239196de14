"""Damage to images: what transport, software and ill will do to a file, drawn by Hypothesis.

A file is known by its ``Anatomy``: the parts that its format is made of, and the fields that say how long or how many
or where something is. Damage is done to both, and to bytes anywhere.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from hypothesis import strategies as st


@dataclass(frozen=True, slots=True)
class Field:
    """A number in the file."""

    at: int
    size: int
    order: str  # as struct has it


@dataclass(slots=True)
class Anatomy:
    """Where the parts of a file begin and end, and the numbers in it that others depend on."""

    parts: list[tuple[int, int]] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)


def anatomy(whole: bytes) -> Anatomy:
    """Take a sound file of any of the formats apart."""
    found = Anatomy()
    for magic, dissect in _DISSECTIONS.items():
        if whole[4:8] == magic or whole.startswith(magic):
            dissect(whole, found)
    assert found.parts
    assert found.fields
    return found


def _jpeg(whole: bytes, found: Anatomy) -> None:
    at = 2
    while whole[at + 1] != 0xDA:
        length = int.from_bytes(whole[at + 2 : at + 4], "big")
        found.parts.append((at, at + 2 + length))
        found.fields += [Field(at, 2, ">"), Field(at + 2, 2, ">")]
        if whole[at + 1] & 0xF0 == 0xC0:
            found.fields += [Field(at + 5, 2, ">"), Field(at + 7, 2, ">"), Field(at + 9, 1, ">")]
        if whole[at + 4 : at + 8] == b"Exif":
            _ifds(whole, at + 10, found)
        at += 2 + length
    found.parts += [(at, at + 14), (at + 14, len(whole))]
    found.fields.append(Field(at + 2, 2, ">"))


def _png(whole: bytes, found: Anatomy) -> None:
    at = 8
    while at < len(whole):
        length = int.from_bytes(whole[at : at + 4], "big")
        found.parts.append((at, at + 12 + length))
        found.fields += [Field(at, 4, ">"), Field(at + 4, 4, ">")]
        if whole[at + 4 : at + 8] in {b"IHDR", b"acTL", b"fcTL"}:
            found.fields += [Field(at + 8, 4, ">"), Field(at + 12, 4, ">"), Field(at + 16, 4, ">")]
        at += 12 + length


def _gif(whole: bytes, found: Anatomy) -> None:
    found.fields += [Field(6, 2, "<"), Field(8, 2, "<"), Field(10, 1, "<")]
    at = 13 + _palette_bytes(whole[10])
    while whole[at] != 0x3B:
        start = at
        if whole[at] == 0x2C:
            found.fields += [Field(at + offset, 2, "<") for offset in (1, 3, 5, 7)] + [Field(at + 9, 1, "<")]
            at += 11 + _palette_bytes(whole[at + 9])
        else:
            found.fields.append(Field(at, 2, "<"))
            at += 2
        while whole[at]:
            found.fields.append(Field(at, 1, "<"))
            at += 1 + whole[at]
        at += 1
        found.parts.append((start, at))


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _riff(whole: bytes, found: Anatomy) -> None:
    found.fields.append(Field(4, 4, "<"))
    at = 12
    while at < len(whole):
        kind, length = struct.unpack_from("<4sI", whole, at)
        found.parts.append((at, at + 8 + length + (length & 1)))
        found.fields += [Field(at, 4, "<"), Field(at + 4, 4, "<")]
        if kind in {b"VP8X", b"ANMF"}:
            found.fields += [Field(at + 8 + offset, 3, "<") for offset in range(0, 12, 3)]
        if kind == b"ANMF":
            found.fields += [Field(at + 24, 4, "<"), Field(at + 28, 4, "<")]
        if kind in {b"VP8 ", b"VP8L"}:
            found.fields += [
                Field(at + 8, 3, "<"),
                Field(at + 9, 4, "<"),
                Field(at + 14, 2, "<"),
                Field(at + 16, 2, "<"),
            ]
        at += 8 + length + (length & 1)


_CONTAINERS = {
    b"meta": 4,
    b"iinf": 6,
    b"iref": 4,
    **dict.fromkeys((b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf"), 0),
    b"stsd": 8,
}


def _boxes(whole: bytes, found: Anatomy) -> None:
    _boxes_in(whole, 0, len(whole), found)


def _boxes_in(whole: bytes, at: int, stop: int, found: Anatomy) -> None:
    while stop - at >= 8:
        length, kind = struct.unpack_from(">I4s", whole, at)
        end = at + length
        found.parts.append((at, end))
        found.fields += [Field(at, 4, ">"), Field(at + 4, 4, ">")]
        if kind in _CONTAINERS:
            _boxes_in(whole, at + 8 + _CONTAINERS[kind], end, found)
            found.fields += [Field(at + 8 + offset, 2, ">") for offset in range(0, _CONTAINERS[kind], 2)]
        elif kind != b"mdat":
            found.fields += [Field(each, 2, ">") for each in range(at + 8, min(end - 1, at + 80), 2)]
            found.fields += [Field(each, 4, ">") for each in range(at + 8, min(end - 3, at + 80), 4)]
        at = end


def _tiff(whole: bytes, found: Anatomy) -> None:
    _ifds(whole, 0, found)


def _ifds(whole: bytes, base: int, found: Anatomy) -> None:
    order = "<" if whole[base : base + 2] == b"II" else ">"
    found.fields.append(Field(base + 4, 4, order))
    at = struct.unpack_from(order + "I", whole, base + 4)[0]
    while at:
        (count,) = struct.unpack_from(order + "H", whole, base + at)
        found.fields.append(Field(base + at, 2, order))
        for entry in range(base + at + 2, base + at + 2 + 12 * count, 12):
            found.parts.append((entry, entry + 12))
            found.fields += [Field(entry, 2, order), Field(entry + 2, 2, order)]
            found.fields += [Field(entry + 4, 4, order), Field(entry + 8, 4, order), Field(entry + 8, 2, order)]
        behind = at + 2 + 12 * count
        found.parts.append((base + at, base + behind + 4))
        found.fields.append(Field(base + behind, 4, order))
        at = struct.unpack_from(order + "I", whole, base + behind)[0]


def _bmp(whole: bytes, found: Anatomy) -> None:
    found.parts += [(0, 14), (14, 54), (54, len(whole))]
    found.fields += [Field(at, 4, "<") for at in (2, 10, 14, 18, 22, 30, 34, 46, 50)]
    found.fields += [Field(at, 2, "<") for at in (26, 28)]


_DISSECTIONS: dict[bytes, Callable[[bytes, Anatomy], None]] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG": _png,
    b"GIF8": _gif,
    b"RIFF": _riff,
    b"ftyp": _boxes,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"BM": _bmp,
}


# ---- what is done to them

_POLYGLOTS = (
    b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18),
    b"/*",
    b"*/=1;alert(1)//",
    b"<!doctype html><script>alert(1)</script>",
    b"<?php system($_GET[0]); ?>",
    b"%PDF-1.7\n",
)


@st.composite
def damaged(draw: st.DrawFn, wholes: list[tuple[bytes, Anatomy]]) -> bytes:
    """Draw a file, and do it harm of one to five sorts."""
    whole, known = draw(st.sampled_from(wholes))
    donor = draw(st.sampled_from(wholes))
    file = bytearray(whole)
    for harm in draw(st.lists(st.sampled_from(_HARMS), min_size=1, max_size=5)):
        harm(draw, file, known, donor)
        if not file:
            break
    return bytes(file)


_Harm = Callable[[st.DrawFn, bytearray, Anatomy, tuple[bytes, Anatomy]], None]


def _lie(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    """Let a length, a count or a position say something else."""
    chosen = draw(st.sampled_from(known.fields))
    most = (1 << 8 * chosen.size) - 1
    order: Literal["little", "big"] = "little" if chosen.order == "<" else "big"
    now = int.from_bytes(file[chosen.at : chosen.at + chosen.size], order)
    lies = [0, 1, 2, 8, most, most - 1, most >> 1, (most >> 1) + 1, now + 1, now - 1, now * 2]
    lies += [len(file), len(file) - chosen.at, chosen.at, 0xFFFF, 0x10000]
    value = draw(st.sampled_from(lies) | st.integers(0, most)) & most
    file[chosen.at : chosen.at + chosen.size] = value.to_bytes(chosen.size, order)


def _cut(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    del file[draw(_place(file, known)) :]


def _flip(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    for at in draw(st.lists(_place(file, known), min_size=1, max_size=8)):
        if at < len(file):
            file[at] ^= 1 << draw(st.integers(0, 7))


def _fill(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    at = draw(_place(file, known))
    length = min(draw(st.sampled_from([1, 2, 4, 8, 64, 1_000])), len(file) - at)
    file[at : at + length] = bytes([draw(st.sampled_from([0, 0xFF, 0x7F, 0x80]))]) * max(length, 0)


def _repeat(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    start, stop = draw(st.sampled_from(known.parts))
    file[stop:stop] = file[start:stop] * draw(st.sampled_from([1, 2, 10, 100]))


def _swap(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    (a, b), (c, d) = sorted((draw(st.sampled_from(known.parts)), draw(st.sampled_from(known.parts))))
    if b <= c:
        file[a:d] = file[c:d] + file[b:c] + file[a:b]


def _remove(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    start, stop = draw(st.sampled_from(known.parts))
    del file[start:stop]


def _splice(draw: st.DrawFn, file: bytearray, known: Anatomy, donor: tuple[bytes, Anatomy]) -> None:
    other, anatomy_of_other = donor
    start, stop = draw(st.sampled_from(anatomy_of_other.parts))
    at = draw(_place(file, known))
    if draw(st.booleans()):
        file[at:at] = other[start:stop]
    else:
        file[at : at + stop - start] = other[start:stop]


def _disguise(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    at = draw(st.just(len(file)) | _place(file, known))
    file[at:at] = draw(st.sampled_from(_POLYGLOTS))


def _grow(draw: st.DrawFn, file: bytearray, known: Anatomy, _: object) -> None:
    at = draw(_place(file, known))
    file[at:at] = draw(st.binary(min_size=1, max_size=40)) * draw(st.sampled_from([1, 1, 50, 2_000]))


_HARMS: list[_Harm] = [_lie, _lie, _lie, _flip, _flip, _cut, _fill, _repeat, _swap, _remove, _splice, _disguise, _grow]


def _place(file: bytearray, known: Anatomy) -> st.SearchStrategy[int]:
    """Borders of parts, fields, the first bytes, and anywhere."""
    last = max(len(file) - 1, 0)
    borders = sorted({min(border, last) for part in known.parts for border in part})
    return st.one_of(
        st.sampled_from(borders),
        st.sampled_from([min(each.at, last) for each in known.fields]),
        st.integers(0, min(last, 64)),
        st.integers(0, last),
    )
