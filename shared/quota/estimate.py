"""The tokens of a prompt, before the upstream has counted them: cheap, and from above for any language.

Two bytes of ASCII are taken for a token (English prose has four to five, code about three), and every
byte beyond ASCII for one (Chinese has about three for each token, Greek or Hindi two to four). The JSON
around the messages is counted too, and stands for the few tokens that each message costs. What is
inlined as base64 is not text: each image, sound or file counts as a fixed figure instead.
"""

from __future__ import annotations

import re
from typing import Final

INLINED_TOKENS: Final = 1500
"""About what the largest picture in high detail costs with the gpt-4o family."""

_inlined = re.compile(
    rb'"(?:url|data|file_data)"\s*:\s*"(?:data:[^"\\]{0,200};base64,)?[A-Za-z0-9+/=]{1000,}"'
)
_linked = re.compile(rb'"type"\s*:\s*"(?:image_url|input_audio|file)"')


def prompt_tokens(body: bytes) -> int:
    """At least as many tokens as the prompt in this request body has; never 0."""
    parts = len(_linked.findall(body))
    text = _inlined.sub(b"", body) if parts else body
    ascii_bytes = len(text) if text.isascii() else len(text.decode("ascii", "ignore"))
    return ascii_bytes // 2 + (len(text) - ascii_bytes) + parts * INLINED_TOKENS + 1


def learned(correction: float, estimated: int, reported: int) -> float:
    """By how much to multiply the next estimate, after one was replaced by what the upstream reported.

    One that was too low raises it at once to what would have been right, so that the error is not made
    again; each that was not halves it. Never below 1: an estimate is from above.
    """
    return max(1.0, reported / estimated, correction / 2)
