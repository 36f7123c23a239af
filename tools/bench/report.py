"""What a run has found, as Markdown: against what must be reached, and in full."""

import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median

from . import comparison, figures
from .figures import MEGABYTE, NONE, Figure
from .markdown import table
from .mock import CHUNKS
from .requests import PACE_MS, Kind
from .results import (
    APP,
    ONE_USER,
    PACED,
    PASSTHROUGH,
    PLAIN_16,
    SCENARIOS,
    STREAMS,
    UPSTREAM,
    Plan,
    Results,
    Scenario,
)


def text(results: Results, left_out: Mapping[str, str]) -> str:
    """The whole page. `left_out` are peers that could not be had, and why."""
    options = " --peers" * bool(results.peers or left_out) + " --worker" * results.with_worker
    others = ("## Beside others", comparison.text(results, left_out)) if options else ()
    return "\n\n".join(
        [
            "# Performance",
            _head(results.plan, options),
            "## What must be reached",
            table(("", "wanted", "measured", "single rounds", ""), map(_goal_row, _goals(results))),
            *others,
            "## Every figure",
            table(
                ("", "target", "a second", "CPU s for 1,000", "delay p50 in ms", "delay p99 in ms", "tables"),
                _rows(results),
            ),
            _notes(results),
            "## What else was under load",
            table(("", "target", "it", "load generator", "upstream"), _busy_rows(results)),
            _BUSY,
            "## How it is measured",
            _HOW,
        ]
    )


def _head(plan: Plan, options: str) -> str:
    return (
        f"Written by `python3 dev.py bench{options} --write` on {datetime.now(UTC):%Y-%m-%d}: {_machine()}, "
        f"{plan.rounds} rounds of {plan.seconds:g} s for each figure, after {plan.warm_seconds:g} s that do "
        "not count."
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
- With `--peers`, nginx and LiteLLM take part as well; how they are set up is told in
  [decision 56](decisions/0056-peers-in-the-benchmark.md).
- With `--worker` the app runs in the cloud's own worker library as well, on Python 3.13 as all others then.
- The upstream is a process on this machine, and to wake it costs a call some microseconds, the app less often
  ([decision 57](decisions/0057-what-is-ready-together-goes-out-together.md)). One far away need not be woken.
- Each has a process of its own, all on the loopback address and ours with the same event loop. In each round
  every target takes its turn, when the one before is quiet and after a moment of the same load that is not
  counted; the order changes with the round. Figures are medians over the rounds, with the lowest and highest
  in parentheses; a ratio is taken within a round, and then the median of those.
- Paced streams get a chunk every {PACE_MS} ms; the delay is from the upstream's write to the arrival. They
  are taken {PACED.takes} times in each round, each against the pass-through: the slowest 1 % are chunks of
  streams that happened to fall together, and differ from take to take.
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
    def ratio(scenario: Scenario, figure: Figure) -> list[float]:
        return figures.ratios(results, scenario, APP, figure)

    calls = figures.values(results, PLAIN_16, APP, figures.table_calls)
    starts = results.first_answer_seconds.get(APP, [])
    return [
        _at_least("plain, 16 connections: requests a second, ratio", 0.9, ratio(PLAIN_16, figures.rate)),
        _at_most("plain, 16 connections: CPU for a request, ratio", 1.15, ratio(PLAIN_16, figures.cpu)),
        _at_least("streams at full speed: chunks a second, ratio", 0.9, ratio(STREAMS, figures.rate)),
        _at_most("50 paced streams: delay p99, ratio", 1.5, ratio(PACED, figures.p99)),
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
    return [
        goal.name,
        goal.wanted,
        goal.form.format(middle),
        figures.spread(goal.values, goal.form),
        "reached" if goal.reached(middle) else "**missed**",
    ]


def _rows(results: Results) -> Iterable[list[str]]:
    for scenario in SCENARIOS:
        unit = "requests" if scenario.kind is Kind.PLAIN else "chunks"
        for name in results.targets(scenario):
            title = f"{scenario.name}, {unit}" if name == APP else ""
            if results.fault(name, scenario):
                yield [title, name, comparison.FAILED, "", "", "", ""]
                continue
            tell = partial(_told, results, scenario, name)
            delays = [tell(one, "{:.2f}") if scenario is PACED else "" for one in (figures.p50, figures.p99)]
            tables = tell(figures.table_calls, "{:.3f}") if name == APP and scenario is not PACED else ""
            cpu = NONE if name == UPSTREAM else tell(figures.cpu, "{:.3f}")
            yield [title, name, tell(figures.rate, "{:,.0f}"), cpu, *delays, tables]


def _told(results: Results, scenario: Scenario, name: str, figure: Figure, form: str) -> str:
    return figures.told(figures.values(results, scenario, name, figure), form)


def _busy_rows(results: Results) -> Iterable[list[str]]:
    for scenario in SCENARIOS:
        for name in results.targets(scenario):
            title = scenario.name if name == APP else ""
            yield [title, name, *_shares(results, scenario, name)]


def _shares(results: Results, scenario: Scenario, name: str) -> Iterable[str]:
    busy: list[Figure] = [
        lambda one: None if name == UPSTREAM else figures.share(one, one.cpu),
        lambda one: figures.share(one, one.generator_cpu),
        lambda one: figures.share(one, one.upstream_cpu),
    ]
    for figure in busy:
        yield figures.middle(figures.values(results, scenario, name, figure), "{:.2f}")


def _notes(results: Results) -> str:
    app, one_user = (
        figures.values(results, scenario, APP, figures.rate) for scenario in (PLAIN_16, ONE_USER)
    )
    noise = figures.values(results, PLAIN_16, PASSTHROUGH, figures.rate)
    starts = {name: median(seconds) for name, seconds in results.first_answer_seconds.items()}
    return (
        f"First answer after {starts[APP]:.2f} s (app) and {starts[PASSTHROUGH]:.2f} s (pass-through). "
        f"One user against 100: {median(one_user) / median(app):.2f}. How much the machine was disturbed: "
        f"the pass-through's rounds at 16 connections went from {min(noise):,.0f} to {max(noise):,.0f} "
        f"requests/s. {_failures(results)}"
    )


def _failures(results: Results) -> str:
    if not results.failures:
        return "Every other answer was right." if results.faults else "Every answer was right."
    told = "; ".join(f"{count} x {what}" for what, count in results.failures.items())
    return f"Wrong answers: {told}."


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}, {python}"
