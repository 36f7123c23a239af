"""Which `dev.py run` the administrator's commands work on, where several run in one checkout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from admin.target import find, find_url
from tools import runs


@pytest.fixture(autouse=True)
def nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROXY_TABLES", "PROXY_TABLES__tableServiceUri", "PROXY_URL", "SERVICE_API_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Path]:
    """A checkout in which a first and then a second one serve."""
    with ExitStack() as stack:
        for name in ("first", "second"):
            slot = stack.enter_context(runs.slot([0], tmp_path / ".local"))
            runs.announce(runs.Run.now(slot.folder, f"http://{name}", f"tables of the {name}", None))
        yield tmp_path


def test_the_latest_is_used_and_told(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = find(two)
    assert (target.url, target.connection_string) == ("http://second", "tables of the second")
    told = "several `dev.py run`s serve here: this works on the latest, http://second. PROXY_URL=http://first"
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"Note: {told} chooses another.\n")
    assert find_url(two) == "http://second"
    assert told in capsys.readouterr().err


def test_another_is_chosen_by_its_address(
    two: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_URL", "http://first/")
    assert (find(two).connection_string, find_url(two)) == ("tables of the first", "http://first")
    assert capsys.readouterr().err == ""


def test_an_address_at_which_none_serves_is_told(
    two: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_URL", "http://third")
    assert find(two).url == "http://second"
    assert "no `dev.py run` serves at http://third: this works on http://second" in capsys.readouterr().err


def test_nothing_is_told_where_one_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runs.slot([0], tmp_path / ".local") as slot:
        runs.announce(runs.Run.now(slot.folder, "http://only", "its tables", None))
        assert find(tmp_path).url == "http://only"
    assert capsys.readouterr().err == ""
