"""Settings, read once from a mapping; all faults are told together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit


class SettingsError(Exception):
    """The settings cannot be used; `faults` has one sentence for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(" ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric setting: its name, default and bounds, and what it does, in one line."""

    name: str
    default: float
    minimum: float
    maximum: float
    meaning: str

    def read(self, environment: Mapping[str, str], faults: list[str]) -> float:
        text = environment.get(self.name, "").strip()
        if not text:
            return self.default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not self.minimum <= value <= self.maximum:
            faults.append(
                f"{self.name} must be a number from {self.minimum:g} to {self.maximum:g}, not {text!r}."
            )
        return value


TABLES: Final = "PROXY_TABLES"
TABLES_URI: Final = "PROXY_TABLES__tableServiceUri"
TABLES_CLIENT_ID: Final = "PROXY_TABLES__clientId"
AZURE_CLIENT_ID: Final = "AZURE_CLIENT_ID"
UPSTREAM_SCOPE: Final = "PROXY_UPSTREAM_SCOPE"
DEFAULT_SCOPE: Final = "https://cognitiveservices.azure.com/.default"

TELEMETRY: Final = "APPLICATIONINSIGHTS_CONNECTION_STRING"
SITE: Final = "WEBSITE_SITE_NAME"
"""The app's name, as the platform sets it."""

TEXTS: Final = (TABLES, TABLES_URI, TABLES_CLIENT_ID, AZURE_CLIENT_ID, UPSTREAM_SCOPE, TELEMETRY)

# The platform answers 502 by itself when nothing was answered within 230 s: all of ours stay below.
NUMBERS: Final = (
    Number("PROXY_CACHE_SECONDS", 30, 0, 3600, "how long events and deployments are kept in memory"),
    Number("PROXY_MAX_BODY_BYTES", 7_500_000, 1024, 100_000_000, "the largest request body"),
    Number("PROXY_LONGEST_BODY_SECONDS", 60, 0.1, 200, "for a request's body to arrive"),
    Number("PROXY_UPSTREAM_TIMEOUT_SECONDS", 210, 0.1, 225, "from arrival to answer, all tries together"),
    Number("PROXY_UPSTREAM_CONNECT_SECONDS", 5, 0.1, 60, "to connect to a deployment"),
    Number("PROXY_UPSTREAM_FIRST_BYTE_SECONDS", 100, 0.1, 220, "for a deployment to begin a stream"),
    Number("PROXY_UPSTREAM_IDLE_SECONDS", 120, 0.1, 225, "between two chunks of a stream"),
    Number(
        "PROXY_LONGEST_STREAM_SECONDS", 1500, 0.1, 3300, "for a stream, below functionTimeout (host.json)"
    ),
    Number("PROXY_DEFAULT_OUTPUT_TOKENS", 4096, 1, 1_000_000, "of output, where an event has no cap"),
    Number("PROXY_QUOTA_IDLE_SECONDS", 15, 0.05, 600, "after which what is not used is given back"),
    Number("PROXY_HEARTBEAT_SECONDS", 15, 0.05, 200, "of silence in a stream before a comment line is sent"),
    Number("PROXY_USAGE_FLUSH_SECONDS", 5, 0.05, 600, "after which what was counted is written"),
    Number("PROXY_KEEP_USAGE_DAYS", 90, 1, 3650, "after which rows of usage are removed"),
    Number("PROXY_KEEP_QUOTA_DAYS", 30, 2, 3650, "after which rows of quotas are removed"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set from outside. Seconds are seconds, bytes are bytes."""

    tables: str | None = field(repr=False)
    """A connection string; or `tables_uri` for the keyless way."""
    tables_uri: str | None
    tables_client_id: str | None
    upstream_scope: str
    telemetry: str | None = field(repr=False)
    """The connection string of Application Insights; None: no spans are sent."""
    site: str
    """What this app is called there."""
    cache_seconds: float
    max_body_bytes: int
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
    """Where the keys are that deployment rows name."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check every setting.

        Raises:
            SettingsError: with every fault that was found, not only the first.
        """
        faults: list[str] = []
        numbers = [number.read(environment, faults) for number in NUMBERS]
        tables, uri = _text(environment, TABLES), _text(environment, TABLES_URI)
        _check_tables(tables, uri, faults)
        if faults:
            raise SettingsError(faults)
        cache, body, longest_body, timeout, connect, first_byte, idle, *others = numbers
        longest_stream, output, quota_idle, heartbeat, usage_flush, keep_usage, keep_quota = others
        return cls(
            tables=tables,
            tables_uri=uri,
            tables_client_id=_text(environment, TABLES_CLIENT_ID) or _text(environment, AZURE_CLIENT_ID),
            upstream_scope=_text(environment, UPSTREAM_SCOPE) or DEFAULT_SCOPE,
            telemetry=_text(environment, TELEMETRY),
            site=_text(environment, SITE) or "azure-openai-event-proxy",
            cache_seconds=cache,
            max_body_bytes=int(body),
            longest_body_seconds=longest_body,
            upstream_timeout_seconds=timeout,
            upstream_connect_seconds=connect,
            upstream_first_byte_seconds=first_byte,
            upstream_idle_seconds=idle,
            longest_stream_seconds=longest_stream,
            default_output_tokens=int(output),
            quota_idle_seconds=quota_idle,
            heartbeat_seconds=heartbeat,
            usage_flush_seconds=usage_flush,
            keep_usage_days=keep_usage,
            keep_quota_days=keep_quota,
            environment=environment,
        )

    def key(self, name: str) -> str | None:
        """The secret in the setting that a deployment row names; None when it is not set."""
        return _text(self.environment, name)


def _text(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(name, "").strip() or None


def _check_tables(tables: str | None, uri: str | None, faults: list[str]) -> None:
    if not tables and not uri:
        faults.append(
            f"Set {TABLES} (a connection string) or {TABLES_URI} (the address, for keyless access)."
        )
    if tables and not _is_connection_string(tables):
        faults.append(f"{TABLES} is not a connection string, such as UseDevelopmentStorage=true.")
    if uri and not _is_address(uri):
        faults.append(f"{TABLES_URI} is not an address, such as https://ACCOUNT.table.core.windows.net.")


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
