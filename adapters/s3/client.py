"""How the boto3 client for S3 is configured. Building it, and finding credentials, is the container's business."""

from typing import TYPE_CHECKING, Any, Literal

from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_UNASKED_MAX_BYTES = 1024 * 1024


def send_small_unasked(client: "S3Client") -> None:
    """Make the client send bodies of up to 1 MiB at once. May be repeated.

    Before each file botocore asks for leave (``Expect: 100-continue``) and waits for it: a round trip. That spares the
    sending of a large body that is refused; a small one is there by then.
    """
    # Last: behind botocore's own, which puts the header there.
    client.meta.events.register_last("before-call.s3", _send_unasked, unique_id="calotype-unasked")


def _send_unasked(params: dict[str, Any], **_event: object) -> None:
    headers = params["headers"]
    if int(headers.get("Content-Length", _UNASKED_MAX_BYTES + 1)) <= _UNASKED_MAX_BYTES:
        headers.pop("Expect", None)


def client_config(
    pool_size: int,
    *,
    connect_timeout_s: float = 2,
    read_timeout_s: float = 10,
    attempts: int = 3,
    addressing_style: Literal["auto", "virtual", "path"] = "auto",
    accelerate: bool = False,
    user_agent: str | None = None,
) -> Config:
    """Return the configuration of a client for `S3Objects` and `Presigner`.

    Args:
        pool_size: connections kept; as many as threads may call at once (botocore's default of 10 starves a pool).
        connect_timeout_s: for one attempt to connect.
        read_timeout_s: for one wait on the socket, to send or to receive.
        attempts: tries of one request in all, the first included. One for a client that only answers health checks.
        addressing_style: "virtual" is best on AWS: under "auto", botocore presigns for the global host
            ``{bucket}.s3.amazonaws.com``, which redirects to the region (and so breaks the signature) until a new
            bucket's name has spread. Other servers want "auto", which means path style for them.
        accelerate: go through S3 Transfer Acceleration.
        user_agent: what to say who asks; botocore's own words are put together anew for each request, twice.
    """
    return Config(
        signature_version="s3v4",
        user_agent=user_agent,
        max_pool_connections=pool_size,
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        parameter_validation=False,
        # Originals carry their own SHA-256; botocore's CRC trailers would read the bytes once more.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": addressing_style,
            "use_accelerate_endpoint": accelerate,
            # The checksum is a signed header, so the signature covers the bytes without another hash of them.
            "payload_signing_enabled": False,
        },
    )
