"""How things read on a terminal: made safe, and short."""

import unicodedata

_KILO = 1000


def shown(text: str) -> str:
    """Return somebody's text with what could move the cursor, break a line or reorder it made visible."""
    return "".join(char if _is_harmless(char) else char.encode("unicode_escape").decode() for char in text)


def _is_harmless(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} and unicodedata.bidirectional(char) not in {
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }


def human_size(size_bytes: float) -> str:
    """Return a size in decimal units with three digits or so: ``17 B``, ``4.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < _KILO:
            return f"{size_bytes:.{0 if unit == 'B' or size_bytes >= 100 else 1}f} {unit}"  # noqa: PLR2004 (digits)
        size_bytes /= _KILO
    return f"{size_bytes:,.1f} TB"
