"""Notes on an event that is valid, but perhaps not what the organiser wants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from admin.events import text as event_text
from admin.options import option_name
from shared.core.models import LIMITS, Event

_SHORT_QUESTION = b'{"messages":[{"role":"user","content":"Hi"}]}'


def for_new_event(event: Event, url: str | None, now: datetime) -> list[str]:
    notes = [*_on_end(event, now), *_on_limits(event)]
    if url is None:
        notes.append("The address above is a placeholder. Set PROXY_URL in the environment or .env.")
    return notes


def for_changed_event(event: Event, options: Mapping[str, Any], now: datetime) -> list[str]:
    """`event` is the event after the change. Its limits are checked only if `options` has one."""
    notes = []
    if options["starts"] or options["ends"] or options["time_zone"]:
        notes.append(f"The dates are now {event_text.period(event)}.")
    if not event.active:
        notes.append(f"The event is stopped. To reopen it, use `events update {event.code} --resume`.")
    notes += _on_end(event, now)
    if options["no_limit"] or any(options[name] is not None for name in LIMITS):
        notes += _on_limits(event)
    return notes


def _on_end(event: Event, now: datetime) -> list[str]:
    if event.ends_at > now:
        return []
    return [f"The event has ended. To extend it, use `events update {event.code} --ends DATE`."]


def _on_limits(event: Event) -> list[str]:
    if all(getattr(event, name) is None for name in LIMITS):
        return [
            "The event has no limits. To set one, use "
            f"`events update {event.code} --requests-per-day N` or --tokens-total N."
        ]
    limits = {name: getattr(event, name) for name in ("tokens_per_day", "tokens_total")}
    # A limit of 0 is meant to close the event.
    notes = (_on_small_limit(name, limit, event) for name, limit in limits.items() if limit)
    return [note for note in notes if note]


def _on_small_limit(name: str, limit: int, event: Event) -> str | None:
    """Compare the limit with what the quota holds for a request with one answer."""
    from shared.quota.estimate import prompt_tokens
    from shared.quota.standing import LEAST_OUTPUT_TOKENS

    prompt, cap = prompt_tokens(_SHORT_QUESTION), event.max_output_tokens
    least = prompt + min(cap or LEAST_OUTPUT_TOKENS, LEAST_OUTPUT_TOKENS)
    option = f"{option_name(name)} {limit}"
    if limit < least:
        return (
            f"{option} is too low: a question of one word and the shortest useful answer need {least} "
            "tokens. Almost every request will be refused. Raise the limit."
        )
    if cap and limit < prompt + cap:
        return (
            f"{option} is less than one request can use: its prompt and --max-output-tokens {cap}. "
            "Answers will be shorter, and a second request at the same time will be refused. Raise the limit."
        )
    return None
