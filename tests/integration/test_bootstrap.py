"""`calotype bootstrap` on moto, through the command line as operators use it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result
from moto import mock_aws
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

from adapters.dynamodb.bootstrap import table_aspects
from adapters.dynamodb.tables import OWNER_INDEX, TITLE_INDEX, Tables, definitions
from adapters.s3.bootstrap import ABORT_RULE, EXPIRE_RULE, POLICY_SID, BucketPlan, bucket_aspects
from entrypoints.cli.app import cli
from entrypoints.provisioning import Finding, Outcome, Patience, compare, provision

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

REGION = "eu-central-1"
BUCKET = "image-uploads"
IMPATIENT = Patience(deadline_s=0, shows_within_s=0, sleep=lambda _: None)
TABLES = ["images-metadata", "images-postings", "images-reclaim"]


class Cloud(NamedTuple):
    """An account of AWS."""

    s3: "S3Client"
    dynamodb: "DynamoDBClient"

    def make_bucket(self) -> None:
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    monkeypatch.chdir(tmp_path)  # no .env of the developer's
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("CALOTYPE_STORAGE", "aws")
    with mock_aws():
        yield Cloud(boto3.client("s3", region_name=REGION), boto3.client("dynamodb", region_name=REGION))


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["bootstrap", *arguments], env=environment)


def outcomes(*arguments: str, **environment: str) -> dict[str, str]:
    """Return what a run says of each aspect."""
    result = run("--json", *arguments, **environment)
    return {each["what"]: each["outcome"] for each in json.loads(result.stdout)}


def told(found: dict[str, str], outcome: str) -> list[str]:
    return [what for what, how in found.items() if how == outcome]


# ---- what it makes


def test_an_empty_account_gets_a_bucket_and_three_tables(cloud: Cloud) -> None:
    assert run().exit_code == 0
    assert [each["Name"] for each in cloud.s3.list_buckets()["Buckets"]] == [BUCKET]
    assert sorted(cloud.dynamodb.list_tables()["TableNames"]) == TABLES


def test_the_bucket_is_private_versioned_encrypted_and_tidy(cloud: Cloud) -> None:
    run()
    s3 = cloud.s3
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == REGION
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    assert _default_encryption(s3)["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    rules = {rule.get("ID"): rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]}
    assert rules[ABORT_RULE]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert rules[EXPIRE_RULE]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rules[EXPIRE_RULE]["Expiration"] == {"ExpiredObjectDeleteMarker": True}


def test_the_tables_are_encrypted_paid_by_request_and_recoverable(cloud: Cloud) -> None:
    run()
    for name in TABLES:
        table = cloud.dynamodb.describe_table(TableName=name)["Table"]
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSEDescription"]["Status"] == "ENABLED"
        assert table["DeletionProtectionEnabled"] is False
        assert _is_recoverable(cloud, name)


def test_the_settings_are_followed_and_taken_back(cloud: Cloud) -> None:
    settings = {
        "CALOTYPE_KMS_KEY_ID": "alias/originals",
        "CALOTYPE_TRANSFER_ACCELERATION": "true",
        "CALOTYPE_CORS_ORIGINS": "https://b.example, https://a.example",
        "CALOTYPE_DELETION_PROTECTION": "true",
    }
    run()
    changed = told(outcomes(**settings), "changed")
    assert changed == [
        f"bucket {BUCKET}: default encryption",
        f"bucket {BUCKET}: CORS rule",
        f"bucket {BUCKET}: transfer acceleration",
        *(f"table {name}: deletion protection" for name in TABLES),
    ]
    encryption = _default_encryption(cloud.s3)
    assert encryption["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "alias/originals"
    assert encryption["BucketKeyEnabled"] is True
    (rule,) = cloud.s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"]
    assert rule["AllowedOrigins"] == ["https://a.example", "https://b.example"]

    run()
    assert _default_encryption(cloud.s3)["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    with pytest.raises(ClientError, match="NoSuchCORSConfiguration"):
        cloud.s3.get_bucket_cors(Bucket=BUCKET)
    assert cloud.s3.get_bucket_accelerate_configuration(Bucket=BUCKET)["Status"] == "Suspended"
    table = cloud.dynamodb.describe_table(TableName=TABLES[0])["Table"]
    assert table["DeletionProtectionEnabled"] is True, "a protection is never taken away"


def test_a_prefix_is_put_before_the_names_of_the_tables(cloud: Cloud) -> None:
    run(CALOTYPE_TABLE_PREFIX="beta-")
    assert sorted(cloud.dynamodb.list_tables()["TableNames"]) == [f"beta-{name}" for name in TABLES]


def test_the_first_region_is_not_named_when_a_bucket_is_made_there(cloud: Cloud) -> None:
    assert run(AWS_REGION="us-east-1").exit_code == 0
    place: object = cloud.s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"]
    assert place is None


# ---- doing it again, and only looking


def test_a_second_run_changes_nothing(cloud: Cloud) -> None:
    del cloud
    run()
    assert set(outcomes().values()) == {"unchanged"}


def test_a_check_changes_nothing_and_fails_until_everything_is_there(cloud: Cloud) -> None:
    before = run("--check")
    assert before.exit_code == 1
    assert before.stdout.splitlines() == [
        f"missing:       bucket {BUCKET}",
        *(f"missing:       table {name}" for name in TABLES),
    ]
    assert cloud.s3.list_buckets()["Buckets"] == []
    run()
    assert run("--check").exit_code == 0


def test_a_check_says_what_is_and_what_should_be(cloud: Cloud) -> None:
    run()
    cloud.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    result = run("--check")
    assert result.exit_code == 1
    assert f"differs:       bucket {BUCKET}: versioning: is Suspended, not Enabled" in result.stdout.splitlines()


def test_json_is_one_array_with_both_states(cloud: Cloud) -> None:
    del cloud
    first = json.loads(run("--json").stdout)[0]
    assert first == {
        "outcome": "created",
        "what": f"bucket {BUCKET}",
        "found": None,
        "wanted": REGION,
        "reason": None,
    }


# ---- what others have set up


def test_statements_and_rules_of_others_stay(cloud: Cloud) -> None:
    cloud.make_bucket()
    theirs = {"Sid": "Audit", "Effect": "Deny", "Principal": "*", "Action": "s3:PutBucketAcl", "Resource": "*"}
    cloud.s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [theirs]}))
    cloud.s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={
            "Rules": [{"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 7}}]
        },
    )
    run()
    policy = json.loads(cloud.s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert policy["Statement"][0] == theirs
    assert [each["Sid"] for each in policy["Statement"]] == ["Audit", POLICY_SID]
    rules = cloud.s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [rule.get("ID") for rule in rules] == ["logs", ABORT_RULE, EXPIRE_RULE]
    assert run("--check").exit_code == 0


def test_a_rule_of_our_own_that_somebody_bent_is_put_straight(cloud: Cloud) -> None:
    run()
    rules = cast("list[Any]", cloud.s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"])
    next(rule for rule in rules if rule["ID"] == EXPIRE_RULE)["NoncurrentVersionExpiration"]["NoncurrentDays"] = 365
    cloud.s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules})
    assert told(outcomes(), "changed") == [f"bucket {BUCKET}: lifecycle rules"]


def test_a_missing_index_is_made(cloud: Cloud) -> None:
    metadata = cast("dict[str, Any]", definitions(Tables())[0])
    del metadata["GlobalSecondaryIndexes"]
    metadata["AttributeDefinitions"] = metadata["AttributeDefinitions"][:2]
    cloud.dynamodb.create_table(**metadata)
    created = told(outcomes(), "created")
    assert f"table images-metadata: index {OWNER_INDEX}" in created
    assert f"table images-metadata: index {TITLE_INDEX}" in created
    assert run("--check").exit_code == 0


def test_a_table_with_other_keys_is_left_alone_and_the_rest_is_done(cloud: Cloud) -> None:
    cloud.dynamodb.create_table(
        TableName="images-postings",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    result = run()
    assert result.exit_code == 1
    (failure,) = [line for line in result.stdout.splitlines() if line.startswith("failed")]
    assert "images-postings: has the keys {'id': 'HASH S'}" in failure
    assert sorted(cloud.dynamodb.list_tables()["TableNames"]) == TABLES
    assert not _is_recoverable(cloud, "images-postings")


def test_a_provisioned_table_is_turned_to_pay_by_request(cloud: Cloud) -> None:
    postings = cast("dict[str, Any]", definitions(Tables())[1])
    del postings["SSESpecification"]
    postings |= {
        "BillingMode": "PROVISIONED",
        "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    }
    cloud.dynamodb.create_table(**postings)
    stores = table_aspects(cloud.dynamodb, Tables(), deletion_protection=False)
    found = found_by(provision, stores, IMPATIENT)
    assert found["table images-postings: billing mode"].outcome is Outcome.CHANGED
    mode = cloud.dynamodb.describe_table(TableName="images-postings")["Table"]["BillingModeSummary"]["BillingMode"]
    assert mode == "PAY_PER_REQUEST"
    # moto takes this change and forgets it: just what has to be reported.
    assert found["table images-postings: encryption"].outcome is Outcome.NOT_SUPPORTED


# ---- servers that say no


def answer(client: Any, operation: str, status: int, code: str, *, times: int = 1000) -> None:
    """Let a client's operation be answered with an error."""
    service = client.meta.service_model.service_name
    body = (
        f"<Error><Code>{code}</Code><Message>no</Message></Error>" if service == "s3" else json.dumps({"__type": code})
    )

    def respond(*, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        nonlocal times
        if event_name.rpartition(".")[2] != operation or times == 0:
            return botocore_stubber(event_name, request)
        times -= 1
        return AWSResponse(request.url, status, HTTPHeaders(), MockRawResponse(body))

    # In moto's place, not before it: botocore calls every handler, and takes the first answer.
    client.meta.events.unregister("before-send", botocore_stubber)
    client.meta.events.register(f"before-send.{service}", respond)


def found_by(how: Callable[..., Iterator[Finding]], aspects: Any, *patience: Patience) -> dict[str, Finding]:
    return {finding.what: finding for finding in how(aspects, *patience)}


def test_what_the_server_does_not_implement_is_reported_and_fails_nothing(cloud: Cloud) -> None:
    answer(cloud.s3, "PutBucketAccelerateConfiguration", 501, "NotImplemented")
    answer(cloud.dynamodb, "DescribeContinuousBackups", 400, "UnknownOperationException")
    plan = BucketPlan(BUCKET, region=REGION, acceleration=True)
    stores = [bucket_aspects(cloud.s3, plan), *table_aspects(cloud.dynamodb, Tables(), deletion_protection=False)]
    found = found_by(provision, stores, IMPATIENT)
    assert [what for what, each in found.items() if each.outcome is Outcome.NOT_SUPPORTED] == [
        f"bucket {BUCKET}: transfer acceleration",
        *(f"table {name}: point-in-time recovery" for name in TABLES),
    ]
    assert all(each.outcome.is_as_wanted for each in found.values())


@pytest.mark.parametrize(("status", "code"), [(405, "MethodNotAllowed"), (400, "UnsupportedArgument")])
def test_a_region_without_transfer_acceleration_fails_nothing(cloud: Cloud, status: int, code: str) -> None:
    cloud.make_bucket()
    answer(cloud.s3, "GetBucketAccelerateConfiguration", status, code)
    found = found_by(provision, [bucket_aspects(cloud.s3, BucketPlan(BUCKET, region=REGION))], IMPATIENT)
    assert found[f"bucket {BUCKET}: transfer acceleration"].outcome is Outcome.NOT_SUPPORTED


def test_unsupported_things_are_a_warning(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    del cloud
    # moto answers only hosts of AWS; a check asks nothing of the bucket that the endpoint's scheme doesn't tell.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://s3.{REGION}.amazonaws.com")
    result = run()
    assert result.exit_code == 0
    assert "not supported: bucket image-uploads: policy against plain HTTP: the endpoint speaks plain" in result.stdout
    assert result.stderr == "Warning: 1 not supported by this server\n"


def test_somebody_elses_bucket_is_told_plainly(cloud: Cloud) -> None:
    answer(cloud.s3, "HeadBucket", 403, "403")
    (finding,) = compare([bucket_aspects(cloud.s3, BucketPlan(BUCKET, region=REGION))])
    assert finding.outcome is Outcome.FAILED
    assert str(finding.reason).startswith("it belongs to another account, or these credentials lack s3:ListBucket")


def test_a_bucket_in_another_region_is_told_plainly(cloud: Cloud) -> None:
    cloud.make_bucket()
    result = run("--check", AWS_REGION="eu-west-1")
    assert f"failed:        bucket {BUCKET}: is in {REGION} and not in eu-west-1" in result.stdout
    assert result.exit_code == 1


def test_a_table_that_another_run_makes_between_look_and_leap_is_taken_as_it_is(cloud: Cloud) -> None:
    (store, *_) = table_aspects(cloud.dynamodb, Tables(), deletion_protection=False)

    def be_faster(**_: object) -> None:
        cloud.dynamodb.meta.events.unregister("before-call.dynamodb.CreateTable", be_faster)
        cloud.dynamodb.create_table(**definitions(Tables())[0])

    cloud.dynamodb.meta.events.register("before-call.dynamodb.CreateTable", be_faster)
    outcome = next(provision([store], Patience(sleep=lambda _: None))).outcome
    assert outcome is Outcome.UNCHANGED


def test_a_table_that_is_being_changed_is_waited_for(cloud: Cloud) -> None:
    (store, *_) = table_aspects(cloud.dynamodb, Tables(), deletion_protection=False)
    answer(cloud.dynamodb, "UpdateContinuousBackups", 400, "ContinuousBackupsUnavailableException", times=2)
    waits: list[float] = []
    found = found_by(provision, [store], Patience(sleep=waits.append))
    assert found["table images-metadata: point-in-time recovery"].outcome is Outcome.CHANGED
    assert len(waits) == 2


@pytest.mark.parametrize("code", ["ResourceInUseException", "LimitExceededException"])
def test_a_table_that_can_not_be_made_yet_is_tried_again(cloud: Cloud, code: str) -> None:
    (store, *_) = table_aspects(cloud.dynamodb, Tables(), deletion_protection=False)
    answer(cloud.dynamodb, "CreateTable", 400, code, times=2)
    assert next(provision([store], Patience(sleep=lambda _: None))).outcome is Outcome.CREATED


def test_the_embedded_default_needs_no_bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(CALOTYPE_STORAGE="embedded")
    assert result.exit_code == 1
    assert "set CALOTYPE_STORAGE=aws" in result.stderr


def _default_encryption(s3: "S3Client") -> Any:
    (rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    return rule


def _is_recoverable(cloud: Cloud, table: str) -> bool:
    answer = cloud.dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    return answer["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
