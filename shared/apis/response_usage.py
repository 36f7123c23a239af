"""Reads the usage of the Responses API. The rules for plausible usage are those of `usage`."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.models import Usage
from .usage import OutputTokens, PromptTokens, cached_tokens, usage_reader


class _WireUsage(msgspec.Struct):
    """The member `usage` of a response. Both counts must be there, as integers."""

    input_tokens: PromptTokens
    output_tokens: OutputTokens
    input_tokens_details: Any = None


class _Response(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


_decode_response = msgspec.json.Decoder(_Response).decode


def _usage(wire: _WireUsage) -> Usage:
    cached = cached_tokens(wire.input_tokens_details, wire.input_tokens)
    return Usage(wire.input_tokens, wire.output_tokens, cached)


read_usage = usage_reader(_WireUsage, _usage)
"""Reads the member `usage`; None if it reports none, or nothing plausible."""


def usage_of(response: bytes | msgspec.Raw) -> Usage | None:
    """The usage in a whole response; None if it reports none, or nothing plausible.

    Raises:
        ValueError: the response is not a JSON object.
    """
    try:
        return read_usage(_decode_response(response).usage)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not a JSON object") from error
