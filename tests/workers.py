"""Sets the number of processes that run the tests, and their order, and lets Ctrl-C reach their children."""

from __future__ import annotations

import os
import signal

import pytest

_MOST = 4
"""Each process starts its own Azurite and app. More processes cost more time than they save."""
_CHOICES = ("file_or_dir", "keyword", "lf", "stepwise")
_LONGEST, _SHORTEST = {"tools", "infra"}, {"apis", "core", "desk", "events", "tokens"}
_ONE_PYTHON = {"admin", "infra", "tokens"}


def pytest_configure() -> None:
    """A shell lets its background jobs ignore SIGINT. The processes that tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores, because tests wait for a quarter of their time.

    0 means this process only: a choice of tests starts faster here, and `-s` shows no output of others.
    """
    marks = config.getoption("markexpr", None) or "not"  # `-m "not ..."` leaves most of them
    is_choice = any(config.getoption(name, None) for name in _CHOICES) or not marks.startswith("not")
    if is_choice or config.getoption("capture") == "no":
        return 0
    return min((os.cpu_count() or 1) + 1, _MOST)


@pytest.hookimpl(tryfirst=True)  # before `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first. Otherwise one process would still run them after the others have ended."""

    def place(item: pytest.Item) -> int:
        return (item.path.parent.name in _SHORTEST) - (item.path.parent.name in _LONGEST)

    items.sort(key=place)
    for item in items:
        if item.path.parent.name in _ONE_PYTHON:
            item.add_marker("one_python")
