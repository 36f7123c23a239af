"""Which `dev.py run` the administrator's commands work on, where several run in one checkout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from admin.faults import Fault
from admin.local_runs import Run
from admin.target import find, find_url
from tools import runs


@pytest.fixture(autouse=True)
def nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROXY_TABLES", "PROXY_TABLES__tableServiceUri", "PROXY_URL", "SERVICE_API_URI"):
        monkeypatch.delenv(name, raising=False)


FIRST, SECOND = "http://127.0.0.1:7071", "http://127.0.0.1:7072"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Path]:
    """A checkout in which a first and then a second one serve."""
    with ExitStack() as stack:
        for name, url in (("first", FIRST), ("second", SECOND)):
            slot = stack.enter_context(runs.slot([0], tmp_path / ".local"))
            runs.announce(Run.now(slot.folder, url, f"tables of the {name}", None))
        yield tmp_path


def test_the_latest_is_used_and_told(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = find(two)
    assert (target.url, target.connection_string) == (SECOND, "tables of the second")
    told = f"several `dev.py run`s serve here: this works on the latest, {SECOND}. PROXY_URL={FIRST}"
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"Note: {told} chooses another.\n")
    assert find_url(two) == SECOND
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        *(FIRST, f"{FIRST}/", f"{FIRST}/v1", f"{FIRST}/api/v1/", FIRST.upper()),
        *("http://localhost:7071", "127.0.0.1:7071", "localhost:7071/v1"),
    ],
)
def test_another_is_chosen_by_its_address_however_that_is_written(
    two: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PROXY_URL", url)
    assert (find(two).connection_string, find_url(two)) == ("tables of the first", url.rstrip("/"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:7073", "http://an.event", "http://127.0.0.1:port", "x y"])
def test_of_several_none_is_taken_for_an_address_at_which_none_serves(
    two: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PROXY_URL", url)
    with pytest.raises(
        Fault, match=f"No `dev.py run` serves at PROXY_URL={url}, but at {SECOND} and {FIRST}"
    ):
        find(two)


def test_a_single_one_may_have_an_address_that_it_does_not_know_but_no_other_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.slot([0], tmp_path / ".local") as slot:
        runs.announce(Run.now(slot.folder, FIRST, "its tables", None))
        monkeypatch.setenv("PROXY_URL", "https://forwarded.example")
        assert find(tmp_path).connection_string == "its tables"
        assert f"serves at https://forwarded.example: this works on {FIRST}" in capsys.readouterr().err
        monkeypatch.setenv("PROXY_URL", SECOND)
        with pytest.raises(Fault, match=f"No `dev.py run` serves at PROXY_URL={SECOND}, but at {FIRST}"):
            find(tmp_path)


def test_nothing_is_told_where_one_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runs.slot([0], tmp_path / ".local") as slot:
        runs.announce(Run.now(slot.folder, "http://only", "its tables", None))
        assert find(tmp_path).url == "http://only"
    assert capsys.readouterr().err == ""
