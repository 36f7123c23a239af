"""Fixtures of the tests of the whole app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import browser
from tests.app.attendee_page import AttendeePage, as_new
from tests.conftest import Stage
from tools.tap import TableTap


@pytest.fixture(scope="module")
async def cut_off(running: Stage) -> AsyncIterator[tuple[Stage, TableTap]]:
    """An instance whose tables close every connection, and the tap that counts them."""
    async with (
        TableTap().open() as tap,
        running.instance(PROXY_TABLES=tap.connection_string) as stage,
    ):
        yield stage, tap


@pytest.fixture(scope="module")
async def browser_page(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[browser.Page]:
    async with browser.opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
async def opened(stage: Stage, browser_page: browser.Page) -> AttendeePage:
    return await as_new(browser_page, stage.url)
