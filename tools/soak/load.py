"""The attendees: what they send, and whether each response is right."""

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random
from time import monotonic
from typing import Any

import aiohttp

from tools.attack.stage import Instance

from .accounts import Accounts
from .fleet import MOST_OVER, Fleet, Sent

CHAT, EMBEDDING = "gpt-4o", "text-embedding-3-small"
MOST_OUTPUT = 48
_LONGEST_SECONDS, _STILL_FAILING_SECONDS = 60, 10.0
_QUOTED = re.compile(r"You asked: “(Call [\w /-]+:?)")  # the simulator repeats the prompt
_RESULT = {"chat/completions": "choices", "responses": "output", "embeddings": "data"}
_USED_UP = {
    "request_quota_exceeded": "requests",
    "token_quota_exceeded": "tokens",
    "event_budget_exceeded": "cost",
}
_FAILURES = {(429, "upstream_busy"), (502, "upstream_error"), (503, "store_unavailable")}
"""The codes of docs/errors.md that this load can cause."""


class Wrong(Exception):
    """The response is none that docs/ allows. The message says why."""


@dataclass(slots=True)
class Load:
    fleet: Fleet
    accounts: Accounts
    http: aiohttp.ClientSession
    seed: int
    results: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def run(self, credential: str, pause_seconds: float) -> None:
        """One attendee, whose calls do not overlap. A fifth are left early."""
        random = Random(f"{self.seed} {credential}")  # noqa: S311 - no secret
        for number in count():
            await asyncio.sleep(random.expovariate(1 / pause_seconds))
            if monotonic() > self.fleet.ends_at:
                return
            instance = random.choice(self.fleet.instances)
            sent = Sent(self.accounts.of(credential), instance, credential)
            self.fleet.sent.append(sent)
            leave_after = random.uniform(0, 0.4) if random.random() < 0.2 else None
            try:
                result = await self._result(_call(random, credential, number), instance, leave_after)
            except Wrong as wrong:
                result = "wrong"
                self.wrong.append(f"{credential}, call {number}: {wrong}")
            self.results[result] += 1
            if result in {"left", "cut by a kill", "200 and an error event"}:
                sent.account.may_be_over = sent.account.may_be_over.plus(MOST_OVER)
            sent.ended_at, sent.is_served = monotonic(), not result.startswith(("4", "5"))

    async def _result(self, call: "_Call", instance: Instance, leave_after: float | None) -> str:
        received = bytearray()
        sending = self.http.post(
            f"{instance.url}/v1/{call.api}", json=call.body, headers={"api-key": call.credential}
        )
        try:
            async with asyncio.timeout(leave_after or _LONGEST_SECONDS), sending as response:
                try:
                    async for data in response.content.iter_any():
                        received += data
                except aiohttp.ClientError:  # it was cut: the last event must say so
                    if not call.streams or not _is_failed(_text(received)):
                        raise
                return self._check(call, response.status, _text(received))
        except TimeoutError:
            if leave_after is None:
                raise Wrong(f"no end within {_LONGEST_SECONDS} s") from None
            return "left"
        except aiohttp.ClientError as error:
            if instance.child.pid in self.fleet.killed:
                return "cut by a kill"
            raise Wrong(f"{error!r} after {bytes(received[-300:])!r}") from None

    def _check(self, call: "_Call", status: int, text: str) -> str:
        if status != 200:
            return f"{status} {self._refusal(call, status, text)}"
        if call.streams and _is_failed(text):
            return "200 and an error event"
        try:
            written = call.written(text)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Wrong(f"status 200 with {text[-300:]!r}") from None
        if (quoted := _QUOTED.search(written)) and not call.marker.startswith(quoted[1]):
            raise Wrong(f"the response of another call: {quoted[0]!r}")
        return "200"

    def _refusal(self, call: "_Call", status: int, text: str) -> str:
        """The code. Raises Wrong if there is no reason for it."""
        try:
            code = str(json.loads(text)["error"]["code"])
        except (ValueError, LookupError, TypeError):
            raise Wrong(f"status {status} with {text[:200]!r}") from None
        if status == 429 and code in _USED_UP:
            if self.accounts.of(call.credential).has_plenty(_USED_UP[code]):
                raise Wrong(f"{code}, although much is left")
        elif (status, code) not in _FAILURES:
            raise Wrong(f"status {status}, {code}")
        elif status == 503 and not self.fleet.tables_failed(_STILL_FAILING_SECONDS):
            raise Wrong("the tables do not fail, but the status is 503")
        return code


@dataclass(frozen=True, slots=True)
class _Call:
    credential: str
    marker: str
    api: str
    body: dict[str, Any]

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))

    def written(self, text: str) -> str:
        """What the model wrote. Raises ValueError and the like if the body, or the stream's end, is wrong."""
        if not self.streams:
            return json.dumps(json.loads(text)[_RESULT[self.api]], ensure_ascii=False)
        *events, last = _events(text)
        if self.api == "responses":
            event = json.loads(last)
            if event["type"] not in {"response.completed", "response.incomplete"}:
                raise ValueError(event["type"])
            return json.dumps(event["response"]["output"], ensure_ascii=False)
        if last != "[DONE]":
            raise ValueError(last)
        choices = [choice for event in events for choice in json.loads(event)["choices"]]
        return "".join(choice.get("delta", {}).get("content") or "" for choice in choices)


def _call(random: Random, credential: str, number: int) -> _Call:
    """The member `user` names the account in the simulator's journal."""
    marker, streams = f"Call {number} of {credential}:", random.random() < 0.5
    prompt = f"{marker} tell me about glove boxes."
    body: dict[str, Any] = {"user": credential, "model": CHAT, "stream": streams}
    match api := random.choice(("embeddings", *["responses", "chat/completions"] * 2)):
        case "embeddings":
            body = {"user": credential, "model": EMBEDDING, "input": prompt}
        case "responses":
            body |= {"input": prompt, "max_output_tokens": MOST_OUTPUT}
        case _:
            body |= {"messages": [{"role": "user", "content": prompt}], "max_tokens": MOST_OUTPUT}
    return _Call(credential, marker, api, body)


def _text(received: bytearray) -> str:
    return received.decode(errors="replace")


def _events(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def _is_failed(text: str) -> bool:
    """Whether the last event of a stream is an error."""
    try:
        event = json.loads("".join(_events(text)[-1:]))
    except ValueError:  # [DONE], or half an event
        return False
    return bool(event.get("error")) or event.get("type") in {"error", "response.failed"}
