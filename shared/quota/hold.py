"""What one call may use, and what it holds of its accounts while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace

from ..core.errors import StoreUnavailable
from ..core.models import Usage
from ..core.money import FREE, Prices
from .amounts import NOTHING, Amount
from .exchange import Exchange
from .running import Running
from .standing import LEAST_CALL, LEAST_OUTPUT_TOKENS, Standing

_log = logging.getLogger(__name__)

COVER_SECONDS = 2.0
"""How long a call waits for what another try can cost."""

_NOTHING_SLOW = Usage(), 0

Count = Callable[[], Awaitable[int]]
"""Counts the tokens of a prompt exactly. It never returns more than the bound that the need began with."""


class Need(Struct, frozen=True, gc=False):
    """The most that a call can use. `output_limit` is for each of its `choices`.

    `prompt_tokens` is a bound from above, until the prompt is counted.
    """

    prompt_tokens: int
    output_limit: int
    choices: int
    least_output: int = LEAST_OUTPUT_TOKENS
    """The output limit may be lowered to this, but not further."""
    prices: Prices = FREE
    """The highest prices of the deployments that may serve the call. Free if money is not limited."""
    reason: str = ""
    """Why a short prompt can use so many tokens, and what to do: for the refusal."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_limit * self.choices

    @property
    def amount(self) -> Amount:
        return self._amount(self.output_limit)

    @property
    def least(self) -> Amount:
        return self.least_with(0)

    @property
    def shortest(self) -> Amount:
        """What a call costs with a prompt and an answer of a few words, at these prices."""
        prompt, completion = LEAST_CALL.tokens - LEAST_OUTPUT_TOKENS, LEAST_OUTPUT_TOKENS
        return Amount(1, prompt + completion, self.prices.most_cost(prompt, completion))

    def least_with(self, output_tokens: int) -> Amount:
        """The amount with an output limit lowered to `output_tokens`, as far as it may be lowered."""
        return self._amount(min(self.output_limit, max(output_tokens, self.least_output)))

    def within(self, most: Amount) -> Need:
        """The same call with an output limit so low that it uses at most `most`."""
        output = most.tokens - self.prompt_tokens
        if (affordable := self.prices.most_completion(self.prompt_tokens, most.cost)) is not None:
            output = min(output, affordable)
        limit = output // self.choices
        return self if limit >= self.output_limit else replace(self, output_limit=limit)

    def _amount(self, output_limit: int) -> Amount:
        prompt, output, prices = self.prompt_tokens, output_limit * self.choices, self.prices
        cost = 0 if prices is FREE else prices.most_cost(prompt, output)
        return Amount(1, prompt + output, cost)


