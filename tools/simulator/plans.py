"""What is to go over the wire for one call, decided before the first byte does."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from .gates import Gate

Ending = Literal["clean", "close", "reset"]
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One write: its bytes, how many completion tokens it carries, and the usage that it reports."""

    data: bytes
    tokens: int = 0
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`status` None: no HTTP at all, the pieces go to the bare socket. `length` None: chunked encoding."""

    status: int | None
    headers: Headers = ()
    pieces: tuple[Piece, ...] = ()
    length: int | None = None
    ending: Ending = "clean"
    azure_headers: bool = True
    headers_seconds: float = 0.0
    between_seconds: float = 0.0
    pause_after: int = 0
    pause_seconds: float = 0.0
    gate: Gate | None = None


def compact(value: Any) -> bytes:
    """JSON as Azure writes it: no spaces, UTF-8 unescaped (lone surrogates, which it cannot say, as '?')."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def event(value: Any) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def whole(status: int, body: bytes, content_type: str = "application/json", headers: Headers = ()) -> Plan:
    """The plan of an answer in one piece."""
    return Plan(status, (("content-type", content_type), *headers), (Piece(body),), length=len(body))
