"""Takes the place of `manage.py` in the tests of hooks: records its calls, and fails as often as a row says."""

import json
import os
import sys
from pathlib import Path

OUTPUTS: dict[str, object] = {
    "events list": [],
    "events create": {"code": "amber-otter-mango-thud"},
    "events show": {"requests_total": 10_000, "tokens_total": 10_000_000},
    "deployments list": [],
    "deployments add": None,
}

path = Path(os.environ["STAND_IN_STATE"])
state = json.loads(path.read_text())
command, failure = " ".join(sys.argv[1:3]), state["failure"]
state["calls"].append(sys.argv[1:])
is_failure = failure["command"] == command and failure["times"] > 0
if is_failure:
    failure["times"] -= 1
path.write_text(json.dumps(state))
if is_failure:
    sys.stderr.write(f"{failure['message']}\n")
    sys.exit(failure["status"])
sys.stdout.write(json.dumps(OUTPUTS[command]))
