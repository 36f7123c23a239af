"""What a run has found, as Markdown: against what must be reached, and in full."""

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median

from .measure import percentile
from .mock import CHUNKS
from .requests import PACE_MS, Kind
from .rounds import (
    APP,
    ONE_USER,
    PACED,
    PASSTHROUGH,
    PLAIN_16,
    SCENARIOS,
    STREAMS,
    UPSTREAM,
    Results,
    Sample,
    Scenario,
)

Figure = Callable[[Sample], float | None]
MEGABYTE = 1_000_000
NONE = "-"


def text(results: Results) -> str:
    """The whole page."""
    return "\n\n".join(
        [
            "# Performance",
            f"Written by `python3 dev.py bench --write` on {datetime.now(UTC):%Y-%m-%d}: {_machine()}, "
            f"{results.plan.rounds} rounds of {results.plan.seconds:g} s for each figure.",
            "## What must be reached",
            _table(("", "wanted", "measured", "single rounds", ""), map(_goal_row, _goals(results))),
            "## Every figure",
            _table(
                ("", "target", "a second", "CPU s for 1,000", "delay p50, p99 in ms", "tables"),
                _rows(results),
            ),
            _notes(results),
            "## What else was under load",
            _table(("", "target", "it", "load generator", "upstream"), _busy_rows(results)),
            _BUSY,
            "## How it is measured",
            _HOW,
        ]
    )


_BUSY = (
    "In parts of one core. A target that is near 1 is what limits its own figure; the generator and the "
    "upstream have to stay below it. `upstream` alone shows how much they can do, and includes no proxy."
)
_HOW = f"""\
- `app` is this proxy in the local Functions host, one process: credential, event, model, quota of requests
  and tokens, output cap, metering and its line in the log for each call, 100 users unless said otherwise,
  with Azurite as its tables.
- `pass-through` is `tools/bench/passthrough.py`: aiohttp on both sides, one process, no policy, no log.
- `upstream` is `tools/bench/mock.py`, asked without a proxy: a fixed answer, or a stream of {CHUNKS} chunks.
- Each has a process of its own, all on the loopback address and with the same event loop. In each round
  every target takes its turn, after a moment of the same load that is not counted; the order changes with
  the round. Figures are medians over the rounds; a ratio is taken within a round, and then the median of
  those.
- Paced streams get a chunk every {PACE_MS} ms; the delay is from the upstream's write to the arrival.
- Table calls are counted by a relay before Azurite, while the load runs. What lies idle is given back after
  some seconds: up to one more call for each user who paused.

[profile.md](profile.md) tells where the time of a call goes, and
[decision 53](decisions/0053-what-the-local-host-leaves-out.md) what the local host leaves out of it."""


@dataclass(frozen=True, slots=True)
class Goal:
    name: str
    wanted: str
    reached: Callable[[float], bool]
    values: list[float]
    """By rounds; the median counts."""
    form: str = "{:.2f}"


def _goals(results: Results) -> list[Goal]:
    ratio = partial(_ratios, results)
    calls = [one.table_calls / one.answers for one in _samples(results, PLAIN_16, APP) if one.answers]
    starts = results.first_answer_seconds.get(APP, [])
    return [
        _at_least("plain, 16 connections: requests a second, ratio", 0.9, ratio(PLAIN_16, _rate)),
        _at_most("plain, 16 connections: CPU for a request, ratio", 1.15, ratio(PLAIN_16, _cpu)),
        _at_least("streams at full speed: chunks a second, ratio", 0.9, ratio(STREAMS, _rate)),
        _at_most("50 paced streams: delay p99, ratio", 1.5, ratio(PACED, _p99)),
        _at_most("table calls for a request", 0.1, calls, "{:.3f}"),
        *_memory_goals(results),
        _at_most("process start to first answer, s", 1.0, starts),
    ]


def _memory_goals(results: Results) -> list[Goal]:
    """Flat is: less than a megabyte more at the end than half-way."""
    if not results.memory:
        return []
    answers, last = results.memory[-1]
    half = min(results.memory, key=lambda seen: abs(seen[0] - answers / 2))[1]
    return [
        _at_most(f"memory after {answers:,} requests, MB", 90, [last / MEGABYTE], "{:.1f}"),
        _at_most("its growth over the second half, MB", 1, [(last - half) / MEGABYTE]),
    ]


def _at_least(name: str, bound: float, values: list[float], form: str = "{:.2f}") -> Goal:
    return Goal(name, f"at least {bound:g}", lambda value: value >= bound, values, form)


