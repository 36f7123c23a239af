"""In how many processes the tests run."""

from __future__ import annotations

import os

import pytest

_MOST = 4
"""Each starts an Azurite and serves the app: above this, more of them gain little."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One for each core where all tests are run; 0, this one alone, for a choice of them, which begins at once."""
    return 0 if _is_choice(config) or _is_looked_on(config) else min(os.cpu_count() or 1, _MOST)


def _is_choice(config: pytest.Config) -> bool:
    chosen = ("file_or_dir", "keyword", "markexpr", "lf", "stepwise")
    return any(map(config.getoption, chosen))


def _is_looked_on(config: pytest.Config) -> bool:
    """With `-s` or `--pdb`: what other processes print is not shown, and they read no keyboard."""
    return config.getoption("capture") == "no" or config.getoption("usepdb")
