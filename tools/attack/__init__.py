"""Attacks on a proxy of our own, on this machine: can an attendee overspend, or stop the others?

`python3 dev.py attack` starts the tables, a simulated Azure OpenAI that bills as the models do, and three
instances of the app. Each module has one family of attacks.
"""
