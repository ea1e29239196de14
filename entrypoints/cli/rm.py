"""``calotype rm``: images to the trash, or away for good."""

import sys
from uuid import UUID

import click

from entrypoints.cli.client import Client, RequestFailed
from entrypoints.cli.options import Access, client_command
from entrypoints.cli.text import shown

_EPILOG = """\
\b
A deleted image is gone from every listing at once, and can be restored from
the trash for a while (30 days by default). With --permanent it can't.

\b
Output: a line an image, with tabs between "deleted", image id, and until when
it can be restored (UTC; empty if the answer that said it was lost). The images
are deleted one after the other; one that can't be deleted is told on stderr,
and the rest go on.

\b
Examples:
  calotype rm 0f8fad5b-d9cb-469f-a165-70867728950e
  calotype list --all --tag blurred | cut -f1 | xargs calotype rm
  calotype rm --permanent --yes 0f8fad5b-d9cb-469f-a165-70867728950e
"""


@click.command(epilog=_EPILOG)
@click.argument("image_ids", metavar="ID...", nargs=-1, required=True, type=click.UUID)
@click.option("--permanent", is_flag=True, help="Delete for good, past the trash. Asks before it does.")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@client_command
def rm(access: Access, *, image_ids: tuple[UUID, ...], permanent: bool, yes: bool) -> None:
    """Delete images."""
    chosen = list(dict.fromkeys(image_ids))
    if permanent and not yes and not _confirmed(len(chosen)):
        click.echo("Nothing was deleted.", err=True)
        click.get_current_context().exit(1)
    with access.client() as client:
        deleted = [_delete(client, image_id, permanent=permanent) for image_id in chosen]
    if not all(deleted):
        click.get_current_context().exit(1)


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("There is nobody to ask: --permanent needs --yes here.")
    images = "this image" if count == 1 else f"these {count} images"
    return click.confirm(f"Delete {images} for good? It can't be undone.", err=True)


def _delete(client: Client, image_id: UUID, *, permanent: bool) -> bool:
    try:
        deletion = client.delete(image_id, permanent=permanent)
    except RequestFailed as failure:
        for line in failure.lines:
            click.echo(shown(f"{image_id}: {line}"), err=True)
        return False
    until = "" if deletion is None else shown(deletion["restorable_until"])
    click.echo(f"deleted\t{image_id}" if permanent else f"deleted\t{image_id}\t{until}")
    return True
