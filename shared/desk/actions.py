"""What an organiser can do at the desk. Each action is a small change of the event, as its row is then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from ..core.errors import ChangedMeanwhile, InvalidJson, InvalidRequest, NotFound, wrong_member
from ..core.models import BLOCKED, MOST_EXCEPTIONS, OPEN, PASS_NUMBER, Credential, Event, Own
from ..core.money import HIGHEST_BUDGET, MILLION, amount_text, money_text
from ..core.times import with_date
from ..events.credentials import is_user
from ..events.passes import without_pass
from .figures import LIMIT_NAMES, MONEY

LONGEST_EXTENSION = timedelta(days=31)
LONGEST_EVENT = timedelta(days=366)
"""How far from now, or from its start, the desk can move the end of an event."""
LARGEST_LIMIT = 10**12


class Order(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of an action. An action reads only its own members."""

    minutes: int | None = None
    """For `extend`: by how much. Below 0, the event ends earlier."""
    limit: str | None = None
    """For `raise`: a name in `LIMIT_NAMES`."""
    to: int | float | str | None = None
    """The new limit. Money is in units of the currency."""
    was: int | float | str | None = None
    """The limit or the end that the organiser saw. If another has changed it since, nothing is changed."""
    user: str | None = None
    """For `block`, `unblock` and `release`."""


class Done(NamedTuple):
    """What an action did."""

    event: Event
    """As it is now."""
    text: str
    undo: dict[str, Any] | None = None
    """The action and the body that take it back. None if there is none."""
    is_permanent: bool = False
    """Whether it is a change that cannot be taken back."""

    @property
    def has_changed(self) -> bool:
        return self.is_permanent or self.undo is not None


Action = Callable[[Event, Order, datetime], Done]


