"""In how many processes the tests run, each with an Azurite and an app of its own, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_MOST = 4
"""Above this what each must start and collect for itself is more than what is saved."""
_CHOICES = ("file_or_dir", "keyword", "markexpr", "lf", "stepwise")
_LONGEST = Path(__file__).with_name("tools")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Where all tests are run, one more than there are cores, for each waits for a quarter of its time.

    0 is none but this one: for a choice of tests, which begins sooner so, and for `-s`, as nothing shows what
    others print.
    """
    if any(config.getoption(name, None) for name in _CHOICES) or config.getoption("capture") == "no":
        return 0
    return min((os.cpu_count() or 1) + 1, _MOST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first: at the end one process would be alone with them."""
    items.sort(key=lambda item: not item.path.is_relative_to(_LONGEST))