def _at_most(name: str, bound: float, values: list[float], form: str = "{:.2f}") -> Goal:
    return Goal(name, f"at most {bound:g}", lambda value: value <= bound, values, form)


def _goal_row(goal: Goal) -> list[str]:
    if not goal.values:
        return [goal.name, goal.wanted, "not measured here", "", ""]
    middle = median(goal.values)
    spread = f"{goal.form} to {goal.form}".format(min(goal.values), max(goal.values))
    told = spread if len(goal.values) > 1 else ""
    return [
        goal.name,
        goal.wanted,
        goal.form.format(middle),
        told,
        "reached" if goal.reached(middle) else "**missed**",
    ]


def _rows(results: Results) -> Iterable[list[str]]:
    for scenario in SCENARIOS:
        unit = "requests" if scenario.kind is Kind.PLAIN else "chunks"
        for name in scenario.targets:
            tell = partial(_middle, _samples(results, scenario, name))
            delays = f"{tell(_p50, '{:.2f}')}, {tell(_p99, '{:.2f}')}" if scenario is PACED else ""
            tables = tell(_calls, "{:.3f}") if name == APP and scenario is not PACED else ""
            cpu = NONE if name == UPSTREAM else tell(_cpu, "{:.3f}")
            title = f"{scenario.name}, {unit}" if name == scenario.targets[0] else ""
            yield [title, name, tell(_rate, "{:,.0f}"), cpu, delays, tables]


def _busy_rows(results: Results) -> Iterable[list[str]]:
    for scenario in SCENARIOS:
        for name in scenario.targets:
            tell = partial(_middle, _samples(results, scenario, name), form="{:.2f}")
            title = scenario.name if name == scenario.targets[0] else ""
            it = NONE if name == UPSTREAM else tell(lambda one: _share(one, one.cpu))
            generator = tell(lambda one: _share(one, one.generator_cpu))
            yield [title, name, it, generator, tell(lambda one: _share(one, one.upstream_cpu))]


def _notes(results: Results) -> str:
    app, one_user = (
        [_rate(one) for one in _samples(results, scenario, APP)] for scenario in (PLAIN_16, ONE_USER)
    )
    noise = [_rate(one) for one in _samples(results, PLAIN_16, PASSTHROUGH)]
    starts = {name: median(seconds) for name, seconds in results.first_answer_seconds.items()}
    return (
        f"First answer after {starts[APP]:.2f} s (app) and {starts[PASSTHROUGH]:.2f} s (pass-through). "
        f"One user against 100: {median(one_user) / median(app):.2f}. How much the machine was disturbed: "
        f"the pass-through's rounds at 16 connections went from {min(noise):,.0f} to {max(noise):,.0f} "
        f"requests/s. {_failures(results)}"
    )


def _failures(results: Results) -> str:
    if not results.failures:
        return "Every answer was right."
    told = "; ".join(f"{count} x {what}" for what, count in results.failures.items())
    return f"Wrong answers: {told}."


def _samples(results: Results, scenario: Scenario, name: str) -> list[Sample]:
    return results.samples.get((scenario, name), [])


def _ratios(results: Results, scenario: Scenario, figure: Figure) -> list[float]:
    pairs = zip(_samples(results, scenario, APP), _samples(results, scenario, PASSTHROUGH), strict=True)
    return [ours / theirs for one, other in pairs if (ours := figure(one)) and (theirs := figure(other))]


def _rate(sample: Sample) -> float:
    return (sample.chunks or sample.answers) / sample.seconds


def _cpu(sample: Sample) -> float | None:
    done = sample.chunks or sample.answers
    return None if sample.cpu is None or not done else sample.cpu / done * 1000


def _calls(sample: Sample) -> float | None:
    return sample.table_calls / sample.answers if sample.answers else None


def _p50(sample: Sample) -> float | None:
    return percentile(sample.delays, 0.5) * 1000 if sample.delays else None


def _p99(sample: Sample) -> float | None:
    return percentile(sample.delays, 0.99) * 1000 if sample.delays else None


def _share(sample: Sample, cpu: float | None) -> float | None:
    return None if cpu is None else cpu / sample.seconds


def _middle(samples: list[Sample], figure: Figure, form: str) -> str:
    values = [value for one in samples if (value := figure(one)) is not None]
    return form.format(median(values)) if values else NONE


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}, {python}"


def _table(head: tuple[str, ...], rows: Iterable[list[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
