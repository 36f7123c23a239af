"""After `azd provision`: waits until the new roles work, so that `azd deploy` does not fail with a 403.

Azure takes minutes to apply a role. Only the administrator's role on the tables can be tested from here. The
roles of the app were assigned in the same step, so they get a little more time.
"""

from __future__ import annotations

import sys
import time

from administrator import manage, tables_are_unreachable
from waiting import Attempt, StopError, say, time_limit, wait_for

_SECONDS = 600.0
_EXTRA_SECONDS = 30.0
"""For the roles of the app, if the administrator's did not work at once."""

_RETRIED = ("Cannot access the tables", "do not answer")
"""Of the errors with exit status 2, `manage.py` begins those that a retry can solve with one of these."""


def main() -> int:
    if tables_are_unreachable():
        say("The tables are private and ADMIN_IP_ADDRESSES is empty: the roles are not tested.")
        return 0
    say("Waiting until the roles work. This can take some minutes.")
    try:
        failures = wait_for("Reading the tables", _read_tables, seconds=time_limit(_SECONDS), pause=10)
    except StopError as stop:
        say(f"{stop}\nNothing is lost. Run `azd provision` again, then `azd deploy`.")
        return 1
    if failures and time_limit(_SECONDS) > _EXTRA_SECONDS:
        time.sleep(_EXTRA_SECONDS)
    say("The roles work.")
    return 0


def _read_tables() -> Attempt:
    result = manage("events", "list", "--json")
    is_retried = any(text in result.message for text in _RETRIED)
    return Attempt(result.status == 0, result.message, final=result.status == 2 and not is_retried)


if __name__ == "__main__":
    sys.exit(main())
