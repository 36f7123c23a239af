"""Estimates the tokens of a prompt before the upstream counts them: fast, and rarely too low in any language.

Two bytes of ASCII count as one token (English prose has four to five per token, code about three). Every
other byte counts as one token (Chinese has about three bytes per token, Greek or Hindi two to four). The
JSON around the messages is counted too, for the few tokens that each message adds. Base64 content is not
text: each image, sound or file counts as a fixed number of tokens instead.
"""

from __future__ import annotations

import re

INLINED_TOKENS = 1500
"""About the cost of the largest picture in high detail with the gpt-4o family."""

_inlined = re.compile(
    rb'"(?:url|data|file_data)"\s*:\s*"(?:data:[^"\\]{0,200};base64,)?[A-Za-z0-9+/=]{1000,}"'
)
_linked = re.compile(rb'"type"\s*:\s*"(?:image_url|input_audio|file)"')


def prompt_tokens(body: bytes) -> int:
    """The estimated tokens of the prompt in a request body; never 0."""
    parts = len(_linked.findall(body))
    text = _inlined.sub(b"", body) if parts else body
    ascii_bytes = len(text) if text.isascii() else len(text.decode("ascii", "ignore"))
    return ascii_bytes // 2 + (len(text) - ascii_bytes) + parts * INLINED_TOKENS + 1


def next_correction(correction: float, estimated: int, reported: int) -> float:
    """The factor for the next estimate, after the upstream reported the tokens of an estimated prompt.

    An estimate that was too low raises the factor at once to the right value, so that the error is not
    repeated. Every other estimate halves it, but never below 1.
    """
    return max(1.0, reported / estimated, correction / 2)
