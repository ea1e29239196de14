"""``calotype list``: what images there are."""

import json
import sys
from collections.abc import Iterable
from itertools import chain
from typing import Literal

import click

from domain.values import Tag, Title
from entrypoints.cli.client import Filter, ImageDocument, Page
from entrypoints.cli.options import Access, client_command, parsed_by, tags_option
from entrypoints.cli.text import human_size, shown

_DEFAULT_LIMIT = 20

_EPILOG = """\
\b
On a terminal: a table. Piped: a line an image without a heading, with tabs
between image id, time of upload (UTC), content type, size in bytes, width,
height, filename, title and tags (commas between). With --json: one JSON
object a line, just as the API gives it, as soon as it is there.

\b
Examples:
  calotype list
  calotype list --tag rome --tag night --match all
  calotype list --title "the cat"
  calotype list --all | cut -f1 | xargs -n1 calotype get
  calotype list --all --json | jq -r 'select(.width > 4000) | .title'
"""


@click.command("list", epilog=_EPILOG)
@tags_option("Only images with this tag; repeat it, or put commas between several.")
@click.option(
    "--match",
    type=click.Choice(["any", "all"]),
    default="any",
    show_default=True,
    help="Whether one of the tags is enough, or all are needed.",
)
@click.option(
    "--title", callback=parsed_by(Title), help="Only images with this whole title; upper and lower case are the same."
)
@click.option(
    "--limit", "-n", type=click.IntRange(min=1), help=f"How many images at most.  [default: {_DEFAULT_LIMIT}]"
)
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@client_command
def list_images(
    access: Access,
    *,
    tags: tuple[Tag, ...],
    match: Literal["any", "all"],
    title: Title | None,
    limit: int | None,
    everything: bool,
    as_json: bool,
) -> None:
    """List images, newest first."""
    if tags and title is not None:
        raise click.UsageError("--tag and --title can't be combined.")
    if everything and limit is not None:
        raise click.UsageError("--all and --limit can't be combined.")
    which = Filter(tags=tags, match=match, title=title)
    with access.client() as client:
        pages = client.pages(which, limit=None if everything else limit or _DEFAULT_LIMIT)
        if as_json:
            _print_lines(json.dumps(image) for page in pages for image in page["items"])
        elif sys.stdout.isatty():
            _print_table(list(pages))
        else:
            _print_lines(_tabbed(image) for page in pages for image in page["items"])


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _tabbed(image: ImageDocument) -> str:
    fields = (
        image["image_id"],
        image["created_at"],
        image["content_type"],
        str(image["size_bytes"]),
        str(image["width"]),
        str(image["height"]),
        image["filename"],
        image["title"],
        ",".join(image["tags"]),
    )
    return "\t".join(map(shown, fields))


def _print_table(pages: list[Page]) -> None:
    from rich.console import Console  # noqa: PLC0415 (slow to import, and wanted on a terminal only)
    from rich.table import Table  # noqa: PLC0415 (the same)
    from rich.text import Text  # noqa: PLC0415 (the same)

    images = list(chain.from_iterable(page["items"] for page in pages))
    if not images:
        click.echo("No images.", err=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ID", no_wrap=True, min_width=36)
    table.add_column("Uploaded (UTC)", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Pixels", justify="right", no_wrap=True)
    table.add_column("Title", overflow="ellipsis", no_wrap=True)
    table.add_column("Tags", overflow="fold", style="dim")
    for image in images:
        table.add_row(
            image["image_id"],
            image["created_at"][:16].replace("T", " "),
            human_size(image["size_bytes"]),
            f"{image['width']}x{image['height']}",
            # Text, not str: a title may look like Rich's markup.
            Text(shown(image["title"])),
            Text(shown(", ".join(image["tags"]))),
        )
    Console().print(table)
    if pages[-1]["next_cursor"] is not None:
        click.echo("There are more: see --limit and --all.", err=True)
