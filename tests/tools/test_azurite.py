"""Azurite as the other tests use it: they stop, kill and suspend it."""

import sys
import urllib.request
from pathlib import Path

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.data.tables import TableServiceClient

from tools.azurite import Azurite
from tools.processes import ChildError

pytestmark = pytest.mark.one_python


def tables(azurite: Azurite) -> list[str]:
    string = azurite.connection_string
    with TableServiceClient.from_connection_string(string, retry_total=0, read_timeout=1) as service:
        return [table.name for table in service.list_tables()]


def test_azurite_keeps_its_port_and_its_tables(tmp_path: Path) -> None:
    with Azurite(tmp_path / "azurite") as azurite:
        port = azurite.port
        with TableServiceClient.from_connection_string(azurite.connection_string) as service:
            service.create_table("kept")
        azurite.stop()
        azurite.start()
        azurite.kill()
        with pytest.raises(ServiceRequestError):
            tables(azurite)
        azurite.start()
        assert (azurite.port, tables(azurite)) == (port, ["kept"])
        with pytest.raises(ChildError, match=r"(?s)Azurite ended with exit status 1.*EADDRINUSE"):
            Azurite(port=port).start()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_suspended_azurite_sends_no_response_until_it_resumes() -> None:
    with Azurite() as azurite:
        azurite.suspend()
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"http://127.0.0.1:{azurite.port}/", timeout=0.5)
        azurite.resume()
        assert tables(azurite) == []
