"""The members of a body: bounds their number, and changes some. Their values keep their bytes.

Reading hundreds of thousands of members would stop the event loop.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ..core.errors import InvalidJson, InvalidRequest
from ..core.models import API_V1, Deployment
from .json_problems import problem

MAX_MEMBERS = 1000
"""At the top of a body. The APIs have about fifty."""

MANY_COLONS = 20_000
"""A body with fewer colons is read in less than 20 ms, however they are spread."""

TOKENS_PER_TURN = 10_000
"""They take about 5 ms."""

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode

_token = re.compile(rb'"[^"\\]*+(?:(?:\\.)++[^"\\]*+)*+"|[{}\[\],]', re.DOTALL)


def _next_turn() -> Awaitable[None]:
    return asyncio.sleep(0)


async def check_members(
    body: bytes, most_parts: int | None = None, turn: Callable[[], Awaitable[None]] = _next_turn
) -> None:
    """Count the members of a valid JSON object, in several turns of the event loop if it has many parts.

    `turn` waits for the next one.

    Raises:
        InvalidRequest: it has more than `MAX_MEMBERS`, or more than `most_parts` members and items in all.
    """
    has_few_parts = most_parts is None or body.count(b",") < most_parts
    if has_few_parts and body.count(b":") <= MANY_COLONS:
        return
    depth = members = parts = 0
    for number, match in enumerate(_token.finditer(body), 1):
        token = body[match.start()]
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif token == ord(","):
            parts += 1
            members += depth == 1
            if members >= MAX_MEMBERS:
                raise InvalidRequest(
                    f"The body has more than {MAX_MEMBERS:,} members. Send only the members of the API."
                )
            if most_parts is not None and parts >= most_parts:
                raise InvalidRequest(f"The body has more than {most_parts:,} parts. Send a shorter request.")
        if number % TOKENS_PER_TURN == 0:
            await turn()


def raw_members(body: bytes) -> dict[str, Any]:
    """The members of a body, with their values as raw bytes. Of equal names, the last one counts.

    Raises:
        InvalidJson: the values are nested too deeply. On Python 3.11 that also depends on the stack, so the
            API may have accepted them.
    """
    try:
        return _decode_members(body)
    except RecursionError as error:
        raise InvalidJson(f"The body is not valid JSON{problem(body, error)}.") from error


def with_model(body: bytes, deployment: Deployment) -> bytes:
    """The body with the deployment's name, where the API takes it from the body. Other values stay."""
    members = raw_members(body)
    if deployment.api_version == API_V1:
        members["model"] = deployment.deployment_name
    return encode(members)
