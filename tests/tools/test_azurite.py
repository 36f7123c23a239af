"""Azurite as the other tests and `dev.py run` use it: the real one, from node_modules."""

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.data.tables import TableServiceClient, UpdateMode

from tools.azurite import Azurite
from tools.processes import ChildError

ROW = {"PartitionKey": "hackathon", "RowKey": "event", "name": "Demo"}


@pytest.fixture
def azurite(tmp_path: Path) -> Iterator[Azurite]:
    with Azurite(tmp_path / "azurite") as azurite:
        yield azurite


def put_row(azurite: Azurite) -> None:
    with client(azurite) as service:
        service.create_table_if_not_exists("events").upsert_entity(ROW, mode=UpdateMode.REPLACE)


def read_name(azurite: Azurite) -> object:
    with client(azurite) as service:
        return service.get_table_client("events").get_entity("hackathon", "event")["name"]


def client(azurite: Azurite) -> TableServiceClient:
    return TableServiceClient.from_connection_string(azurite.connection_string, retry_total=0, read_timeout=1)


def test_a_row_outlives_a_stop_and_a_start_on_the_same_port(azurite: Azurite) -> None:
    put_row(azurite)
    port = azurite.port
    azurite.stop()
    azurite.start()
    assert (azurite.port, read_name(azurite)) == (port, "Demo")


def test_a_killed_one_refuses_connections_until_it_is_started_again(azurite: Azurite) -> None:
    azurite.kill()
    with pytest.raises(ServiceRequestError):
        put_row(azurite)
    azurite.start()
    put_row(azurite)
    assert read_name(azurite) == "Demo"


def test_two_at_once_have_their_own_rows(azurite: Azurite) -> None:
    with Azurite() as other:
        put_row(azurite)
        with client(other) as service:
            assert [table.name for table in service.list_tables()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP on Windows")
def test_a_suspended_one_does_not_answer_until_it_is_resumed(azurite: Azurite) -> None:
    azurite.suspend()
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(f"http://127.0.0.1:{azurite.port}/", timeout=0.5)
    azurite.resume()
    put_row(azurite)


def test_a_taken_port_is_told_with_azurites_own_words(azurite: Azurite) -> None:
    with pytest.raises(ChildError, match=r"(?s)Azurite ended with exit status 1.*EADDRINUSE"):
        Azurite(port=azurite.port).start()
