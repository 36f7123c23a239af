"""Stands for `manage.py` in the tests of hooks: keeps rows in a file, and refuses as often as it is told."""

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
    status = _refuse(state, arguments) or _answer(state, arguments)
    STATE.write_text(json.dumps(state), encoding="utf-8")
    return status


def _refuse(state: dict[str, Any], arguments: list[str]) -> int:
    refusal = state["refusals"].get(" ".join(arguments[:2]))
    if not refusal or refusal["times"] == 0:
        return 0
    refusal["times"] -= 1
    sys.stderr.write(f"{refusal['message']}\n")
    return int(refusal["status"])


def _answer(state: dict[str, Any], arguments: list[str]) -> int:
    match arguments:
        case ["events", "list", *_]:
            _say([{"code": code} for code in state["events"]])
        case ["events", "create", code, *options]:
            state["events"][code] = dict(zip(options[::2], options[1::2], strict=True))
        case ["deployments", "list", *_]:
            _say(state["deployments"])
        case ["deployments", "add", model, "--endpoint", endpoint, "--deployment", name, *_]:
            state["deployments"].append({"model": model, "endpoint": endpoint, "deployment_name": name})
        case _:
            return 2
    return 0


def _say(rows: list[Any]) -> None:
    sys.stdout.write(json.dumps(rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
