"""An hour of faults on this machine: is anything lost, is anything over a limit, does anything grow?

`python3 -m tools.soak` starts the tables behind a relay that can fail, a simulated Azure OpenAI and three
instances of the app. `load.py` has the attendees, `fleet.py` the instances and what goes wrong, `accounts.py`
the sums at the end.
"""
