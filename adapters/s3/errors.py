"""What botocore raises, as the errors of the domain: the one table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import JSONDecodeError

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from domain.errors import CalotypeError, Conflict, NotFound, Unavailable


class KeyTaken(Conflict):
    """A create-only write met an object under its key."""


class Raced(Unavailable):
    """Another write of the same key was under way; S3 asks for the whole upload again."""


class UploadGone(Unavailable):
    """The multipart upload ended already: completed by an attempt whose reply was lost, or aborted."""


# Codes as S3 names them (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html). A HEAD has no body
# to name one in, and then botocore gives the bare status. Whatever is not here is Unavailable.
_BY_CODE: dict[str, Callable[[str], CalotypeError]] = {
    "NoSuchKey": NotFound,
    "404": NotFound,
    "PreconditionFailed": KeyTaken,
    "ConditionalRequestConflict": Raced,
    "NoSuchUpload": UploadGone,
}


@contextmanager
def translated() -> Iterator[None]:
    """Turn failures of S3, and of the way to it, into domain errors; let those pass that are such already.

    OSError is among them: sockets and TLS raise it, and so does the file that an upload is read from. RuntimeError
    is what botocore raises when credentials are still expired after their refresh, and JSONDecodeError when the
    process that should give them prints something else.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise _BY_CODE.get(code, Unavailable)(f"S3 {error.operation_name}: {code}") from error
    except (BotoCoreError, HTTPError, OSError, RuntimeError, JSONDecodeError) as error:
        raise Unavailable(f"S3: {type(error).__name__}") from error
