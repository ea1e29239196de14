"""Tables in Markdown."""

from collections.abc import Sequence


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a heading and a table."""
    lines = [head, ["---"] * len(head), *rows]
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
