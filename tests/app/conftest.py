"""Fixtures of the tests of the whole app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Stage, TableTap


@pytest.fixture(scope="module")
async def cut_off(running: Stage) -> AsyncIterator[tuple[Stage, TableTap]]:
    """An instance whose tables close every connection, and the tap that counts them."""
    async with (
        TableTap().open() as tap,
        running.instance(PROXY_TABLES=tap.connection_string) as stage,
    ):
        yield stage, tap
