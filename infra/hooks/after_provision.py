"""After `azd provision`: waits until the new roles work, so that the deployment does not meet a 403.

Azure spreads role assignments over minutes. What can be seen from here is the administrator's own role on the
tables; the app's roles were assigned together with it, so they get a short while more.
"""

from __future__ import annotations

import os
import sys
import time

from administrator import is_out_of_reach, manage
from waiting import Attempt, StopError, give_time, say, wait_for

_HELD_BACK = 30.0
"""Seconds for the app's roles, when the administrator's were not there at once."""


def main() -> int:
    if is_out_of_reach():
        say("The tables are private, and ADMIN_IP_ADDRESSES names no address: roles are not waited for.")
        return 0
    say("Waiting until the roles work. Azure can take some minutes over them.")
    try:
        failures = wait_for("Reading the tables", _read_tables, seconds=_patience(), pause=10)
    except StopError as stop:
        say(f"{stop}\nNothing is lost. Run `azd provision` again, and then `azd deploy`.")
        return 1
    if failures and _patience() > _HELD_BACK:
        time.sleep(_HELD_BACK)
    say("The roles work.")
    return 0


def _patience() -> float:
    return give_time(os.environ.get("HOOK_SECONDS"), 600)


def _read_tables() -> Attempt:
    answer = manage("events", "list", "--json")
    is_wrong = answer.status == 2 and "Cannot access the tables" not in answer.complaint
    return Attempt(answer.status == 0, answer.complaint, final=is_wrong)


if __name__ == "__main__":
    sys.exit(main())
