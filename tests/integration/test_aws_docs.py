"""The page for AWS gives a reason for every right that the policy grants, and for no other."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_action_of_the_policy_has_its_reason() -> None:
    policy = json.loads((ROOT / "deploy" / "iam-policy.json").read_text())
    actions = [statement["Action"] for statement in policy["Statement"]]
    granted = {action for each in actions for action in ([each] if isinstance(each, str) else each)}
    rows = re.findall(
        r"^\| (`(?:s3|dynamodb):.+?) \| .+ \| .+ \|$", (ROOT / "docs" / "aws.md").read_text(), re.MULTILINE
    )
    explained = [action for row in rows for action in re.findall(r"`([\w:]+)`", row)]
    assert sorted(explained) == sorted(granted)
