"""AWS for end-to-end tests: ministack in a process of its own, or whatever ``AWS_ENDPOINT_URL`` names.

ministack checks signatures, policies and checksums, which moto does not. `make test` sets it up.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
import httpx

from adapters.dynamodb import Tables
from tests.waiting import PATIENCE_S, reserve_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ROOT = Path(__file__).parent.parent
_PROGRAM = _ROOT / ".venv-ministack" / "bin" / "ministack"
_REGION = "eu-central-1"
_START_TIMEOUT_S = 2 * PATIENCE_S


class Ministack:
    """One server on a free port of the loopback interface, its state in a folder. Stop it, and start it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = reserve_port(self)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        # Its own names for these are AWS's, so they are whoever is root there.
        self.root = {"AWS_ACCESS_KEY_ID": "root", "AWS_SECRET_ACCESS_KEY": secrets.token_hex()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        if not _PROGRAM.exists():
            raise RuntimeError("ministack, which these tests speak AWS with, is not set up: run `make test`")
        for name in ("state", "s3", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_PROGRAM],
                env={
                    **self.root,
                    "BIND_HOST": "127.0.0.1",
                    "GATEWAY_PORT": str(self.port),
                    "SERVICES": "dynamodb,iam,s3,sts",
                    "MINISTACK_REGION": _REGION,
                    "AUTH": "true",
                    "PERSIST_STATE": "1",
                    "STATE_DIR": str(self.folder / "state"),
                    "S3_PERSIST": "1",
                    "S3_DATA_DIR": str(self.folder / "s3"),
                    "TMPDIR": str(self.folder / "tmp"),
                    "HOME": str(self.folder),
                    "LOG_LEVEL": "WARNING",
                    "PATH": os.environ["PATH"],
                },
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """Ask it to end (SIGTERM): it writes its state to disk first."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE_S)
            finally:
                self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL). Its state is that of the last time it was stopped."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None

    def new_user(self, name: str, policy: str) -> dict[str, str]:
        """Return the credentials of a user who may do what the policy says, as environment variables."""
        iam = boto3.Session(
            self.root["AWS_ACCESS_KEY_ID"], self.root["AWS_SECRET_ACCESS_KEY"], region_name=_REGION
        ).client("iam", endpoint_url=self.url)
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/_ministack/health", timeout=PATIENCE_S).status_code == httpx.codes.OK:
                    return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"ministack did not start:\n{self.log.read_text(errors='replace')[-4000:]}")


@dataclass(frozen=True)
class Account:
    """A bucket and tables, made by ``calotype bootstrap``, and whom a server speaks for there."""

    bucket: str
    prefix: str
    environment: Mapping[str, str]
    """Of a server on them."""
    operator: Mapping[str, str]
    """Of one who may bootstrap."""
    root: Mapping[str, str]
    """Of one who may do everything."""

    @cached_property
    def s3(self) -> "S3Client":
        return self._session.client("s3", endpoint_url=self.root.get("AWS_ENDPOINT_URL"))

    def stored(self) -> set[str]:
        """Return all there is of objects: every version of each, and uploads under way."""
        found = self.s3.list_object_versions(Bucket=self.bucket)
        uploads = self.s3.list_multipart_uploads(Bucket=self.bucket)
        return {f"{each['Key']}?{each['VersionId']}" for each in found.get("Versions", ())} | {
            f"{each['Key']}?{each['UploadId']}" for each in uploads.get("Uploads", ())
        }

    def keys(self) -> set[str]:
        return {each["Key"] for each in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())}

    def bootstrap(self, *options: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "entrypoints.cli", "bootstrap", *options],
            env={**os.environ, **self.environment, **self.operator},
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def remove(self) -> None:
        """Remove everything, as nobody else would."""
        dynamodb = self._session.client("dynamodb", endpoint_url=self.root.get("AWS_ENDPOINT_URL"))
        tables = Tables(self.prefix)
        for table in (tables.metadata, tables.postings, tables.reclaim):
            dynamodb.delete_table(TableName=table)
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                self.s3.delete_object(Bucket=self.bucket, Key=each["Key"], VersionId=each["VersionId"])
        self.s3.delete_bucket(Bucket=self.bucket)

    @property
    def _session(self) -> boto3.Session:
        return boto3.Session(
            self.root.get("AWS_ACCESS_KEY_ID"),
            self.root.get("AWS_SECRET_ACCESS_KEY"),
            region_name=self.root.get("AWS_REGION"),
        )


@dataclass
class Aws:
    """Where accounts are made: a server that speaks AWS, or AWS itself."""

    user: Mapping[str, str]
    operator: Mapping[str, str]
    root: Mapping[str, str]
    _accounts: list[Account] = field(default_factory=list)

    def new_account(self) -> Account:
        """Make a bucket and tables that nobody else uses."""
        name = secrets.token_hex(4)
        bucket, prefix = f"image-uploads-{name}", f"{name}-"
        stores = {"CALOTYPE_STORAGE": "aws", "CALOTYPE_BUCKET": bucket, "CALOTYPE_TABLE_PREFIX": prefix}
        account = Account(bucket, prefix, {**self.user, **stores}, self.operator, self.root)
        account.bootstrap()
        self._accounts.append(account)
        return account

    def clear(self) -> None:
        for account in self._accounts:
            account.remove()


@contextmanager
def aws(folder: Path) -> Iterator[Aws]:
    """Give what ``AWS_ENDPOINT_URL`` names, which is cleared up behind; else a ministack of its own."""
    if "AWS_ENDPOINT_URL" in os.environ:
        own = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        elsewhere = Aws(own, own, own)
        try:
            yield elsewhere
        finally:
            elsewhere.clear()
    else:
        with Ministack(folder) as ministack:
            yield on(ministack)


def on(ministack: Ministack) -> Aws:
    """Return it with the users whom the policies in deploy/ describe, each of whom may do no more."""
    place = {"AWS_ENDPOINT_URL": ministack.url, "AWS_REGION": _REGION, "AWS_EC2_METADATA_DISABLED": "true"}
    user = ministack.new_user("calotype", _policy("iam-policy.json"))
    operator = ministack.new_user("operator", _policy("iam-policy-bootstrap.json"))
    return Aws({**place, **user}, {**place, **operator}, {**place, **ministack.root})


def _policy(name: str) -> str:
    """Return the policy for what accounts are called here."""
    text = (_ROOT / "deploy" / name).read_text()
    adapted = text.replace(":::image-uploads", ":::image-uploads-*").replace("table/images-", "table/*-images-")
    assert json.loads(adapted) != json.loads(text)
    return adapted
