"""The settings: each one is read, checked and documented, and secrets are hidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.core.settings import (
    DEFAULT_SCOPE,
    NUMBERS,
    SITE,
    TABLES,
    TABLES_URI,
    Number,
    Settings,
    SettingsError,
)

ROOT = Path(__file__).parents[2]
SECRET = "c2VjcmV0LWtleQ=="
GOOD = {TABLES: "UseDevelopmentStorage=true"}


class RecordedEnvironment(dict[str, str]):
    """Records the name of every setting that is read."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.names.append(name)
        return super().get(name, default)


def every_name() -> list[str]:
    """Every setting, except for the one that the platform sets."""
    environment = RecordedEnvironment(GOOD)
    Settings.read(environment)
    return [name for name in environment.names if name != SITE]


EVERY_NAME = every_name()


def faults(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environment)
    assert str(caught.value) == " ".join(caught.value.problems)
    return caught.value.problems


def test_only_the_tables_are_required() -> None:
    settings = Settings.read(GOOD)
    assert (settings.tables, settings.tables_uri) == ("UseDevelopmentStorage=true", None)
    assert (settings.tables_client_id, settings.upstream_scope) == (None, DEFAULT_SCOPE)
    for number in NUMBERS:
        assert getattr(settings, number.field) == number.default


def test_important_defaults() -> None:
    settings = Settings.read(GOOD)
    assert (settings.cache_seconds, settings.max_body_bytes) == (30, 7_500_000)
    assert settings.upstream_timeout_seconds < 230
    assert settings.heartbeat_seconds < 230


def test_host_ends_an_invocation_later_than_the_longest_stream() -> None:
    """At functionTimeout the host kills the worker and all its streams."""
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))
    most = {number.name: number.maximum for number in NUMBERS}
    longest = most["PROXY_UPSTREAM_TIMEOUT_SECONDS"] + most["PROXY_LONGEST_STREAM_SECONDS"]
    assert longest + 60 < hours * 3600 + minutes * 60 + seconds


def test_each_number_is_stored_in_its_field() -> None:
    texts = {number: str(number.minimum + at) for at, number in enumerate(NUMBERS)}
    settings = Settings.read(GOOD | {number.name: text for number, text in texts.items()})
    for number, text in texts.items():
        assert getattr(settings, number.field) == float(text)


def test_a_count_is_a_whole_number() -> None:
    settings = Settings.read(GOOD | {"PROXY_MAX_BODY_BYTES": "2048.5"})
    assert repr(settings.max_body_bytes) == "2048"


def test_all_problems_are_reported_together() -> None:
    wrong = {number.name: "soon" for number in NUMBERS} | {TABLES: "nonsense", TABLES_URI: "nowhere"}
    found = faults(wrong)
    assert len(found) == len(NUMBERS) + 2
    for name in wrong:
        assert sum(fault.startswith((f"{name} must", f"{name} is")) for fault in found) == 1
    assert all(fault.endswith(".") for fault in found)


def test_without_tables_the_message_names_both_settings() -> None:
    (fault,) = faults({})
    assert TABLES in fault
    assert TABLES_URI in fault


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_a_number_must_be_within_its_bounds(number: Number) -> None:
    assert number.minimum <= number.default <= number.maximum
    for wrong in ("soon", "nan", "inf", "-inf", "1e999", "1,5", str(number.minimum - 0.01), "1e12"):
        (fault,) = faults(GOOD | {number.name: wrong})
        assert fault.startswith(f"{number.name} must be a number from ")
        assert repr(wrong) in fault
    for bound in (number.minimum, number.maximum):
        Settings.read(GOOD | {number.name: f" {bound} "})


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_setting_is_ignored(empty: str) -> None:
    assert (
        Settings.read(GOOD | {name: empty for name in EVERY_NAME if name != TABLES}).cache_seconds
        == Settings.read(GOOD).cache_seconds
    )
    assert faults({TABLES: empty, TABLES_URI: empty}) == faults({})


@pytest.mark.parametrize(
    "text",
    [
        "UseDevelopmentStorage=true",
        "UseDevelopmentStorage=true;",
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET};EndpointSuffix=core.windows.net",
        "TableEndpoint=https://a.table.core.windows.net/;SharedAccessSignature=sv=2020&sig=x%3D",
    ],
)
def test_a_connection_string_is_accepted(text: str) -> None:
    assert Settings.read({TABLES: f" {text} "}).tables == text


@pytest.mark.parametrize(
    "text", ["x", "a=b", "=", ";", "AccountName=a", "AccountName=a;AccountKey=", f"AccountKey={SECRET}"]
)
def test_an_invalid_connection_string_is_not_repeated_in_the_message(text: str) -> None:
    (fault,) = faults({TABLES: text})
    assert fault.startswith(f"{TABLES} is not a connection string")
    assert SECRET not in fault


@pytest.mark.parametrize("uri", ["nowhere", "ftp://x", "https://", "//x", "https://[", "https://[::1"])
def test_an_invalid_address_is_rejected(uri: str) -> None:
    (fault,) = faults({TABLES_URI: uri})
    assert fault.startswith(f"{TABLES_URI} is not an address")


def test_the_tables_own_identity_wins_over_the_apps() -> None:
    uri = {TABLES_URI: "https://a.table.core.windows.net", "AZURE_CLIENT_ID": "app"}
    assert Settings.read(uri).tables_client_id == "app"
    assert Settings.read(uri | {"PROXY_TABLES__clientId": "tables"}).tables_client_id == "tables"


def test_printed_settings_show_no_secret() -> None:
    environment = {
        TABLES: f"AccountName=a;AccountKey={SECRET}",
        "AZURE_KEY": "another-secret",
    }
    settings = Settings.read(environment)
    for text in (repr(settings), str(settings), f"{settings}"):
        assert SECRET not in text
        assert "another-secret" not in text


def test_a_deployments_key_is_read_from_its_setting() -> None:
    settings = Settings.read(GOOD | {"AZURE_KEY": " k ", "EMPTY": " "})
    assert (settings.key("AZURE_KEY"), settings.key("EMPTY"), settings.key("OTHER")) == ("k", None, None)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_configuration_md_names_every_setting(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_configuration_md_and_the_sample_have_each_default_and_its_bounds(number: Number) -> None:
    row = f"| `{number.name}` | {number.default} | {number.minimum} | {number.maximum} |"
    assert row in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))
    assert sample["Values"][number.name] == str(number.default)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_the_sample_has_every_setting(name: str) -> None:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))
    assert name in sample["Values"]


def test_the_sample_can_be_used_unchanged() -> None:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))
    Settings.read(sample["Values"])
