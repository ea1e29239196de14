"""``calotype bootstrap``: the bucket and the tables, as they should be."""

from collections.abc import Iterator, Sequence

import click
import msgspec

from application.provisioning import Aspect, State
from entrypoints.provisioning import Finding, Outcome, Patience, compare, provision
from entrypoints.settings import Settings, SettingsError, load_settings

_SHORT = 120
"""How long both states may be, in characters, to stand in a line."""


@click.command()
@click.option("--check", is_flag=True, help="Only compare, and exit with 1 if anything differs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a line for each finding.")
def bootstrap(*, check: bool, as_json: bool) -> None:
    r"""Create the bucket and the tables on AWS, or make them as they should be.

    Safe to repeat, and to run by several at once. No data is ever deleted, nor anything that others have set up beside
    it. What the server in use can't do is listed as "not supported", with a warning.

    \b
    Exit codes:
      0  everything is as it should be, as far as the server supports it
      1  something failed; with --check, something differs
    """
    from domain.errors import Unavailable  # noqa: PLC0415 (the SDK's weight, only when it is used)

    try:
        stores = _stores(load_settings())
    except (SettingsError, Unavailable) as error:
        raise click.ClickException(str(error)) from error
    coming = compare(stores) if check else provision(stores, Patience())
    findings = list(coming) if as_json else list(_told(coming))
    if as_json:
        click.echo(msgspec.json.encode(findings).decode())
    if unsupported := sum(each.outcome is Outcome.NOT_SUPPORTED for each in findings):
        click.echo(f"Warning: {unsupported} not supported by this server", err=True)
    if not all(each.outcome.is_as_wanted for each in findings):
        raise SystemExit(1)


def _stores(settings: Settings) -> list[Sequence[Aspect]]:
    """Return what is to be true of the tables and of the bucket. No request is made."""
    if settings.storage != "aws":
        raise SettingsError("CALOTYPE_STORAGE=embedded needs no bootstrap; set CALOTYPE_STORAGE=aws")

    from adapters.dynamodb.bootstrap import table_aspects  # noqa: PLC0415 (as above)
    from adapters.dynamodb.tables import Tables  # noqa: PLC0415
    from adapters.s3.bootstrap import BucketPlan, bucket_aspects  # noqa: PLC0415
    from domain.errors import Unavailable  # noqa: PLC0415
    from entrypoints.aws import UNUSABLE, aws_session, dynamodb_client, s3_client  # noqa: PLC0415

    try:
        session = aws_session(settings)
        dynamodb = dynamodb_client(session, settings)
        # The accelerated way into a bucket is there only once this command has opened it.
        s3 = s3_client(session, msgspec.structs.replace(settings, transfer_acceleration=False))
    except UNUSABLE as error:
        raise Unavailable(f"AWS can't be used: {error}") from error
    plan = BucketPlan(
        settings.bucket,
        region=dynamodb.meta.region_name,
        kms_key_id=settings.kms_key_id,
        cors_origins=settings.browser_origins,
        acceleration=settings.transfer_acceleration,
    )
    tables = table_aspects(dynamodb, Tables(settings.table_prefix), deletion_protection=settings.deletion_protection)
    return [bucket_aspects(s3, plan), *tables]


def _told(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Print each finding as it comes: tables take their time."""
    for finding in findings:
        click.echo(line(finding))
        yield finding


def line(finding: Finding) -> str:
    """Return a finding as a line of text."""
    return f"{finding.outcome + ':':<15}{finding.what}{_detail(finding)}"


def _detail(finding: Finding) -> str:
    if finding.reason is not None:
        return f": {finding.reason}"
    if finding.outcome not in {Outcome.CHANGED, Outcome.DIFFERS}:
        return ""
    found, wanted = _shown(finding.found), _shown(finding.wanted)
    if len(found) + len(wanted) > _SHORT:
        return " (--json shows how)"
    return f": was {found}, is {wanted}" if finding.outcome is Outcome.CHANGED else f": is {found}, not {wanted}"


def _shown(state: State) -> str:
    return state if isinstance(state, str) else msgspec.json.encode(state).decode()
