"""The most that a call can cost: what it holds before it is forwarded."""

from __future__ import annotations

from ..apis.api import Api
from ..apis.embeddings import EMBEDDINGS
from ..apis.extras import check_extras
from ..core.errors import ModelNotPriced
from ..core.money import FREE, Prices
from ..events.admission import output_limit
from ..quota.hold import Need
from ..tokens.families import Family
from ..tokens.inputs import InputsPrompt
from ..tokens.prompt import Prompt
from ..upstream.call import Call
from ..upstream.routing import Routes

MOST_OUTPUT_TOKENS = 1_000_000
"""More than any model returns. A client may ask for more, but no sum must grow without a bound."""


def prompt_of(api: Api, body: bytes, family: Family, earlier_tokens: int) -> Prompt:
    """`earlier_tokens` are those of stored turns."""
    return InputsPrompt(body, family) if api is EMBEDDINGS else Prompt(body, family, earlier_tokens)


def need_of(call: Call, routes: Routes, default_output_tokens: int) -> Need:
    """What the call holds. `default_output_tokens` is the output limit if nothing else sets one.

    Raises:
        InvalidRequest: more choices than the event allows tokens.
        ModelNotPriced: see `prices_of_call`.
        UnsupportedValue: the event has a budget, and the call would cost more than its tokens.
    """
    prices = FREE
    if call.event.has_budget:
        prices = prices_of_call(call, routes)
        check_extras(call.request)
    choices, requested = call.request.choices, call.api.most_output_tokens(call.request, call.model)
    if not call.api.has_output_limit:
        most = min(requested or 0, MOST_OUTPUT_TOKENS)
        return Need(call.prompt.bound, most, choices, least_output=most, prices=prices)
    allowed = output_limit(call.event, choices)
    if requested is None or allowed is None:
        limit = requested or allowed or default_output_tokens
    else:
        limit = min(requested, allowed)
    output = min(limit, MOST_OUTPUT_TOKENS)
    return Need(call.prompt.bound, output, choices, prices=prices, reason=call.prompt.reason)


def prices_of_call(call: Call, routes: Routes) -> Prices:
    """The highest prices at which a call can be charged, for an event with a budget.

    Raises:
        ModelNotPriced: a deployment of the model has no price in the event's currency.
    """
    prices = routes.prices[call.model]
    if prices is None or prices.currency != call.event.currency:
        raise ModelNotPriced(
            f"The model {call.model!r} has no price, and this event has a budget. Use another model, or ask "
            "your organiser to set its price."
        )
    return prices


def lowered_limit(call: Call, need: Need) -> int | None:
    """The output limit to write into the body; None if the client's own limit stays."""
    event, requested = call.event, call.request.output_tokens
    if not call.api.has_output_limit:
        return None
    is_limited = event.max_output_tokens is not None or event.tokens_per_day is not None
    if not (is_limited or event.tokens_total is not None or event.has_budget):
        return None
    return None if requested is not None and requested <= need.output_limit else need.output_limit
