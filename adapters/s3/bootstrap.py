"""The bucket's wanted state, aspect by aspect: what `calotype bootstrap` compares and provides.

Policy, lifecycle and CORS are lists that others may have entries in: only entries under names of our own are compared
and written, and the rest is written back as it was read. S3 has no conditional write of these, so a change that
somebody else makes between that read and the write is lost; nothing is written while ours are as they should be.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from application.provisioning import Aspect, InMotion, Refused, State, Unsupported
from domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

POLICY_SID = "CalotypeDenyPlainHttp"
ABORT_RULE = "calotype-abort-incomplete-uploads"
EXPIRE_RULE = "calotype-expire-old-versions"
CORS_RULE = "calotype-browsers"

_US_EAST_1 = "us-east-1"
_PRIVATE = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_IN_MOTION = frozenset(
    {
        "OperationAborted",  # a conflicting change is under way
        "BucketAlreadyOwnedByYou",  # another run has just created it
        "SlowDown",
    }
)
_UNSUPPORTED = frozenset(
    {
        "NotImplemented",
        "MethodNotAllowed",
        "UnsupportedOperation",
        "UnsupportedArgument",  # Transfer Acceleration in China and GovCloud, even when it is only asked for
    }
)
_NOT_SET = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchCORSConfiguration",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
_HINTS = {
    "403": "it belongs to another account, or these credentials lack s3:ListBucket",
    "BucketAlreadyExists": "the name belongs to another account; choose another",
}

Entry = Mapping[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """What the bucket is to be.

    Args:
        name: its name.
        region: where it is.
        kms_key_id: the KMS key of its default encryption (SSE-KMS); None leaves the keys to S3 (SSE-S3).
        cors_origins: the origins whose scripts may read objects; images in pages need none.
        acceleration: whether S3 Transfer Acceleration is on.
    """

    name: str
    _: KW_ONLY
    region: str
    kms_key_id: str | None = None
    cors_origins: Sequence[str] = ()
    acceleration: bool = False


def bucket_aspects(client: "S3Client", plan: BucketPlan) -> tuple[Aspect, ...]:
    """Return what is to be true of the bucket; that it exists comes first.

    Args:
        client: one that does not go through Transfer Acceleration, which is not there before it is switched on.
        plan: what it is to be.
    """
    bucket = _Bucket(client, plan)
    return (
        bucket,
        _PublicAccessBlock(bucket),
        _Policy(bucket),
        _Versioning(bucket),
        _Encryption(bucket),
        _Lifecycle(bucket),
        _Cors(bucket),
        _Acceleration(bucket),
    )


@dataclass(frozen=True, slots=True)
class _Bucket:
    """It exists, in its region, and it is ours."""

    client: "S3Client"
    plan: BucketPlan

    @property
    def what(self) -> str:
        return f"bucket {self.plan.name}"

    @property
    def wanted(self) -> State:
        return self.plan.region

    def read(self) -> State:
        try:
            with _translated():
                reply = self.client.head_bucket(Bucket=self.plan.name)
        except _Absent:
            return None
        region = reply.get("BucketRegion", self.plan.region)
        if region != self.plan.region:
            raise Refused(f"is in {region} and not in {self.plan.region}; choose that region, or another name")
        return region

    def write(self) -> None:
        # That region has no name here, for it was once the only one.
        place: Any = {"LocationConstraint": self.plan.region}
        where = {} if self.plan.region == _US_EAST_1 else {"CreateBucketConfiguration": place}
        with _translated():
            self.client.create_bucket(Bucket=self.plan.name, **where)

    def ask(self, operation: Callable[..., _T], **arguments: Any) -> _T:
        """Call an operation on the bucket."""
        with _translated():
            return operation(Bucket=self.plan.name, **arguments)


@dataclass(frozen=True, slots=True)
class _PublicAccessBlock:
    bucket: _Bucket
    wanted: State = _PRIVATE

    @property
    def what(self) -> str:
        return f"{self.bucket.what}: public access block"

    def read(self) -> State:
        try:
            reply = self.bucket.ask(self.bucket.client.get_public_access_block)
        except _NotSet:
            return ()
        found = reply["PublicAccessBlockConfiguration"]
        return tuple(name for name in _PRIVATE if found.get(name))

    def write(self) -> None:
        self.bucket.ask(
            self.bucket.client.put_public_access_block,
            PublicAccessBlockConfiguration=dict.fromkeys(_PRIVATE, True),
        )


@dataclass(frozen=True, slots=True)
class _Policy:
    """A statement of the bucket's policy refuses plain HTTP to everybody."""

    bucket: _Bucket

    @property
    def what(self) -> str:
        return f"{self.bucket.what}: policy against plain HTTP"

    @property
    def wanted(self) -> State:
        arn = f"arn:{self.bucket.client.meta.partition}:s3:::{self.bucket.plan.name}"
        return {
            "Sid": POLICY_SID,
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }

    def read(self) -> State:
        if urlsplit(self.bucket.client.meta.endpoint_url).scheme == "http":
            raise Unsupported("the endpoint speaks plain HTTP, so the policy would shut the service out")
        return next((_in_order(each) for each in self._statements() if each.get("Sid") == POLICY_SID), None)

    def write(self) -> None:
        policy = self._policy()
        others = [each for each in self._statements() if each.get("Sid") != POLICY_SID]
        amended = {"Version": "2012-10-17", **policy, "Statement": [*others, self.wanted]}
        self.bucket.ask(self.bucket.client.put_bucket_policy, Policy=json.dumps(amended))

    def _policy(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.bucket.ask(self.bucket.client.get_bucket_policy)["Policy"]))
        except _NotSet:
            return {}

    def _statements(self) -> list[dict[str, Any]]:
        statements = self._policy().get("Statement", [])
        return [statements] if isinstance(statements, dict) else statements  # one may stand without its list


