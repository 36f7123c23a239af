"""The client for Azure's tables: every exception becomes one of ours, and idle connections are not trusted."""

from __future__ import annotations

import asyncio
import inspect

import azure.core.exceptions
import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError

from tests.seeded_tables import Tables
from shared.app.wiring import TABLES_KEEP_ALIVE_SECONDS, table_session
from shared.core.errors import StoreUnavailable
from shared.core.turns import Turns
from shared.tables.service import AlreadyExists, open_service, translated
from tests.conftest import TableTap
from tools.azurite import Azurite

FOREIGN = [
    kind
    for _, kind in inspect.getmembers(azure.core.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == azure.core.exceptions.__name__
]


def test_the_exceptions_of_azure_core_have_been_found() -> None:
    assert len(FOREIGN) > 15
    assert HttpResponseError in FOREIGN


@pytest.mark.parametrize(
    "kind", [*FOREIGN, TimeoutError, ConnectionResetError], ids=lambda kind: kind.__name__
)
async def test_every_exception_of_azure_core_becomes_one_of_ours(kind: type[Exception]) -> None:
    # Made without its constructor: what is mapped is the class, and the constructors want whole responses.
    foreign = kind.__new__(kind)
    for name in ("status_code", "error_code"):
        setattr(foreign, name, None)
    expected = AlreadyExists if issubclass(kind, ResourceExistsError) else StoreUnavailable
    with pytest.raises(expected) as caught:
        async with translated():
            raise foreign
    assert caught.value.__cause__ is foreign


async def test_a_fault_of_our_own_is_not_told_as_an_outage() -> None:
    with pytest.raises(ZeroDivisionError):
        async with translated():
            raise ZeroDivisionError


async def test_the_wait_for_a_turn_counts_in_a_calls_time() -> None:
    class Never(Turns):
        async def wait(self) -> None:
            await asyncio.Event().wait()

    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(10), translated(0.01, Never()):
            raise AssertionError


@pytest.mark.parametrize(("kept_seconds", "connections"), [(0.1, 2), (60, 1)])
async def test_a_connection_that_lay_idle_for_too_long_is_not_used_again(
    azurite: Azurite, kept_seconds: float, connections: int
) -> None:
    async with TableTap(target=azurite.port).open() as tap:
        tables = Tables(open_service(tap.connection_string, None, session=table_session(kept_seconds)))
        await tables.create_tables()
        before = tap.connections
        await asyncio.sleep(0.3)
        await tables.check()
        await tables.close()
    assert tap.connections - before + 1 == connections


def test_connections_are_kept_for_less_time_than_azurite_keeps_them() -> None:
    assert TABLES_KEEP_ALIVE_SECONDS < 5
