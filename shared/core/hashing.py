"""Hides event codes and user names in the log."""

from __future__ import annotations

import hashlib
from functools import lru_cache


@lru_cache(maxsize=4096)
def hashed(name: str) -> str:
    """A short hash of an event code or user. The same on every instance; it does not reveal the name."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
