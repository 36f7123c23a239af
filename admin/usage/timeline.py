"""The data of the report's charts over time: by hour, or in minutes if the usage took only a few hours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from admin.usage import text as usage_text
from admin.usage.summary import NO_MODEL, local_hour
from shared.core.counts import Counts, Minute, UsageRow
from shared.core.models import Event

OTHER_MODELS = "other models"
MOST_STEPS = 24 * 45
"""If an event is longer, the charts leave out the hours without usage."""

_HOUR = timedelta(hours=1)
_FINE_STEPS = {1: 2, 2: 2, 3: 5, 4: 5}
"""The minutes of a step, by the number of hours in which there is usage."""

Split = Callable[[Counts], dict[str, int]]


class _Part(NamedTuple):
    """What began in one step, by users of one model."""

    at: datetime
    model: str
    counts: Counts


class Timeline(NamedTuple):
    event: Event
    parts: Sequence[_Part]
    step: timedelta

    @classmethod
    def of(cls, event: Event, rows: Sequence[UsageRow]) -> Timeline:
        """In minutes, if there are few hours and an earlier version of the proxy wrote none of the rows."""
        hours = {row.hour for row in rows}
        step = timedelta(minutes=_FINE_STEPS.get((max(hours) - min(hours)) // _HOUR + 1, 60))
        if step == _HOUR or not all(row.minutes for row in rows):
            return cls(event, [_Part(row.hour.astimezone(UTC), row.model, row.counts) for row in rows], _HOUR)
        parts = [
            _Part(row.hour.astimezone(UTC) + _floor(minute, step), row.model, _counts(one))
            for row in rows
            for minute, one in row.minutes.items()
        ]
        return cls(event, parts, step)

    @property
    def is_fine(self) -> bool:
        """Then `prompt_tokens` has the prompt and completion tokens together."""
        return self.step != _HOUR

    @property
    def step_title(self) -> str:
        return f"in {self.step // timedelta(minutes=1)} minutes" if self.is_fine else "by hour"

    def times(self) -> list[str]:
        """Every step from the first to the last."""
        found = sorted({part.at for part in self.parts})
        count = (found[-1] - found[0]) // self.step + 1
        if count <= MOST_STEPS:
            found = [found[0] + self.step * number for number in range(count)]
        return [self._local(at) for at in found]

    def by_time(self, split: Split) -> list[dict[str, Any]]:
        sums: dict[datetime, Counts] = defaultdict(Counts)
        for part in self.parts:
            sums[part.at] = sums[part.at].plus(part.counts)
        return [
            {"hour": self._local(at), "kind": kind, "count": count}
            for at, counts in sums.items()
            for kind, count in split(counts).items()
        ]

    def requests_by_model(self, models: Sequence[str]) -> list[dict[str, Any]]:
        sums: dict[tuple[datetime, str], int] = defaultdict(int)
        for part in self.parts:
            if part.counts.requests:
                model = part.model or NO_MODEL
                sums[part.at, model if model in models else OTHER_MODELS] += part.counts.requests
        return [
            {"hour": self._local(at), "kind": model, "count": count} for (at, model), count in sums.items()
        ]

    def _local(self, at: datetime) -> str:
        return usage_text.label("hour", local_hour(at, self.event.time_zone))


def _floor(minute: int, step: timedelta) -> timedelta:
    return timedelta(minutes=minute) // step * step


def _counts(minute: Minute) -> Counts:
    return Counts(minute.requests, minute.tokens, 0, minute.refusals, minute.errors)
