"""Ids for requests and for what an instance writes."""

from __future__ import annotations

import os
from itertools import count

_INSTANCE = os.urandom(6).hex()
_numbers = count(1)


def new_id() -> str:
    """An id that no instance has used before, such as `5f2a9c01d3e7-1`. It has no colon."""
    return f"{_INSTANCE}-{next(_numbers)}"
