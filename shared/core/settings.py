"""Reads the app's settings from a mapping, and reports all problems together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


class SettingsError(Exception):
    """The settings cannot be used. `problems` has one sentence for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric setting, with its default and bounds."""

    name: str
    default: float
    minimum: float
    maximum: float
    is_whole: bool = False

    @property
    def field(self) -> str:
        """The field of `Settings` that holds it."""
        return self.name.removeprefix("PROXY_").lower()

    def read(self, environment: Mapping[str, str], problems: list[str]) -> float:
        text = environment.get(self.name, "").strip()
        if not text:
            return self.default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not self.minimum <= value <= self.maximum:
            problems.append(
                f"{self.name} must be a number from {self.minimum:g} to {self.maximum:g}, not {text!r}."
            )
            return self.default
        return int(value) if self.is_whole else value


TABLES = "PROXY_TABLES"
TABLES_URI = "PROXY_TABLES__tableServiceUri"
TABLES_CLIENT_ID = "PROXY_TABLES__clientId"
AZURE_CLIENT_ID = "AZURE_CLIENT_ID"
UPSTREAM_SCOPE = "PROXY_UPSTREAM_SCOPE"
DEFAULT_SCOPE = "https://cognitiveservices.azure.com/.default"
TELEMETRY = "APPLICATIONINSIGHTS_CONNECTION_STRING"
SITE = "WEBSITE_SITE_NAME"
"""The app's name, set by the platform."""

# docs/configuration.md explains each one. The maximum times are below 230 s, after which the platform returns
# 502. The longest stream is below `functionTimeout` (host.json).
CACHE_SECONDS = Number("PROXY_CACHE_SECONDS", 30, 0, 3600)
NUMBERS = (
    CACHE_SECONDS,
    Number("PROXY_MAX_BODY_BYTES", 7_500_000, 1024, 100_000_000, is_whole=True),
    Number("PROXY_MAX_BODIES_BYTES", 200_000_000, 1024, 2_000_000_000, is_whole=True),
    Number("PROXY_LONGEST_BODY_SECONDS", 60, 0.1, 200),
    Number("PROXY_UPSTREAM_TIMEOUT_SECONDS", 210, 0.1, 225),
    Number("PROXY_UPSTREAM_CONNECT_SECONDS", 5, 0.1, 60),
    Number("PROXY_UPSTREAM_FIRST_BYTE_SECONDS", 100, 0.1, 220),
    Number("PROXY_UPSTREAM_IDLE_SECONDS", 120, 0.1, 225),
    Number("PROXY_LONGEST_STREAM_SECONDS", 1500, 0.1, 3300),
    Number("PROXY_DEFAULT_OUTPUT_TOKENS", 4096, 1, 1_000_000, is_whole=True),
    Number("PROXY_QUOTA_IDLE_SECONDS", 15, 0.05, 600),
    Number("PROXY_HEARTBEAT_SECONDS", 15, 0.05, 200),
    Number("PROXY_USAGE_FLUSH_SECONDS", 5, 0.05, 600),
    Number("PROXY_KEEP_USAGE_DAYS", 90, 1, 3650),
    Number("PROXY_KEEP_QUOTA_DAYS", 30, 2, 3650),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. `PROXY_CACHE_SECONDS` of `NUMBERS` is `cache_seconds`, and so on."""

    tables: str | None = field(repr=False)
    """A connection string. Without it, `tables_uri` and the app's identity are used."""
    tables_uri: str | None
    tables_client_id: str | None
    upstream_scope: str
    telemetry: str | None = field(repr=False)
    """The connection string of Application Insights. Without it, no spans are sent."""
    site: str
    """The app's name in Application Insights."""
    cache_seconds: float
    max_body_bytes: int
    max_bodies_bytes: int
    longest_body_seconds: float
    upstream_timeout_seconds: float
    upstream_connect_seconds: float
    upstream_first_byte_seconds: float
    upstream_idle_seconds: float
    longest_stream_seconds: float
    default_output_tokens: int
    quota_idle_seconds: float
    heartbeat_seconds: float
    usage_flush_seconds: float
    keep_usage_days: float
    keep_quota_days: float
    environment: Mapping[str, str] = field(repr=False)
    """All settings, also those that hold the keys of deployments."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check every setting.

        Raises:
            SettingsError: lists every problem.
        """
        problems: list[str] = []
        numbers: dict[str, Any] = {number.field: number.read(environment, problems) for number in NUMBERS}
        tables, uri = _text(environment, TABLES), _text(environment, TABLES_URI)
        _check_tables(tables, uri, problems)
        if problems:
            raise SettingsError(problems)
        return cls(
            tables=tables,
            tables_uri=uri,
            tables_client_id=_text(environment, TABLES_CLIENT_ID) or _text(environment, AZURE_CLIENT_ID),
            upstream_scope=_text(environment, UPSTREAM_SCOPE) or DEFAULT_SCOPE,
            telemetry=_text(environment, TELEMETRY),
            site=_text(environment, SITE) or "azure-openai-event-proxy",
            environment=environment,
            **numbers,
        )

    def key(self, name: str) -> str | None:
        """The value of the setting that holds a deployment's key. None if it is not set."""
        return _text(self.environment, name)


def _text(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(name, "").strip() or None


def _check_tables(tables: str | None, uri: str | None, problems: list[str]) -> None:
    if not tables and not uri:
        problems.append(
            f"Set {TABLES} (a connection string) or {TABLES_URI} (an address, for keyless access)."
        )
    if tables and not _is_connection_string(tables):
        problems.append(f"{TABLES} is not a connection string. Use one such as UseDevelopmentStorage=true.")
    if uri and not _is_address(uri):
        problems.append(
            f"{TABLES_URI} is not an address. Use one such as https://ACCOUNT.table.core.windows.net."
        )


def _is_connection_string(text: str) -> bool:
    parts = [part.partition("=") for part in text.rstrip(";").split(";")]
    names = {name.strip().lower() for name, _, _ in parts}
    known = {"usedevelopmentstorage"}, {"accountname", "accountkey"}, {"sharedaccesssignature"}
    return all(value for _, _, value in parts) and any(one <= names for one in known)


def _is_address(text: str) -> bool:
    try:
        address = urlsplit(text)
    except ValueError:
        return False
    return address.scheme in {"http", "https"} and bool(address.netloc)
