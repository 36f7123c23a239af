"""The tokens that one prompt can cost: a cheap upper bound, and the exact count."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from . import parts, text, tokenizer
from .families import Family
from .reasons import reason
from .shifts import in_shifts, thread

T = TypeVar("T")

FRAMING_TOKENS = 16
"""The framing of every prompt. OpenAI counts 3 for the start of the answer."""

SHORT = 4096
"""Bytes. The tokens of a shorter text are counted on the event loop, in less than a millisecond."""

LONG = 65_536
"""Bytes. Longer text is counted in shifts: one of 7 MB may take 10 seconds."""

MAX_OBJECTS_ON_LOOP = 10_000
MAX_MEDIA_ON_LOOP = 32
"""The most objects, and the most media, of a body that are read on the event loop."""

SAMPLES = 64
SAMPLE_BYTES = 128
"""Each sample is at a random place of its own part of the body, so that no text can avoid them all."""

FAR_BELOW = 0.75
"""A body whose samples show less than this part of the context window is not counted to the end."""

_MEDIA = (b"image", b"audio", b"file", b"ources", b"\\u00")
"""A body without these bytes has no media. (The last begins the escape of a letter.)"""


class Prompt:
    """The tokens that one prompt can cost. Shared by nothing but its own call."""

    reason = ""
    """Why a short prompt can cost many tokens, and what to do."""

    def __init__(self, body: bytes, family: Family, earlier_tokens: int = 0) -> None:
        """`earlier_tokens` are those of earlier turns, which the upstream has stored."""
        self._body = body
        self._family = family
        self._count: asyncio.Future[int] | None = None
        self._hidden = FRAMING_TOKENS + family.preamble_tokens + earlier_tokens
        added, picture_tokens, reason = _added_tokens(body, family)
        if reason:
            self.reason = reason
        self._is_plain = added == picture_tokens == 0
        tokens = len(body) + self._hidden + added
        self.bound = min(tokens, family.context_tokens or tokens) + picture_tokens
        """Never below what the upstream can bill for the prompt. A prompt over the context window is refused
        there, so it costs nothing. But pictures can cost more than the window: gpt-4o-mini bills 33 times the
        tokens that they take of it."""

    async def count(self) -> int:
        """The tokens, counted exactly, from above; never more than `bound`.

        Runs once, in a thread if the body is long. Several callers share it, and one that leaves does not
        stop it. A body that cannot be decoded, or has too many members, has its bound. So have all bodies
        where there is no tokenizer.
        """
        if self._count is None:
            loop = asyncio.get_running_loop()
            if self._is_plain and len(self._body) <= SHORT and tokenizer.is_loaded(self._family.encodings):
                self._count = loop.create_future()
                self._count.set_result(self._counted())
            else:
                self._count = self._in_thread(self._counted)
        return await asyncio.shield(self._count)

    async def is_too_long(self) -> bool:
        """Whether the text of the messages alone exceeds the model's context window.

        Counted from below, so nothing that fits is refused. False for an unknown model, and if samples show
        far fewer tokens: the upstream refuses what they miss, and bills nothing.
        """
        limit = self._family.context_tokens
        if limit is None or len(self._body) <= limit:
            return False
        return await self._in_thread(self._exceeds, limit)

    def _in_thread(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        loop, is_long = asyncio.get_running_loop(), len(self._body) > LONG
        if is_long:
            return loop.run_in_executor(thread(is_long), in_shifts, work, *arguments)
        return loop.run_in_executor(thread(is_long), work, *arguments)

    def _counted(self) -> int:
        read = self._read()
        if read is None:
            return self.bound
        hidden, found = parts.hidden_tokens(read, self._family), parts.media_parts(read)
        media = parts.Media(hidden, found, self._family, exactly=True)
        skipped = Counter(media.strings)
        tokens = text.text_tokens(self._body, self._family.encodings, skipped, self.bound)
        return self.bound if tokens is None else min(self.bound, self._hidden + media.tokens + tokens)

    def _read(self) -> parts.MediaBody | None:
        """The members to count; None if they cannot be counted."""
        can_count = tokenizer.is_available() and not text.is_complex(self._body)
        return parts.decode(self._body) if can_count else None

    def _exceeds(self, limit: int) -> bool:
        if tokenizer.is_available() and self._sampled() < FAR_BELOW * limit:
            return False
        read = self._read()
        tokens = 0
        for message in parts.message_texts(read or parts.MediaBody()):
            tokens += tokenizer.count(message, self._family.encodings, limit)[0]
            if tokens > limit:
                return True
        return False

    def _sampled(self) -> float:
        """About how many tokens the body has. To count all takes 5 times as long as to pass it on."""
        part = len(self._body) // SAMPLES
        places = [n * part + random.randrange(part - SAMPLE_BYTES) for n in range(SAMPLES)]  # noqa: S311
        sample = b"".join(self._body[place : place + SAMPLE_BYTES] for place in places)
        counted = tokenizer.count(sample.decode(errors="ignore"), self._family.encodings)[1]
        return counted * len(self._body) / len(sample)


def _added_tokens(body: bytes, family: Family) -> tuple[int, int, str]:
    """What media and hidden text add to one token for each byte: all but pictures, and pictures. And why.

    The bytes of media are no text, so the first may be negative.
    """
    objects = body.count(b"{") if len(body) > MAX_OBJECTS_ON_LOOP else 0
    if objects <= MAX_OBJECTS_ON_LOOP and parts.is_text_only(body):
        return 0, 0, ""
    read = parts.decode(body) if objects <= MAX_OBJECTS_ON_LOOP else None
    if read is None:
        may_have_media = any(map(body.__contains__, _MEDIA))
        return parts.TOOLS_TOKENS, may_have_media * (objects + 1) * family.file_tokens, ""
    hidden, found = parts.hidden_tokens(read, family), parts.media_parts(read)
    if len(found) > MAX_MEDIA_ON_LOOP:
        return hidden, len(found) * family.file_tokens, reason(read, found, family, 0, len(body))
    media = parts.Media(hidden, found, family, exactly=False)
    media_bytes, pictures = sum(map(len, media.strings)), media.picture_tokens
    why = reason(read, found, family, pictures, len(body) - media_bytes)
    return media.tokens - pictures - media_bytes, pictures, why
