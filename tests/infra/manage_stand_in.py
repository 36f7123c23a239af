"""Takes the place of `manage.py` in the tests of hooks: keeps rows in a file, and fails as often as the test says."""

import json
import os
import sys
from pathlib import Path
from typing import Any

MADE_UP = "amber-otter-mango-thud"
STATE = Path(os.environ["STAND_IN_STATE"])


def main(arguments: list[str]) -> int:
    state = json.loads(STATE.read_text())
    state["calls"].append(arguments)
    failure = state["failures"].get(" ".join(arguments[:2]), {"times": 0})
    status = run(state, arguments) if not failure["times"] else int(failure["status"])
    if failure["times"]:
        failure["times"] -= 1
        sys.stderr.write(f"{failure['message']}\n")
    STATE.write_text(json.dumps(state))
    return status


def run(state: dict[str, Any], arguments: list[str]) -> int:
    match arguments:
        case ["events", "list", *_]:
            events = [{"code": code, "name": options["--name"]} for code, options in state["events"].items()]
            sys.stdout.write(json.dumps(events))
        case ["events", "create", *options, "--json"]:
            code = options.pop(0) if len(options) % 2 else MADE_UP
            state["events"][code] = dict(zip(options[::2], options[1::2], strict=True))
            sys.stdout.write(json.dumps({"code": code}))
        case ["events", "show", code, "--json"]:
            totals = {name: state["events"][code].get(f"--{name}-total") for name in ("requests", "tokens")}
            fields = {f"{name}_total": int(total) if total else None for name, total in totals.items()}
            sys.stdout.write(json.dumps(fields))
        case ["deployments", "list", *_]:
            sys.stdout.write(json.dumps(state["deployments"]))
        case ["deployments", "add", model, "--endpoint", endpoint, "--deployment", name, *_]:
            state["deployments"].append({"model": model, "endpoint": endpoint, "deployment_name": name})
        case _:
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
