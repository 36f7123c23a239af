"""Takes the place of `manage.py` in the tests of hooks: keeps rows in a file, and fails as often as the test says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

STATE = Path(os.environ["STAND_IN_STATE"])


def main(arguments: list[str]) -> int:
    state = json.loads(STATE.read_text(encoding="utf-8"))
    state["calls"].append(arguments)
    failure = state["failures"].get(" ".join(arguments[:2]))
    if failure and failure["times"]:
        failure["times"] -= 1
        sys.stderr.write(f"{failure['message']}\n")
        status = int(failure["status"])
    else:
        status = run(state, arguments)
    STATE.write_text(json.dumps(state), encoding="utf-8")
    return status


def run(state: dict[str, Any], arguments: list[str]) -> int:
    match arguments:
        case ["events", "list", *_]:
            sys.stdout.write(json.dumps([{"code": code} for code in state["events"]]))
        case ["events", "create", code, *options]:
            state["events"][code] = dict(zip(options[::2], options[1::2], strict=True))
        case ["deployments", "list", *_]:
            sys.stdout.write(json.dumps(state["deployments"]))
        case ["deployments", "add", model, "--endpoint", endpoint, "--deployment", name, *_]:
            state["deployments"].append({"model": model, "endpoint": endpoint, "deployment_name": name})
        case _:
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
