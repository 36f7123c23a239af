"""Which of several `dev.py run` the commands use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from admin.errors import CommandError
from admin.local_runs import Run
from admin.target import find_target, find_url
from tools import runs


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROXY_TABLES", "PROXY_TABLES__tableServiceUri", "PROXY_URL", "SERVICE_API_URI"):
        monkeypatch.delenv(name, raising=False)


FIRST, SECOND = "http://127.0.0.1:7071", "http://127.0.0.1:7072"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Path]:
    """A checkout with two running `dev.py run`; the second is newer."""
    with ExitStack() as stack:
        for name, url in (("first", FIRST), ("second", SECOND)):
            slot = stack.enter_context(runs.slot([0], tmp_path / ".local"))
            runs.announce(Run.now(slot.folder, url, f"tables of the {name}", None))
        yield tmp_path


def test_the_newest_is_used_and_noted(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = find_target(two)
    assert (target.url, target.connection_string) == (SECOND, "tables of the second")
    note = f"Several `dev.py run` are running. Using the newest, {SECOND}. To use another, set PROXY_URL={FIRST}."
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"Note: {note}\n")
    assert find_url(two) == SECOND
    assert note in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        FIRST,
        f"{FIRST}/",
        f"{FIRST}/v1",
        f"{FIRST}/api/v1/",
        FIRST.upper(),
        "http://localhost:7071",
        "127.0.0.1:7071",
        "localhost:7071/v1",
    ],
)
def test_every_spelling_of_an_address_chooses_its_run(
    two: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PROXY_URL", url)
    assert (find_target(two).connection_string, find_url(two)) == ("tables of the first", url.rstrip("/"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:7073", "http://an.event", "http://127.0.0.1:port", "x y"])
def test_an_address_without_a_run_is_an_error_if_several_are_running(
    two: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PROXY_URL", url)
    message = f"No `dev.py run` is running at PROXY_URL={url}. Use one of: {SECOND}, {FIRST}."
    with pytest.raises(CommandError, match=re.escape(message)):
        find_target(two)


def test_a_single_run_can_be_forwarded_to_another_host_but_not_to_another_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.slot([0], tmp_path / ".local") as slot:
        runs.announce(Run.now(slot.folder, FIRST, "its tables", None))
        monkeypatch.setenv("PROXY_URL", "https://forwarded.example")
        assert find_target(tmp_path).connection_string == "its tables"
        assert f"is running at https://forwarded.example. Using {FIRST}." in capsys.readouterr().err
        monkeypatch.setenv("PROXY_URL", SECOND)
        with pytest.raises(CommandError, match=f"running at PROXY_URL={SECOND}. Use one of: {FIRST}"):
            find_target(tmp_path)


def test_a_single_run_is_used_without_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runs.slot([0], tmp_path / ".local") as slot:
        runs.announce(Run.now(slot.folder, "http://only", "its tables", None))
        assert find_target(tmp_path).url == "http://only"
    assert capsys.readouterr().err == ""
