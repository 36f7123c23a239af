"""The requests that attendees of the benchmark send, as bytes for the wire."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import cycle
from typing import Final

EVENT: Final = "bench"
MODEL: Final = "gpt-4o-mini"
PACE_MS: Final = 20
"""50 chunks a second, about what gpt-4o-mini gives."""

SLOW_MS: Final = 50


class Kind(StrEnum):
    PLAIN = "plain"
    SLOW = "slow"
    """Plain, from an upstream that takes `SLOW_MS`."""
    STREAM = "stream"
    PACED = "paced"


_EXTRAS: Final = {Kind.PLAIN: "", Kind.SLOW: "", Kind.STREAM: ',"stream":true', Kind.PACED: ',"stream":true'}
_BODY: Final = (
    '{{"model":"{model}","messages":[{{"role":"system","content":"You are a helpful assistant for the '
    'attendees of a hackathon. Answer briefly."}},{{"role":"user","content":"Tell me about glove boxes, '
    '{pace} a word."}}],"temperature":0.7{extra}}}'
)


def requests(kind: Kind, *, users: int, credential: str | None = None) -> Iterator[bytes]:
    """For ever, one user after the other; or all with the one credential that is given."""
    pace = {Kind.PACED: f"every {PACE_MS} ms", Kind.SLOW: f"after {SLOW_MS} ms"}.get(kind, "every few ms")
    body = _BODY.format(model=MODEL, pace=pace, extra=_EXTRAS[kind]).encode()
    credentials = [credential] if credential else [f"{EVENT}/user-{number}" for number in range(users)]
    return cycle([_request(one, body) for one in credentials])


def _request(credential: str, body: bytes) -> bytes:
    """With the headers that curl and the SDKs send."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n"
        "user-agent: bench\r\naccept-encoding: gzip, deflate\r\nconnection: keep-alive\r\n"
        f"api-key: {credential}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
