"""Draw docs/tour.svg: the API at work, with the real answers of a real server. By hand: python docs/make_tour.py."""
# ruff: noqa: INP001 (a script, no part of a package)

import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.terminal_theme import TerminalTheme
from rich.text import Text

_ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(_ROOT))

from tests.service import Service  # noqa: E402 (behind the path that leads to it)

_SHOWN_URL = "http://127.0.0.1:8000"
_COLUMNS = 92
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
_THEME = TerminalTheme(
    (24, 27, 34),
    (214, 219, 228),
    [
        *((24, 27, 34), (240, 113, 120), (152, 204, 126), (229, 192, 123)),
        *((110, 176, 246), (199, 146, 234), (95, 201, 209), (214, 219, 228)),
    ],
)

# What to say, what to run, and which fields of the answer to show.
_STEPS: list[tuple[str, str, tuple[str, ...]]] = [
    (
        "upload a photo; $ID and $URL are the image_id and the presigned_url of the answer",
        """curl -H 'X-User-ID: ada' -F file=@bridge.jpg -F title='Clifton Bridge' \\
       -F tags=bristol,bridge $API/images""",
        ("image_id", "title", "tags", "content_type", "size_bytes", "width", "height", "sha256", "version"),
    ),
    (
        "find it by tag",
        "curl -H 'X-User-ID: ada' \"$API/images?filter_by=tags&tags=bridge\"",
        ("image_id", "title"),
    ),
    (
        "change the words around it, only if nobody else has",
        """curl -H 'X-User-ID: ada' -X PATCH -H 'If-Match: "1"' \\
       -H 'Content-Type: application/merge-patch+json' \\
       -d '{"description": "From the west, in fog"}' $API/images/$ID""",
        ("title", "description", "tags", "version"),
    ),
    (
        "get the very bytes back",
        "curl -H 'X-User-ID: ada' $API/images/$ID -o again.jpg && sha256sum *.jpg",
        (),
    ),
    (
        "open its presigned URL: no header needed",
        "curl -o /dev/null -w '%{http_code} %{content_type}, %{size_download} bytes\\n' \"$URL\"",
        (),
    ),
    (
        "what isn't yours looks just like what isn't there",
        "curl -H 'X-User-ID: eve' $API/images/$ID",
        ("status", "code", "detail"),
    ),
]


def main() -> None:
    """Run the tour and write the picture."""
    console = Console(
        record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    with tempfile.TemporaryDirectory() as name, Service(Path(name, "data")) as service:
        folder = Path(name)
        (folder / "bridge.jpg").write_bytes(_photo())
        variables = {"API": f"{service.base_url}/api/v1"}
        console.print(Text(f"$ API={_SHOWN_URL}/api/v1", "bold"))
        for say, command, fields in _STEPS:
            console.print(Text(f"\n# {say}", "cyan"))
            console.print(Text(f"$ {command}", "bold"))
            answer = _run(command, folder, variables)
            document = json.loads(answer) if fields else None
            if document is not None and "presigned_url" in document:
                variables |= {"ID": document["image_id"], "URL": document["presigned_url"]}
            shown = answer.rstrip() if document is None else _pretty(document, fields)
            console.print(_coloured(shown.replace(service.base_url, _SHOWN_URL)), soft_wrap=True)
    svg = console.export_svg(title="Calotype", theme=_THEME, unique_id="tour")
    # No font from elsewhere: the picture must look the same offline, and tell nobody who looks at it.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", _FONTS)
    (_ROOT / "docs" / "tour.svg").write_text(svg + "\n", encoding="utf-8")


def _run(command: str, folder: Path, variables: dict[str, str]) -> str:
    done = subprocess.run(  # noqa: S603 (our own lines)
        ["/bin/bash", "-euo", "pipefail", "-c", f'curl() {{ command curl --silent --noproxy "*" "$@"; }}\n{command}'],
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **variables},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    return done.stdout


def _pretty(document: dict[str, Any], fields: tuple[str, ...]) -> str:
    """Return the fields, three dots for the rest; of a page its items, each on a line."""
    if "items" in document:
        items = "".join(f"\n    {_inline(item, fields)}" for item in document["items"])
        return f'{{\n  "items": [{items}\n  ],\n  "next_cursor": {json.dumps(document["next_cursor"])}\n}}'
    lines: list[str] = []
    for name in fields:
        field = f'"{name}": {_json(document[name])}, '
        if lines and len(lines[-1]) + len(field) < _COLUMNS:
            lines[-1] += field
        else:
            lines.append(f"  {field}")
    return "{\n" + "\n".join(line.rstrip() for line in lines) + " …\n}"


def _inline(item: dict[str, Any], fields: tuple[str, ...]) -> str:
    return "{" + ", ".join(f'"{name}": {_json(item[name])}' for name in fields) + ", …}"


def _json(value: Any) -> str:
    digest = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    return json.dumps(f"{value[:12]}…" if digest else value, ensure_ascii=False)


def _coloured(text: str) -> Text:
    if text.startswith("{"):
        coloured = JSONHighlighter()(text)
        coloured.highlight_regex("…", "dim")
        return coloured
    return Text(text)


def _photo() -> bytes:
    """Return a bridge over a gorge in the evening, drawn: soft light and some grain, as a photo has."""
    width, height = 1600, 1200
    picture = Image.linear_gradient("L").resize((width, height))
    sky = Image.merge(
        "RGB", [picture.point(lambda v, a=a, b=b: a + v * b // 255) for a, b in ((60, 180), (90, 90), (150, 10))]
    )
    draw = ImageDraw.Draw(sky)
    draw.polygon([(0, height), (0, 620), (360, 700), (520, height)], fill=(38, 44, 40))
    draw.polygon([(width, height), (width, 600), (1240, 700), (1080, height)], fill=(32, 38, 36))
    draw.line([(0, 640), (width, 640)], fill=(30, 30, 34), width=14)
    draw.arc([(300, -260), (1300, 620)], 0, 180, fill=(30, 30, 34), width=8)
    for x in (330, 1270):
        draw.rectangle([(x - 26, 160), (x + 26, 720)], fill=(44, 40, 38))
    grain = Image.effect_noise((width, height), 40).convert("RGB")
    out = io.BytesIO()
    Image.blend(sky.filter(ImageFilter.GaussianBlur(1.5)), grain, 0.06).save(out, "JPEG", quality=88)
    return out.getvalue()


if __name__ == "__main__":
    main()
