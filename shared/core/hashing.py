"""Event codes and users as the log may show them."""

from __future__ import annotations

import hashlib
from functools import lru_cache


@lru_cache(maxsize=4096)
def hashed(name: str) -> str:
    """A short hash of an event code or user: the same on every instance, and it does not reveal the name."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
