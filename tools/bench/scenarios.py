"""The scenarios, and the requests that their attendees send, as bytes for the wire."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, repeat
from typing import Final

EVENT: Final = "bench"
MODEL: Final = "gpt-4o-mini"
LARGE_WINDOW: Final = "gpt-4.1-mini"
"""A text of 1 MB fits into its context window."""
MODELS: Final = (MODEL, LARGE_WINDOW)
PACE_MS: Final = 20
"""50 chunks a second, about the speed of gpt-4o-mini."""
SLOW_MS: Final = 50
CHAT, RESPONSES = "chat/completions", "responses"
_PACED: Final = f"every {PACE_MS} ms"
_SLOW: Final = f"after {SLOW_MS} ms"


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    connections: int
    users: int = 100
    stream: bool = False
    api: str = CHAT
    pace: str = "every few ms"
    """Part of the prompt. With a number in it, the upstream paces its stream or delays its response."""
    app_only: bool = False
    takes: int = 1
    """How often it is measured in each round."""

    @property
    def paced(self) -> bool:
        return self.pace == _PACED

    @property
    def has_delays(self) -> bool:
        return self.pace in {_PACED, _SLOW}

    @property
    def unit(self) -> str:
        return "chunks" if self.stream else "requests"


PLAIN_1: Final = Scenario("plain, 1 connection", 1)
PLAIN_16: Final = Scenario("plain, 16 connections", 16)
PLAIN_64: Final = Scenario("plain, 64 connections", 64)
SLOW_64: Final = Scenario(f"plain, 64 connections, upstream takes {SLOW_MS} ms", 64, pace=_SLOW)
ONE_USER: Final = Scenario("plain, 16 connections, 1 user", 16, users=1, app_only=True)
STREAMS: Final = Scenario("16 streams at full speed", 16, stream=True)
RESPONSES_STREAMS: Final = replace(
    STREAMS, name="16 streams of the Responses API at full speed", api=RESPONSES, app_only=True
)
"""To compare with the streams of chat. Not every other proxy serves this API."""
PACED: Final = Scenario("50 paced streams", 50, stream=True, pace=_PACED, takes=5)
"""Taken more often: the slowest 1 % of chunks depend on how the streams of a take fall together."""
SCENARIOS: Final = (PLAIN_16, ONE_USER, PLAIN_1, PLAIN_64, SLOW_64, STREAMS, RESPONSES_STREAMS, PACED)

_SYSTEM: Final = "You are a helpful assistant for the attendees of a hackathon. Answer briefly."
_QUESTION: Final = "Tell me about glove boxes, %s a word."
_PROMPTS: Final = {
    CHAT: '"messages":[{"role":"system","content":"%s"},{"role":"user","content":"%s"}]',
    RESPONSES: '"instructions":"%s","input":"%s"',
}
_BODY: Final = '{"model":"%s",%s,"temperature":0.7%s}'
_REQUEST: Final = (
    "POST /v1/%s HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n"
    "user-agent: bench\r\naccept-encoding: gzip, deflate\r\nconnection: keep-alive\r\n"
    "%s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
)
"""With the headers that curl and the SDKs send."""


def requests(scenario: Scenario, key: str | None = None) -> Iterator[bytes]:
    """For ever, one user after the other; or all with the one key that another proxy takes."""
    body = body_of(scenario)
    if key:
        return repeat(request(f"authorization: Bearer {key}", body, scenario.api))
    return cycle([request(f"api-key: {EVENT}/user-{n}", body, scenario.api) for n in range(scenario.users)])


def event_code(number: int) -> str:
    return f"{EVENT}-{number}" if number else EVENT


def body_of(scenario: Scenario) -> str:
    prompt = _PROMPTS[scenario.api] % (_SYSTEM, _QUESTION % scenario.pace)
    return _BODY % (MODEL, prompt, ',"stream":true' * scenario.stream)


def request(credential: str, body: str, api: str = CHAT) -> bytes:
    """`credential` is a line of its head."""
    return (_REQUEST % (api, credential, len(body), body)).encode()