def read_order(body: bytes) -> Order:
    """Raises InvalidJson or InvalidRequest."""
    try:
        return msgspec.json.decode(body or b"{}", type=Order)
    except msgspec.ValidationError as error:
        text = f"The body of an action cannot be read: {error}."
        raise InvalidRequest(text, param=wrong_member(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson("The body is not valid JSON. Send an object, or nothing.") from error


def with_name(order: Order, event: Event) -> Order:
    """An organiser may copy the pass of an attendee in place of the name."""
    if not order.user:
        return order
    named = without_pass(Credential(event.code, order.user.strip().lower()), event)
    return msgspec.structs.replace(order, user=named.user)


def find_action(name: str) -> Action:
    """Raises NotFound."""
    if (action := ACTIONS.get(name)) is None:
        raise NotFound(f"The desk has no action {name[:50]!r}. Use one of {', '.join(ACTIONS)}.")
    return action


def _stop(event: Event, _: Order, __: datetime) -> Done:
    if not event.active:
        return Done(event, "The event is stopped already.")
    text = "The event is stopped. New requests are refused; running ones finish."
    return Done(replace(event, active=False), text, {"action": "resume"})


def _resume(event: Event, _: Order, now: datetime) -> Done:
    if event.active:
        return Done(event, "The event is not stopped.")
    text = "The event goes on."
    if now >= event.ends_at:
        text = "The event is no longer stopped, but it has ended. Extend it."
    return Done(replace(event, active=True), text, {"action": "stop"})


def _extend(event: Event, order: Order, now: datetime) -> Done:
    """From the end that the organiser saw; if the event has ended, from now on."""
    days = LONGEST_EXTENSION.days
    if not order.minutes or abs(order.minutes) > LONGEST_EXTENSION / timedelta(minutes=1):
        raise InvalidRequest(f"'minutes' must be a whole number, at most {days} days.", param="minutes")
    extension = timedelta(minutes=order.minutes)
    if order.was is not None:
        seen = _time(order.was)
        if event.ends_at - extension == seen:
            return Done(event, f"The event ends on {_local(event.ends_at, event)} already.")
        if seen != event.ends_at:
            raise ChangedMeanwhile(
                f"The end was changed in the meantime: the event ends on {_local(event.ends_at, event)}. "
                "Nothing is changed now."
            )
    ends_at = event.ends_at
    if order.minutes > 0 and ends_at < now:
        ends_at = now.replace(second=0, microsecond=0)
    ends_at += extension
    if ends_at <= event.starts_at:
        raise InvalidRequest("The event would end before it starts.", param="minutes")
    if order.minutes > 0 and ends_at > max(now, event.starts_at) + LONGEST_EVENT:
        since = "from now" if now >= event.starts_at else "after its start"
        raise InvalidRequest(
            f"The event would end on {_local(ends_at, event)}. At the desk, it can end at most "
            f"{LONGEST_EVENT.days} days {since}. For a later end, use `events update CODE --ends DATE`.",
            param="minutes",
        )
    undo = {"action": "extend", "minutes": _minutes(event.ends_at - ends_at), "was": ends_at.isoformat()}
    changed = replace(event, ends_at=ends_at)
    return Done(changed, f"The event ends on {_local(ends_at, event)}.", undo if undo["minutes"] else None)


def _raise(event: Event, order: Order, _: datetime) -> Done:
    """A lower limit needs `was`: then it takes back a raise."""
    name = order.limit or ""
    if name not in LIMIT_NAMES:
        raise InvalidRequest(f"'limit' must be one of {', '.join(LIMIT_NAMES)}.", param="limit")
    column, title = LIMIT_NAMES[name], name.replace("_", " ")
    limit, current = _amount(name, order.to, "to", 1), getattr(event, column)
    shown = _shown(name, limit, event)
    if current is None:
        raise InvalidRequest(f"The event has no limit '{title}'. Set it with `events update`.", param="limit")
    if current == limit:
        return Done(event, f"The limit '{title}' is {shown} already.")
    if order.was is not None and _amount(name, order.was, "was", 0) != current:
        raise ChangedMeanwhile(
            f"The limit '{title}' was changed in the meantime: it is {_shown(name, current, event)}. "
            "Nothing is changed now."
        )
    if order.was is None and limit < current:
        raise InvalidRequest(
            f"The limit '{title}' is {_shown(name, current, event)}, and {shown} is less. "
            "Send a larger number.",
            param="to",
        )
    change: Any = {column: limit}
    changed = replace(event, **change)
    undo = {"action": "raise", "limit": name, "to": _plain(name, current), "was": _plain(name, limit)}
    if not current:  # no order sets a limit to 0, so that no slip locks everyone out
        return Done(changed, f"The limit '{title}' is now {shown}.", is_permanent=True)
    return Done(changed, f"The limit '{title}' is now {shown}.", undo)


def _block(event: Event, order: Order, _: datetime) -> Done:
    user = read_user(order)
    if event.exceptions.get(user, {}).get(BLOCKED):
        return Done(event, f"'{user}' is blocked already.")
    text = f"'{user}' is blocked. New requests are refused; running ones finish."
    return Done(_with_own(event, user, {BLOCKED: True}), text, {"action": "unblock", "user": user})


def _unblock(event: Event, order: Order, _: datetime) -> Done:
    user = read_user(order)
    if not event.exceptions.get(user, {}).get(BLOCKED):
        return Done(event, f"'{user}' is not blocked.")
    text = f"'{user}' can use the event again."
    return Done(_with_own(event, user, {BLOCKED: False}), text, {"action": "block", "user": user})


def _release(event: Event, order: Order, _: datetime) -> Done:
    """Make the pass void. The caller then frees the name: in this order, no one gets a void pass."""
    user = read_user(order)
    if event.access == OPEN:
        raise InvalidRequest("Names are not taken at this event: everyone who knows its code can use any.")
    number = event.exceptions.get(user, {}).get(PASS_NUMBER, 0) + 1
    text = f"'{user}' is free, and its pass is void. Another person can take the name."
    return Done(_with_own(event, user, {PASS_NUMBER: number}), text, is_permanent=True)


def _with_own(event: Event, user: str, change: Own) -> Event:
    """The event with changed exceptions of one user. A member that is false is removed."""
    own = {**event.exceptions.get(user, {}), **change}
    own = {name: value for name, value in own.items() if value is not False}
    exceptions = {name: one for name, one in event.exceptions.items() if name != user}
    if own:
        exceptions[user] = own
    if len(msgspec.json.encode(exceptions)) > MOST_EXCEPTIONS:
        raise InvalidRequest(
            "Too many attendees have exceptions. Unblock some, or use `events update --no-exceptions`."
        )
    return replace(event, exceptions=exceptions)


def read_user(order: Order) -> str:
    """Raises InvalidRequest."""
    user = (order.user or "").strip().lower()
    if not is_user(user):
        raise InvalidRequest("'user' must be the name of an attendee.", param="user")
    return user


def _time(text: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidRequest("'was' must be a time with its offset, as GET /v1/desk gives it.", param="was")
    return at


def _amount(name: str, value: int | float | str | None, param: str, least: int) -> int:
    """A limit as the row has it, from `least` up: money in millionths."""
    is_money = name in MONEY
    largest, unit = (HIGHEST_BUDGET, MILLION) if is_money else (LARGEST_LIMIT, 1)
    try:
        amount = Decimal(str(value))
        exact = amount * unit if abs(amount) <= largest else amount
        is_right = exact == exact.to_integral_value() and least <= exact <= largest * unit
    except InvalidOperation:
        is_right = False
    if not is_right:
        start = "above 0" if least else "from 0"
        example = f"a number {start} with at most 6 decimals" if is_money else f"a whole number from {least}"
        raise InvalidRequest(f"'{param}' must be {example}, at most {largest:,}.", param=param)
    return int(exact)


def _shown(name: str, limit: int, event: Event) -> str:
    return money_text(limit, event.currency) if name in MONEY else f"{limit:,}"


def _plain(name: str, limit: int) -> str:
    return amount_text(limit) if name in MONEY else str(limit)


def _local(at: datetime, event: Event) -> str:
    return f"{with_date(at.astimezone(event.time_zone))} {event.time_zone.key}"


def _minutes(length: timedelta) -> int:
    return round(length / timedelta(minutes=1))


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "stop": _stop,
        "resume": _resume,
        "extend": _extend,
        "raise": _raise,
        "block": _block,
        "unblock": _unblock,
        "release": _release,
    }
)
