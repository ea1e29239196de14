"""The API does what its OpenAPI document says, whatever is asked: Schemathesis asks, a real server answers.

All its checks are on, in all its phases, along the links that the document declares. Two users ask, each with a token,
so that what is let through without one, or shown to the other, is found too.

`make fuzz` does the same for minutes, with another seed each time: FUZZ_SECONDS=600, FUZZ_SEED=1.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import issuer
from tests.e2e.client import fetch
from tests.service import Service

_ROOT = Path(__file__).parent.parent.parent
_CONFIGURATION = Path(__file__).parent / "contract" / "schemathesis.toml"
_SECONDS = os.environ.get("FUZZ_SECONDS")
_SEED = os.environ.get("FUZZ_SEED", "1")
_HOUR_S = 3600


def test_the_api_does_what_its_document_says(open_service: Callable[..., Service], tmp_path: Path) -> None:
    print(f"FUZZ_SEED={_SEED}", flush=True)  # noqa: T201 (for whoever stops `make fuzz` half-way)
    with open_service(settings=_settings_for_tokens(tmp_path)) as service:
        run = _schemathesis(service, tmp_path)
        described = fetch(f"{service.base_url}/openapi.json").json()
        log = service.log.read_text()
    print(run.stdout)  # noqa: T201 (shown when something fails, and by `make fuzz`)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Traceback" not in log

    answered = json.loads((tmp_path / "answered.json").read_text())
    missed = {name: statuses for name, statuses in _successes(described).items() if statuses - set(answered[name])}
    assert missed == {}, "it never got this far"


def _schemathesis(service: Service, folder: Path) -> subprocess.CompletedProcess[str]:
    effort = [] if _SECONDS is None else ["--max-time", _SECONDS]
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", _CONFIGURATION),
            *("run", f"{service.base_url}/openapi.json", "--seed", _SEED, *effort),
        ],
        env={**os.environ, "USERS": str(_users(folder)), "ANSWERED": str(folder / "answered.json")},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _settings_for_tokens(folder: Path) -> dict[str, str]:
    keys = folder / "keys.json"
    keys.write_bytes(issuer.key_set(issuer.public_jwk()))
    return {
        "CALOTYPE_AUTH": "jwt",
        "CALOTYPE_JWT_JWKS": str(keys),
        "CALOTYPE_JWT_ISSUER": issuer.ISSUER,
        "CALOTYPE_JWT_AUDIENCE": issuer.AUDIENCE,
    }


def _users(folder: Path) -> Path:
    """Write down who asks, in the form of Web Fuzzing Commons."""
    ends = int(time.time()) + int(_SECONDS or 0) + _HOUR_S
    users = [
        {
            "name": name,
            "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {issuer.token(sub=name, exp=ends)}"}],
        }
        for name in ("ada", "bob")
    ]
    path = folder / "users.json"
    path.write_text(json.dumps({"auth": users}))
    return path


def _successes(described: dict[str, Any]) -> dict[str, set[int]]:
    return {
        operation["operationId"]: {int(status) for status in operation["responses"] if status < "4"}
        for item in described["paths"].values()
        for name, operation in item.items()
        if name != "parameters"
    }
