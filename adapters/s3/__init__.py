"""Originals in an S3 bucket: the ObjectStore port, and presigned URLs at the speed of a listing."""

from adapters.s3.audit import S3ObjectAudit
from adapters.s3.client import client_config
from adapters.s3.objects import S3Objects
from adapters.s3.presign import Presigner

__all__ = ["Presigner", "S3ObjectAudit", "S3Objects", "client_config"]
