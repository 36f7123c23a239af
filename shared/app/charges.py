"""What each call is charged at its end. docs/metering.md has the rules."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

import msgspec

from ..apis.api import UNKNOWN_OUTPUT
from ..core.errors import ProxyError
from ..core.models import Usage
from ..core.money import FREE, Prices
from ..quota.hold import Hold
from ..upstream.call import Call, Progress
from ..upstream.relay import Ending
from .records import Records

REASONING_SECONDS = 5.0
STREAM_SECONDS = 3.0
"""How long the proxy waits for the usage of a stream whose client has left: `REASONING_SECONDS` if the model
may reason. Otherwise `STREAM_SECONDS`, if the client left before the first byte or was slow to read. Without
the usage, the stream is charged its whole output limit."""


def seconds_without_client(call: Call) -> float:
    """How long a call may continue when its client leaves before the first byte.

    A plain call continues to its end, because the model works on it, and Azure bills it in any case.
    """
    if not call.request.stream:
        return math.inf
    return REASONING_SECONDS if call.family.may_reason else STREAM_SECONDS


def drain_seconds(call: Call, progress: Progress) -> float:
    """How many seconds a response is read on when its client leaves, unless its usage comes before.

    A stream of a model that does not reason is closed at once: Azure bills no more than it has sent. (After a
    client that was slow to read, `Relay` reads it on too.) A whole response is read on, because the model has
    made all of it.
    """
    is_closed = call.request.stream and not call.family.may_reason and not progress.client_has_left
    return 0.0 if is_closed else seconds_without_client(call)


class Charges:
    """Charges calls. The usage of a call may be unknown: then the most is charged that it can have used."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._settling: set[asyncio.Task[None]] = set()
        """Calls that have ended and are not charged yet."""

    def settle_most(
        self, hold: Hold, output_tokens: int, prices: Prices, record: Callable[[Usage, int], None]
    ) -> None:
        """Charge the prompt and `output_tokens`, in the background because the prompt is counted first."""

        async def settle() -> None:
            record(*await hold.settle_most(output_tokens, prices))

        task = asyncio.create_task(settle())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def close(self) -> None:
        """Wait until every call is charged."""
        await asyncio.gather(*self._settling)


class Charge(msgspec.Struct, frozen=True):
    """A call that holds its quota. `end`, `fail` or `abandon` ends it."""

    call: Call
    hold: Hold
    progress: Progress
    charges: Charges

    def end(
        self, request_id: str, status: int, ending: Ending, usage: Usage | None, output_bytes: int
    ) -> None:
        """The call has a response. Without a usage, it has at most one token for each of `output_bytes`.

        A model may have reasoned, which costs tokens that are in no byte of the response. The same is true of
        the rest of a whole response that did not come.
        """
        call, progress = self.call, self.progress
        prices = progress.prices or self.hold.need.prices
        if usage is not None:
            self._record(request_id, status, ending, usage, self.hold.settle(usage, prices))
            return
        is_part = not call.request.stream and ending is not Ending.FINISHED
        is_unseen = call.family.may_reason or progress.client_has_left or is_part
        record = partial(self._record, request_id, status, ending)
        self.charges.settle_most(self.hold, UNKNOWN_OUTPUT if is_unseen else output_bytes, prices, record)

    def fail(self, error: ProxyError) -> None:
        """No deployment served the call. It is charged only if one has the prompt and took too long."""
        if self.progress.slow_tries:
            self._end_unseen(error.status, Ending.CUT)
        else:
            self.hold.release()
            self.charges.records.record_failure(self.call, self.progress, error)

    def abandon(self) -> None:
        """The call is cancelled before the first byte."""
        if self.progress.is_sent:
            self._end_unseen(499, Ending.ABANDONED)
        else:
            self.hold.release()

    def _end_unseen(self, status: int, ending: Ending) -> None:
        """Charge the most that the call can cost: which deployment worked on it is not known."""
        self.hold.uncover(self.progress.billed_tries)
        prices = self.hold.need.prices
        if prices is FREE:
            prices = self.progress.prices or FREE
        record = partial(self._record, self.call.id, status, ending)
        self.charges.settle_most(self.hold, UNKNOWN_OUTPUT, prices, record)

    def _record(self, request_id: str, status: int, ending: Ending, charged: Usage, cost: int) -> None:
        if self.progress.slow_tries:
            usage, slow_cost = self.hold.slow
            charged, cost = charged.plus(usage), cost + slow_cost
        self.charges.records.record_end(self.call, self.progress, request_id, status, ending, charged, cost)
