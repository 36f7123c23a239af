"""In how many processes the tests run, each with an Azurite and an app of its own."""

from __future__ import annotations

import os

import pytest

_MOST = 4
"""Above this what each must start and collect for itself is more than what is saved."""
_CHOICES = ("file_or_dir", "keyword", "markexpr", "lf", "stepwise")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Where all tests are run, one more than there are cores, for each waits for a quarter of its time.

    0 is none but this one: for a choice of tests, which begins sooner so, and for `-s`, as nothing shows what
    others print.
    """
    if any(map(config.getoption, _CHOICES)) or config.getoption("capture") == "no":
        return 0
    return min((os.cpu_count() or 1) + 1, _MOST)
