"""A gate holds the answers of calls where a test wants them, so that no test has to guess with a sleep.

What passes a gate, in order: the status with the headers, then piece 1, 2, 3... A piece is one event of a
stream (`data: ...`), or the whole body of an answer that is not streamed.
"""

import asyncio
import sys

from .bell import Bell

_SHUT = -1  # not even the status passes
_HEADERS = 0


class Gate:
    def __init__(self) -> None:
        self._bell = Bell()
        self._open = _SHUT
        self._sent: dict[object, int] = {}

    def open(self, pieces: int) -> None:
        """Let the status and the first `pieces` pieces of each call pass (0: the status alone)."""
        self._open = max(self._open, pieces)
        self._bell.ring()

    def open_all(self) -> None:
        self.open(sys.maxsize)

    async def arrived(self, calls: int = 1, timeout: float = 5.0) -> None:  # noqa: ASYNC109 a test's patience
        """Wait until that many calls stand at the gate or are past it."""
        await self._wait(_SHUT, calls, timeout)

    async def reached(self, pieces: int, calls: int = 1, timeout: float = 5.0) -> None:  # noqa: ASYNC109 likewise
        """Wait until that many calls have each sent that many pieces (0: the status). Else TimeoutError."""
        await self._wait(pieces, calls, timeout)

    async def _wait(self, pieces: int, calls: int, patience: float) -> None:
        def enough() -> bool:
            return sum(sent >= pieces for sent in self._sent.values()) >= calls

        try:
            async with asyncio.timeout(patience):
                await self._bell.until(enough)
        except TimeoutError:
            sent = sorted(self._sent.values())
            raise TimeoutError(f"no {calls} calls with {pieces} pieces sent; sent so far: {sent}") from None

    async def before_headers(self, call: object) -> None:
        self._report(call, _SHUT)
        await self._bell.until(lambda: self._open >= _HEADERS)

    async def before_piece(self, number: int) -> None:
        if self._open < number:
            await self._bell.until(lambda: self._open >= number)

    def after_headers(self, call: object) -> None:
        self._report(call, _HEADERS)

    def after_piece(self, call: object, number: int) -> None:
        self._report(call, number)

    def _report(self, call: object, sent: int) -> None:
        self._sent[call] = sent
        self._bell.ring()
