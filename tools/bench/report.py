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
    LOCAL,
    ONE_USER,
    PACED,
    PASSTHROUGH,
    PLAIN_16,
    SCENARIOS,
    SLOW_64,
    STREAMS,
    UPSTREAM,
    WORKER,
    Results,
    Scenario,
)


def text(results: Results, left_out: Mapping[str, str]) -> str:
    """The whole page. `left_out` has the peers that could not be installed, and why."""
    options = " --peers" * bool(results.peers or left_out) + " --local" * (not results.with_worker)
    return "\n\n".join(
        [
            "# Performance",
            _head(results, options),
            "## Targets",
            table(("", "target", "measured", "single rounds", ""), map(_goal_row, _goals(results))),
            "## Side by side",
            comparison.text(results, left_out),
            "## Behind the real Functions host",
            _HOST,
            "## Every figure",
            table(
                ("", "proxy", "a second", "CPU s for 1,000", "delay p50 in ms", "delay p99 in ms", "tables"),
                _rows(results),
            ),
            _notes(results),
            "## How busy each process was",
            table(("", "proxy", "it", "load generator", "upstream"), _busy_rows(results)),
            _BUSY,
            "## How it is measured",
            _HOW,
        ]
    )


def _head(results: Results, options: str) -> str:
    plan = results.plan
    return (
        f"Written by `python3 dev.py bench{options} --write` on {datetime.now(UTC):%Y-%m-%d}: {_machine()}, "
        f"{plan.rounds} rounds of {plan.seconds:g} s for each figure, after {plan.warm_seconds:g} s that do "
        f"not count. The targets are for `{results.app}`."
    )


_HOST = """\
Measured once, on 2026-11-28, with version 4.1037 of the host, built from its source. Host, worker, load and
upstream shared 2 cores; 16 connections, medians of three rounds. Not part of the run above. The app is three
lines long, so the figures show what the host and the worker cost before any work of the proxy:

| HTTP extension, and the worker's own lines in the log | Python 3.13: requests a second | Python 3.11 |
| --- | --- | --- |
| FastAPI, with the lines | 800 | 919 |
| a first sketch of ours, with the lines | 1,047 | 1,047 |
| FastAPI, without | 1,592 | 1,553 |
| a first sketch of ours, without (as this proxy does it) | 1,990 | 1,712 |

So in the cloud the host takes most of a call's time. The first byte of a stream came after 4 to 7 ms."""
_BUSY = (
    "In parts of one core. A proxy near 1 limits its own figure; the generator and the upstream must stay "
    "below it. `upstream` alone shows how much those two can do without a proxy."
)
_HOW = f"""\
- `{WORKER}` is this proxy in `azure-functions-runtime`, the library that runs it in the cloud from Python
  3.13 on, with the app's own HTTP server: credential, event, model, quota of requests and tokens, output cap,
  metering and log for each call, 100 users unless a row says otherwise, Azurite for its tables. Left out:
  the Functions host, which is a second process in the cloud, and gRPC between the two.
- `{LOCAL}` (`--local`) is the same in the local Functions host, as `dev.py run` and the tests serve it.
- `{PASSTHROUGH}` is `tools/bench/passthrough.py`: aiohttp on both sides, one process, no policy, no log.
- `upstream` is `tools/bench/mock.py`, called without a proxy: a fixed response, or a stream of {CHUNKS}
  chunks.
- With `--peers`, nginx and LiteLLM take part; [decision 56](decisions/0056-peers-in-the-benchmark.md) has
  their configuration.
- The upstream is a process on this machine. To wake it costs a call some microseconds, which an upstream far
  away does not ([decision 57](decisions/0057-what-is-ready-together-goes-out-together.md)).
- Each runs in a process of its own, on the loopback address, ours with the same event loop. In each round
  every one takes its turn, when the one before is quiet and after a moment of the same load that does not
  count; the order changes with the round. Figures are medians over the rounds, with the lowest and highest in
  parentheses. A ratio or difference is taken within a round, and then the median of those.
- Paced streams get a chunk every {PACE_MS} ms; their delay is from the upstream's write to the arrival. They
  are taken {PACED.takes} times in each round. The delay of plain calls is the whole call.
- Table calls are counted by a relay before Azurite, while the load runs. Unused grants are given back after
  some seconds: up to one more call for each user who paused.

[profile.md](profile.md) shows where the time of a call goes."""


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
        return figures.ratios(results, scenario, results.app, figure)

    calls = figures.values(results, PLAIN_16, results.app, figures.table_calls)
    starts = results.first_answer_seconds.get(results.app, [])
    above = figures.differences(results, SLOW_64, results.app, figures.p50)
    return [
        _at_least("plain, 16 connections: requests a second, ratio", 0.85, ratio(PLAIN_16, figures.rate)),
        _at_most("plain, 16 connections: CPU for a request, ratio", 1.2, ratio(PLAIN_16, figures.cpu)),
        _at_least("streams at full speed: chunks a second, ratio", 1.0, ratio(STREAMS, figures.rate)),
        _at_most("50 paced streams: delay p99, ratio", 1.5, ratio(PACED, figures.p99)),
        _at_most(f"{SLOW_64.name}: p50 above the pass-through's, ms", 3, above),
        _at_most("table calls for a request", 0.1, calls, "{:.3f}"),
        *_memory_goals(results),
        _at_most("process start to first response, s", 0.5, starts),
    ]


