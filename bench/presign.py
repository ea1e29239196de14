"""What it costs to sign the URLs of a page of 100: ours against botocore's generate_presigned_url, in one run."""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.credentials import Credentials

from adapters.s3 import Presigner, client_config
from adapters.system import SystemClock
from bench.table import markdown
from domain.disposition import content_disposition

_ROUNDS, _PAGE = 25, 100
_BUCKET = "image-uploads"


def measure(folder: Path, *, is_quick: bool) -> str:
    """Return a table of microseconds a URL, and their ratio."""
    del folder, is_quick  # it takes a second
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    client = boto3.client(
        "s3",
        region_name="eu-central-1",
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=client_config(1, addressing_style="virtual"),
    )
    presigner = Presigner(client, _BUCKET, credentials, clock=SystemClock())
    disposition = content_disposition("inline", "photo.jpg")

    def ours(key: str) -> object:
        return presigner.sign(key, content_type="image/jpeg", content_disposition=disposition, ttl_s=3600)

    def botocores(key: str) -> object:
        parameters = {
            "Bucket": _BUCKET,
            "Key": key,
            "ResponseContentType": "image/jpeg",
            "ResponseContentDisposition": disposition,
        }
        return client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=3600)

    keys = [f"images/{number:08d}-0000-4000-8000-000000000000/photo.jpg" for number in range(_PAGE)]
    times: dict[str, list[float]] = {"ours": [], "botocore": []}
    for _ in range(_ROUNDS):
        times["ours"].append(_us_each(ours, keys))
        times["botocore"].append(_us_each(botocores, keys))
    ratios = sorted(mine / theirs for mine, theirs in zip(times["ours"], times["botocore"], strict=True))
    return markdown(
        f"Signing the URLs of a page of {_PAGE} (median of {_ROUNDS} interleaved rounds, {datetime.now(UTC):%Y-%m-%d})",
        ["ours, us a URL", "botocore, us a URL", "ratio: min, median, max"],
        [
            [
                *(f"{statistics.median(times[who]):.1f}" for who in ("ours", "botocore")),
                f"{ratios[0]:.3f}, {statistics.median(ratios):.3f}, {ratios[-1]:.3f}",
            ]
        ],
    )


def _us_each(sign: Callable[[str], object], keys: list[str]) -> float:
    begun = time.perf_counter()
    for key in keys:
        sign(key)
    return (time.perf_counter() - begun) / len(keys) * 1e6
