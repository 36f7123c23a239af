"""The benchmark: our app with all its policy, a hand-written pass-through with none, and the upstream itself.

`python3 dev.py bench` runs it; with `--peers`, other proxies too. Each target is a process of its own.
All take part in every round, so that other load on the machine affects them alike: the figures that count are
ratios within a round.
"""
