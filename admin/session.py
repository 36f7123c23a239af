"""Runs the work of a command on the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from admin.target import Target

if TYPE_CHECKING:
    from admin.tables import Tables

T = TypeVar("T")


def run(target: Target, work: Callable[[Tables], Coroutine[Any, Any, T]]) -> T:
    """Return the result of `work`. Raises CommandError if the tables cannot be used."""
    from admin.connection import open_tables

    async def session() -> T:
        async with open_tables(target) as tables:
            return await work(tables)

    return asyncio.run(session())
