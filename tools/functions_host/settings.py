"""What host.json and local.settings.json say that this host heeds.

Not heeded: functionTimeout (nothing is ended here but by the 230 s rule) and all of logging.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from typing import Any

from .faults import AppFault


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """`origins` as they are written in local.settings.json: `*` allows all."""

    origins: frozenset[str]
    credentials: bool = False

    def allows(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins


@dataclass(frozen=True, slots=True)
class HostSettings:
    """`key` opens functions of level function and admin; without one they stay shut."""

    route_prefix: str = "api"
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    cors: CorsPolicy | None = None
    key: str | None = field(default=None, repr=False)
    max_body_bytes: int = 104_857_600
    response_seconds: float | None = 230.0

    @classmethod
    def read(cls, directory: Path) -> "HostSettings":
        """Raises AppFault; a file that is not there says nothing."""
        host = _read_json(directory / "host.json")
        local = _read_json(directory / "local.settings.json")
        prefix = host.get("extensions", {}).get("http", {}).get("routePrefix", "api")
        values = {name: str(value) for name, value in local.get("Values", {}).items()}
        return cls(route_prefix=prefix.strip("/"), values=values, cors=_cors(local.get("Host", {})))


def _cors(host: Mapping[str, Any]) -> CorsPolicy | None:
    origins = frozenset(filter(None, (origin.strip() for origin in host.get("CORS", "").split(","))))
    return CorsPolicy(origins, bool(host.get("CORSCredentials", False))) if origins else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise AppFault(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise AppFault(f"{path} is not a JSON object")
    return content


@contextmanager
def added_to_environment(values: Mapping[str, str]) -> Iterator[None]:
    """What is set already stays; what was added is taken away again."""
    added = {name: value for name, value in values.items() if name not in environ}
    environ.update(added)
    try:
        yield
    finally:
        for name in added:
            environ.pop(name, None)
