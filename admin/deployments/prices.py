"""Prices of models from the package genai-prices. A name that is not in it is never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from admin.errors import CommandError
from shared.core.models import DEFAULT_CURRENCY, Deployment, LongPrices
from shared.core.money import prices_of

if TYPE_CHECKING:
    from genai_prices.types import Provider

_PROVIDERS = ("azure", "openai")
"""Azure's list has few models. For the others, its prices are those of OpenAI."""

_PROMPT = ("input_mtok", "input_audio_mtok")
_CACHED = ("cache_read_mtok", "cache_audio_read_mtok")
_COMPLETION = ("output_mtok", "output_audio_mtok", "output_image_mtok")
"""Where a model has several, the highest counts: the proxy does not distinguish text from sound."""

_PRICES = ("prompt_price", "cached_prompt_price", "completion_price", "long_prices")
SOURCE_CURRENCY = DEFAULT_CURRENCY


class ListedPrice(NamedTuple):
    """The price of a model. None: it has no such tokens, or no such price."""

    prompt: Decimal | None
    cached: Decimal | None
    completion: Decimal | None
    long: LongPrices | None
    source: str
    """The list, its version, and the entry."""

    def columns_for(self, deployment: Deployment) -> dict[str, Any]:
        """The prices that the deployment needs, by column."""
        completion = self.completion if deployment.has_completions else None
        columns = {
            "prompt_price": self.prompt,
            "cached_prompt_price": self.cached,
            "completion_price": completion,
            "long_prices": self.long,
        }
        return {name: value for name, value in columns.items() if value is not None}


class PriceList:
    """The prices of the package, or with `refresh`, those of today from its address on GitHub."""

    def __init__(self, *, refresh: bool = False) -> None:
        self._providers: Sequence[Provider]
        self._providers, self._name = _fetched() if refresh else _bundled()

    def find(self, *names: str) -> ListedPrice | None:
        """The price of the model that has exactly one of these names; the first that is known."""
        return next(filter(None, (self._find(name) for name in names)), None)

    def _find(self, name: str) -> ListedPrice | None:
        for provider_id in _PROVIDERS:
            provider = next(one for one in self._providers if one.id == provider_id)
            for model in provider.models:
                if name.lower() not in {model.id, *_names(model.match)}:
                    continue
                if found := _listed(
                    vars(model.get_prices(datetime.now(UTC))), f"{self._name}, {provider.id}/{model.id}"
                ):
                    return found
        return None


def price_text(prompt: Decimal | None, cached: Decimal | None, completion: Decimal | None) -> str:
    """`2.5 / 10, cached 1.25`."""
    parts = " / ".join("-" if one is None else f"{one:f}" for one in (prompt, completion))
    return parts if cached is None else f"{parts}, cached {cached:f}"


def with_listed_prices(deployment: Deployment, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options, with listed prices for those that are missing. A note says where they are from.

    If one price is named, only the others are filled in.
    """
    named = {name: options[name] for name in (*_PRICES, "currency") if options[name] is not None}
    wanted = replace(deployment, **named)
    if options["free"] or prices_of(wanted) is not None:
        return options, []
    how = "Set it with --prompt-price and --completion-price: events with a budget need it."
    if wanted.currency != SOURCE_CURRENCY:
        return options, [f"The list of prices has none in {wanted.currency}. {how}"]
    found = PriceList().find(deployment.model)
    if found is None:
        return options, [f"The price of {deployment.model!r} is not known. {how}"]
    listed = {name: one for name, one in found.columns_for(wanted).items() if getattr(wanted, name) is None}
    text = ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in listed.items())
    return options | listed, [
        f"Prices for 1,000,000 tokens in {SOURCE_CURRENCY}: {text} ({found.source}). Compare them with your "
        "contract. To change them, use `deployments update`."
    ]


def _bundled() -> tuple[Sequence[Provider], str]:
    from importlib.metadata import version

    from genai_prices.data import providers

    return providers, f"genai-prices {version('genai-prices')}"


def _fetched() -> tuple[Sequence[Provider], str]:
    """Raises CommandError: GitHub cannot be reached, or its list cannot be read."""
    import httpx2
    from genai_prices import UpdatePrices

    try:
        snapshot = UpdatePrices().fetch()
    except (httpx2.HTTPError, ValueError) as error:
        raise CommandError(
            f"Cannot get the newest prices: {type(error).__name__}. Check your network, or leave out "
            "--refresh."
        ) from error
    if snapshot is None:
        raise CommandError("Cannot get the newest prices: the list is empty. Leave out --refresh.")
    return snapshot.providers, f"genai-prices of {datetime.now(UTC):%Y-%m-%d}"


def _names(match: Any) -> Iterator[str]:
    """The names that a rule of the list means exactly. Rules that match a part of a name are left out."""
    if (name := getattr(match, "equals", None)) is not None:
        yield name
    for part in getattr(match, "or_", ()):
        yield from _names(part)


def _listed(prices: Mapping[str, Any], source: str) -> ListedPrice | None:
    """The prices of one model of the list. None if it has no price of prompt tokens."""
    all_names = (_PROMPT, _CACHED, _COMPLETION)
    prompt, cached, completion = (_highest(prices, names, _base) for names in all_names)
    if prompt is None:
        return None
    starts = [tier.start for price in prices.values() for tier in getattr(price, "tiers", ())]
    if not starts:
        return ListedPrice(prompt, cached, completion, None, source)
    long_prompt, long_cached, long_completion = (_highest(prices, names, _longest) for names in all_names)
    long_prompt = long_prompt or prompt
    long = LongPrices(min(starts), long_prompt, long_cached or long_prompt, long_completion or Decimal(0))
    return ListedPrice(prompt, cached, completion, long, source)


def _highest(prices: Mapping[str, Any], names: Sequence[str], of: Callable[[Any], Decimal]) -> Decimal | None:
    return max((of(prices[name]) for name in names if prices.get(name) is not None), default=None)


def _base(price: Any) -> Decimal:
    """The price of short prompts."""
    base: Decimal = price if isinstance(price, Decimal) else price.base
    return base


def _longest(price: Any) -> Decimal:
    """The highest price of any length."""
    return price if isinstance(price, Decimal) else max(price.base, *(tier.price for tier in price.tiers))


def _text(value: Decimal | LongPrices) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