def _memory_goals(results: Results) -> list[Goal]:
    """Flat is: less than a megabyte more at the end than half-way."""
    if not results.memory:
        return []
    answers, last = results.memory[-1]
    half = min(results.memory, key=lambda seen: abs(seen[0] - answers / 2))[1]
    return [
        _at_most(f"memory after {answers:,} requests, MB", 75, [last / MEGABYTE], "{:.1f}"),
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
        unit = "requests" if scenario.kind in {Kind.PLAIN, Kind.SLOW} else "chunks"
        for name in results.targets(scenario):
            title = f"{scenario.name}, {unit}" if name == results.app else ""
            if results.fault(name, scenario):
                yield [title, name, comparison.FAILED, "", "", "", ""]
                continue
            tell = partial(_told, results, scenario, name)
            is_delay = scenario in {PACED, SLOW_64}
            delays = [tell(one, "{:.2f}") if is_delay else "" for one in (figures.p50, figures.p99)]
            is_counted = name == results.app and scenario is not PACED
            tables = tell(figures.table_calls, "{:.3f}") if is_counted else ""
            cpu = NONE if name == UPSTREAM else tell(figures.cpu, "{:.3f}")
            yield [title, name, tell(figures.rate, "{:,.0f}"), cpu, *delays, tables]


def _told(results: Results, scenario: Scenario, name: str, figure: Figure, form: str) -> str:
    return figures.told(figures.values(results, scenario, name, figure), form)


def _busy_rows(results: Results) -> Iterable[list[str]]:
    for scenario in SCENARIOS:
        for name in results.targets(scenario):
            title = scenario.name if name == results.app else ""
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
        figures.values(results, scenario, results.app, figures.rate) for scenario in (PLAIN_16, ONE_USER)
    )
    noise = figures.values(results, PLAIN_16, PASSTHROUGH, figures.rate)
    starts = {name: median(seconds) for name, seconds in results.first_answer_seconds.items()}
    return (
        f"First response after {starts[results.app]:.2f} s ({results.app}) and {starts[PASSTHROUGH]:.2f} s "
        f"({PASSTHROUGH}). One user against 100: {median(one_user) / median(app):.2f}. How much the machine "
        f"was disturbed: the pass-through's rounds at 16 connections went from {min(noise):,.0f} to "
        f"{max(noise):,.0f} requests/s. {_failures(results)}"
    )


def _failures(results: Results) -> str:
    if not results.failures:
        return "Every other response was right." if results.faults else "Every response was right."
    wrong = "; ".join(f"{count} x {what}" for what, count in results.failures.items())
    return f"Wrong responses: {wrong}."


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}, {python}"