class Hold:
    """What a call holds of its accounts. The first `settle` or `release` ends it; later ones do nothing."""

    __slots__ = (
        "_count",
        "_deadline",
        "_further",
        "_held",
        "_running",
        "_running_amount",
        "amount",
        "need",
        "slow",
        "standing",
    )

    standing: Standing
    """What is left to the attendee."""

    def __init__(self, need: Need, count: Count) -> None:
        self.need, self.amount = need, need.amount
        """What the call can use, and that as an amount."""
        self._count: Count | None = count
        """None when the prompt is counted."""
        self._held: list[tuple[Exchange, Amount]] = []
        self._further: list[list[tuple[Exchange, Amount]]] = []
        """The same again for each further try that may be billed."""
        self.slow = _NOTHING_SLOW
        """The usage and the cost that were charged for earlier tries. No method returns them."""
        self._deadline: float | None = None
        self._running: Running | None = None
        self._running_amount = NOTHING

    @property
    def least(self) -> Amount:
        """The least that the call needs, as far as it is known: its prompt may not be counted."""
        return self.need.least if self._count is None else self.need.shortest

    @property
    def reason(self) -> str:
        """Why its counted prompt can use so many tokens, and what to do. Empty if it is just long."""
        return self.need.reason if self._count is None else ""

    def waits_until(self, seconds: float) -> float:
        """The time of the loop until which this call waits for grants: for `seconds` from the first wait."""
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + seconds
        return self._deadline

    def wait_longer(self, seconds: float) -> None:
        """Move that time: the call has waited for something else."""
        if self._deadline is not None:
            self._deadline += seconds

    def add(self, exchange: Exchange, held: Amount) -> None:
        """Add what is held of one account. If it is less than the need, the output limit is lowered to it.

        If it is more, because the prompt was counted since, it is reduced.
        """
        self._held.append((exchange, held))
        if self._count is not None:
            exchange.uncounted.add(self)
        if held is not self.amount:
            self.lower_to(held)

    def lower_to(self, most: Amount) -> None:
        """Lower the output limit, so that the call uses at most `most`, and hold no more than that."""
        self._lower(self.need.within(most))

    def count_in(self, running: Running) -> None:
        """Count this call among the running ones of its user, until its end."""
        self._running = running
        self._running_amount = self.amount
        running.held = running.held.plus(self._running_amount)

    async def count_prompt(self) -> None:
        """Hold what the prompt costs, in place of its bound."""
        if self._count is None:
            return
        tokens = await _counted(self._count, self.need.prompt_tokens)
        if self._count is None:
            return  # another task was faster
        self._count = None
        for exchange, _ in self._held:
            exchange.uncounted.discard(self)
        self._lower(replace(self.need, prompt_tokens=min(tokens, self.need.prompt_tokens)))

    async def cover(self, tries: int) -> bool:
        """Hold what this many tries can cost: each may be billed. False if too little is left for that."""
        try:
            async with asyncio.timeout(COVER_SECONDS):
                while len(self._further) < tries - 1:
                    self._further.append([])
                    for exchange, _ in self._held:
                        amount = replace(self.need.amount, requests=0)
                        if (held := await exchange.hold(amount, amount)) is None:
                            return False
                        self._further[-1].append((exchange, held))
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    def uncover(self, tries: int) -> None:
        """Hold no more than this many tries can cost."""
        while len(self._further) > max(0, tries - 1):
            for exchange, held in self._further.pop():
                exchange.settle(held, NOTHING)

    def settle(self, usage: Usage, prices: Prices) -> int:
        """Charge one request and its usage, at the prices of the deployment that served it.

        Returns the cost, in millionths of the currency.
        """
        cost = 0 if prices is FREE else prices.cost(usage)
        if self._further:
            # A refusal has no usage of its own.
            self._settle_further(usage.prompt_tokens or self.need.prompt_tokens, prices)
        self._end(Amount(1, usage.prompt_tokens + usage.completion_tokens, cost))
        return cost

    async def settle_most(self, output_tokens: int, prices: Prices) -> tuple[Usage, int]:
        """Charge the most that the call can have used, for a call whose usage is not known.

        That is its prompt, and `output_tokens` or its output limit, whichever is less. Returns that usage and
        its cost.
        """
        await self.count_prompt()
        need = self.need
        usage = Usage(need.prompt_tokens, min(output_tokens, need.output_limit * need.choices))
        cost = prices.most_cost(usage.prompt_tokens, usage.completion_tokens)
        self._settle_further(usage.prompt_tokens, prices)
        self._end(Amount(1, usage.total_tokens, cost))
        return usage, cost

    def release(self) -> None:
        """Charge nothing: the call was not forwarded, or failed."""
        self.uncover(1)
        self._end(NOTHING)

    def _lower(self, need: Need) -> None:
        """Hold what `need` can use, in place of a larger need."""
        self.need, self.amount = need, (amount := need.amount)
        for index, (exchange, held) in enumerate(self._held):
            self._held[index] = exchange, exchange.account.reduce(held, amount)
        if (running := self._running) is not None:
            running.held = running.held.changed_by(amount, self._running_amount)
            self._running_amount = amount

    def _settle_further(self, prompt_tokens: int, prices: Prices) -> None:
        """Charge the most that the earlier tries can have used: no usage of theirs is reported.

        Without a budget, they cost about as much as the last one, at `prices`.
        """
        need, tries = self.need, len(self._further)
        output_tokens = need.output_limit * need.choices
        highest = prices if need.prices is FREE else need.prices
        cost = highest.most_cost(prompt_tokens, output_tokens)
        while self._further:
            for exchange, held in self._further.pop():
                exchange.settle(held, Amount(0, prompt_tokens + output_tokens, cost))
        self.slow = Usage(tries * prompt_tokens, tries * output_tokens), tries * cost

    def _end(self, used: Amount) -> None:
        while self._held:
            exchange, held = self._held.pop()
            exchange.uncounted.discard(self)
            exchange.settle(held, used)
        if self._running is not None:
            self._running.held = self._running.held.minus(self._running_amount)
            self._running = None


async def _counted(count: Count, bound: int) -> int:
    try:
        return await count()
    except Exception:  # one prompt must not stop the calls of others, nor the charge of its own
        _log.exception("A prompt cannot be counted. Its bound is used.")
        return bound