@dataclass(frozen=True, slots=True)
class _Versioning:
    bucket: _Bucket
    wanted: State = "Enabled"

    @property
    def what(self) -> str:
        return f"{self.bucket.what}: versioning"

    def read(self) -> State:
        return self.bucket.ask(self.bucket.client.get_bucket_versioning).get("Status", "off")

    def write(self) -> None:
        self.bucket.ask(self.bucket.client.put_bucket_versioning, VersioningConfiguration={"Status": "Enabled"})


@dataclass(frozen=True, slots=True)
class _Encryption:
    """What S3 does to objects that come without a wish of their own, and what it refuses to do, which stays."""

    bucket: _Bucket

    @property
    def what(self) -> str:
        return f"{self.bucket.what}: default encryption"

    @property
    def wanted(self) -> State:
        if (key := self.bucket.plan.kms_key_id) is None:
            return {"SSEAlgorithm": "AES256"}
        # A bucket key spares a call (and a fee) of KMS for each object.
        return {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key, "BucketKeyEnabled": True}

    def read(self) -> State:
        rule = self._rule()
        found = dict(rule.get("ApplyServerSideEncryptionByDefault", {}))
        if found.get("SSEAlgorithm") == "aws:kms":
            found["BucketKeyEnabled"] = rule.get("BucketKeyEnabled", False)
        return found

    def write(self) -> None:
        key = self.bucket.plan.kms_key_id
        default = {"SSEAlgorithm": "AES256"} if key is None else {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        rule = {
            **self._rule(),
            "ApplyServerSideEncryptionByDefault": default,
            "BucketKeyEnabled": key is not None,
        }
        self.bucket.ask(self.bucket.client.put_bucket_encryption, ServerSideEncryptionConfiguration={"Rules": [rule]})

    def _rule(self) -> Entry:
        try:
            reply = self.bucket.ask(self.bucket.client.get_bucket_encryption)
        except _NotSet:
            return {}
        return next(iter(reply["ServerSideEncryptionConfiguration"]["Rules"]), {})


@dataclass(frozen=True, slots=True)
class _Lifecycle:
    """What deletions and broken uploads leave behind goes by itself."""

    bucket: _Bucket

    @property
    def what(self) -> str:
        return f"{self.bucket.what}: lifecycle rules"

    @property
    def wanted(self) -> State:
        return [
            {
                "ID": ABORT_RULE,
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            },
            {
                "ID": EXPIRE_RULE,
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                "Expiration": {"ExpiredObjectDeleteMarker": True},
            },
        ]

    def read(self) -> State:
        return _by_id(_whole_bucket(rule) for rule in self._configuration().get("Rules", ()) if _is_ours(rule))

    def write(self) -> None:
        found = self._configuration()
        amended: dict[str, Any] = {"LifecycleConfiguration": {"Rules": _amended(found.get("Rules", ()), self.wanted)}}
        # Left out, it would be set back to its default.
        if (smallest := found.get("TransitionDefaultMinimumObjectSize")) is not None:
            amended["TransitionDefaultMinimumObjectSize"] = smallest
        self.bucket.ask(self.bucket.client.put_bucket_lifecycle_configuration, **amended)

    def _configuration(self) -> Entry:
        try:
            return self.bucket.ask(self.bucket.client.get_bucket_lifecycle_configuration)
        except _NotSet:
            return {}


@dataclass(frozen=True, slots=True)
class _Cors:
    """Scripts of the origins may read objects by presigned URLs. Without origins there is no rule of ours."""

    bucket: _Bucket

    @property
    def what(self) -> str:
        return f"{self.bucket.what}: CORS rule"

    @property
    def wanted(self) -> State:
        if not self.bucket.plan.cors_origins:
            return []
        rule: Entry = {
            "ID": CORS_RULE,
            "AllowedOrigins": sorted(self.bucket.plan.cors_origins),
            "AllowedMethods": ["GET", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag"],
            "MaxAgeSeconds": 3600,
        }
        return [rule]

    def read(self) -> State:
        return [_in_order(rule) for rule in self._rules() if _is_ours(rule)]

    def write(self) -> None:
        rules = _amended(self._rules(), self.wanted)
        if rules:
            self.bucket.ask(self.bucket.client.put_bucket_cors, CORSConfiguration={"CORSRules": rules})
        else:
            self.bucket.ask(self.bucket.client.delete_bucket_cors)

    def _rules(self) -> Sequence[Entry]:
        try:
            return self.bucket.ask(self.bucket.client.get_bucket_cors)["CORSRules"]
        except _NotSet:
            return ()


@dataclass(frozen=True, slots=True)
class _Acceleration:
    bucket: _Bucket

    @property
    def what(self) -> str:
        return f"{self.bucket.what}: transfer acceleration"

    @property
    def wanted(self) -> State:
        return self.bucket.plan.acceleration

    def read(self) -> State:
        return self.bucket.ask(self.bucket.client.get_bucket_accelerate_configuration).get("Status") == "Enabled"

    def write(self) -> None:
        status = "Enabled" if self.bucket.plan.acceleration else "Suspended"
        self.bucket.ask(
            self.bucket.client.put_bucket_accelerate_configuration, AccelerateConfiguration={"Status": status}
        )


# ---- lists that others may have entries in


def _is_ours(rule: Entry) -> bool:
    return rule.get("ID") in {ABORT_RULE, EXPIRE_RULE, CORS_RULE}


def _amended(found: Sequence[Entry], ours: Any) -> list[Entry]:
    return [*(rule for rule in found if not _is_ours(rule)), *ours]


def _by_id(rules: Iterator[Entry]) -> State:
    return sorted((dict(rule) for rule in rules), key=lambda rule: str(rule["ID"]))


def _whole_bucket(rule: Entry) -> Entry:
    """Write "all objects" in the one way of the several that servers answer with."""
    if rule.get("Filter", {}).get("Prefix", "") or rule.get("Prefix", ""):
        return rule
    return {**{name: value for name, value in rule.items() if name != "Prefix"}, "Filter": {"Prefix": ""}}


def _in_order(entry: Entry) -> dict[str, State]:
    """Put lists that are sets in order, for servers may keep them in any."""
    return {name: sorted(value) if isinstance(value, list) else value for name, value in entry.items()}


# ---- errors


class _Absent(InMotion):
    """There is no such bucket; or not yet, everywhere."""


class _NotSet(Exception):
    """The bucket has no configuration of this kind."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the client raises into the errors of provisioning: the one table."""
    try:
        yield
    except ClientError as error:
        hint = _HINTS.get(error.response["Error"]["Code"])
        raise _meaning(error)(str(error) if hint is None else f"{hint} ({error})") from error
    except BotoCoreError as error:
        raise Unavailable(str(error)) from error


def _meaning(error: ClientError) -> Callable[[str], Exception]:
    code = error.response["Error"]["Code"]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NOT_SET:
        return _NotSet
    if code in {"404", "NoSuchBucket"}:
        return _Absent
    if code in _IN_MOTION:
        return InMotion
    if code in _UNSUPPORTED or status == HTTPStatus.NOT_IMPLEMENTED:
        return Unsupported
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable
    return Refused
