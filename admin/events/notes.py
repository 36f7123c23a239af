"""Notes on an event that may be as it is, but is perhaps not what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from admin.events import text as event_text
from shared.core.models import LIMITS, Event

_ONE_WORD = b'{"messages":[{"role":"user","content":"Hi"}]}'


def of_new(event: Event, url: str | None, now: datetime) -> list[str]:
    told = [*_of_end(event, now), *_of_limits(event)]
    if url is None:
        told.append(
            "PROXY_URL is not set, in the environment or .env, so the address above is to be filled in."
        )
    return told


def of_change(event: Event, changes: Mapping[str, Any], now: datetime) -> list[str]:
    """`event` is what it has become; of its limits only where `changes` name one."""
    told = []
    if changes["starts"] or changes["ends"] or changes["time_zone"]:
        told.append(f"its dates are {event_text.period(event)}.")
    if not event.active:
        told.append("it is stopped, and stays so until `events update --resume`.")
    told += _of_end(event, now)
    if changes["no_limit"] or any(changes[name] is not None for name in LIMITS):
        told += _of_limits(event)
    return told


def _of_end(event: Event, now: datetime) -> list[str]:
    if event.ends_at > now:
        return []
    return ["it is over already: `events update --ends ...` changes that."]


def _of_limits(event: Event) -> list[str]:
    if all(getattr(event, name) is None for name in LIMITS):
        return ["it has no limit at all: each attendee may use as much as they like."]
    given = {name: getattr(event, name) for name in ("tokens_per_day", "tokens_total")}
    told = (_too_small(name, limit, event) for name, limit in given.items() if limit)  # 0 is meant: nobody
    return [note for note in told if note]


def _too_small(name: str, limit: int, event: Event) -> str | None:
    """For a call of one answer, measured as the quota does it."""
    from shared.quota.estimate import prompt_tokens
    from shared.quota.standing import LEAST_OUTPUT_TOKENS

    prompt, cap = prompt_tokens(_ONE_WORD), event.max_output_tokens
    least = prompt + min(cap or LEAST_OUTPUT_TOKENS, LEAST_OUTPUT_TOKENS)
    option = f"--{name.replace('_', '-')} {limit}"
    if limit < least:
        return (
            f"{option} is too little: a question of one word and the shortest useful answer need {least}. "
            "So nearly every call is refused."
        )
    if cap and limit < prompt + cap:
        return (
            f"{option} is less than one call sets aside: its prompt and --max-output-tokens {cap}. "
            "So answers are cut shorter, and a second call meanwhile is refused."
        )
    return None
