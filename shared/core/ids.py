"""Ids for requests and for what an instance writes, and secrets."""

from __future__ import annotations

import os
from itertools import count

_INSTANCE = os.urandom(6).hex()
_numbers = count(1)


def new_id() -> str:
    """An id that no instance has used before, such as `5f2a9c01d3e7-1`. It has no colon."""
    return f"{_INSTANCE}-{next(_numbers)}"


def new_secret() -> str:
    """A new secret of an event: a column of `SECRETS` in its row."""
    return os.urandom(32).hex()


LEAST_SECRET_BYTES = 16


def is_long_enough(secret: str) -> bool:
    """Whether a secret cannot be guessed. One that was written by hand may be shorter."""
    return len(secret.encode()) >= LEAST_SECRET_BYTES
