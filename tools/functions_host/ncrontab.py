"""Six-field NCRONTAB schedules: second, minute, hour, day, month, day of week.

The day and the day of the week must both match, as in the platform's own parser. Five fields mean second 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_YEARS_AHEAD: Final = 9  # 29 February is at most eight years away

_MONTHS: Final = "january february march april may june july august september october november december"
_DAYS: Final = "sunday monday tuesday wednesday thursday friday saturday"


def _names(words: str, first: int) -> dict[str, int]:
    return {form: number for number, word in enumerate(words.split(), first) for form in (word, word[:3])}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: Mapping[str, int] = field(default_factory=dict)

    def values(self, text: str) -> tuple[int, ...]:
        return tuple(sorted({value for part in text.split(",") for value in self._part(part)}))

    def _part(self, part: str) -> range:
        span, slash, step = part.partition("/")
        first, last = self._span(span, open_ended=bool(slash))
        if slash and (not step.isdecimal() or int(step) == 0):
            raise ValueError(f"'{part}' is not a step of {self.name}")
        return range(first, last + 1, int(step) if slash else 1)

    def _span(self, span: str, *, open_ended: bool) -> tuple[int, int]:
        if span == "*":
            return self.lowest, self.highest
        low, dash, high = span.partition("-")
        first = self._number(low)
        if not dash:
            return first, self.highest if open_ended else first
        if (last := self._number(high)) < first:
            raise ValueError(f"'{span}' runs backwards in {self.name}")
        return first, last

    def _number(self, text: str) -> int:
        number = int(text) if text.isdecimal() else self.names.get(text.lower(), -1)
        if not self.lowest <= number <= self.highest:
            raise ValueError(f"'{text}' is not a value of {self.name} ({self.lowest} to {self.highest})")
        return number


_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _names(_MONTHS, 1)),
    _Field("day of week", 0, 6, _names(_DAYS, 0)),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    days_of_week: tuple[int, ...]

    @classmethod
    def parse(cls, expression: str) -> "Schedule":
        """Raises ValueError with a sentence that quotes the expression."""
        words = expression.split()
        if len(words) == len(_FIELDS) - 1:
            words.insert(0, "0")
        if len(words) != len(_FIELDS):
            raise ValueError(f"the schedule '{expression}' needs six fields, it has {len(words)}")
        try:
            schedule = cls(*(field.values(word) for field, word in zip(_FIELDS, words, strict=True)))
            schedule.next_after(datetime.now(UTC))
        except ValueError as error:
            raise ValueError(f"the schedule '{expression}' cannot be read: {error}") from None
        return schedule

    def next_after(self, moment: datetime) -> datetime:
        """The first whole second after `moment` that the schedule names, in `moment`'s time zone."""
        start = moment.replace(microsecond=0) + timedelta(seconds=1)
        last_day = start.date().replace(year=start.year + _YEARS_AHEAD, day=1)
        day, earliest = start.date(), start.time()
        while day <= last_day:
            if self._has_day(day) and (found := self._time_from(earliest)) is not None:
                return datetime.combine(day, found, moment.tzinfo)
            day, earliest = day + timedelta(days=1), time.min
        raise ValueError("it never comes")

    def _has_day(self, day: date) -> bool:
        return (
            day.month in self.months
            and day.day in self.days
            and day.isoweekday() % 7 in self.days_of_week  # Sunday is 0
        )

    def _time_from(self, earliest: time) -> time | None:
        for hour in self.hours:
            for minute in self.minutes if hour >= earliest.hour else ():
                for second in self.seconds:
                    if (found := time(hour, minute, second)) >= earliest:
                        return found
        return None
