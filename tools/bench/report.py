"""The results as Markdown: against their targets, and in full."""

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from .results import Results
from .scenarios import PACED, PLAIN_16, SCENARIOS, SLOW_64, STREAMS, Scenario
from .targets import LOCAL, PASSTHROUGH, UPSTREAM

BEGIN = "<!-- The figures begin. `dev.py bench --write` replaces all lines up to their end. -->"
END = "<!-- The figures end. -->"
_MEGABYTE = 1_000_000
_NONE = "-"


def text(results: Results, left_out: Mapping[str, str]) -> str:
    """`left_out` has the peers that cannot run on this machine, and why."""
    options = " --peers" * bool(results.peers or left_out) + " --local" * (results.app == LOCAL)
    parts = [
        _head(results, options),
        _table(("target", "", "measured", "single rounds", ""), map(_target_row, _targets(results))),
        _table(
            (
                "scenario",
                "proxy",
                "a second",
                "ratio",
                "CPU s for 1,000",
                "ratio",
                "delay p50, ms",
                "delay p99, ms",
                "table calls",
                "busy",
            ),
            _scenario_rows(results),
        ),
        _table(("process", "first response, s", "memory at the end, MB"), _process_rows(results, left_out)),
        _failures(results),
        *_reasons(results, left_out),
    ]
    return "\n\n".join(parts)


def inserted(figures: str, page: str) -> str:
    """The page with the figures between its two markers, or at its end where it has none."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{rest.partition(END)[2] or chr(10)}"


def _table(head: tuple[str, ...], rows: Iterable[list[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(results: Results, options: str) -> str:
    plan, python = results.plan, f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"Written by `python3 dev.py bench{options} --write` on {datetime.now(UTC):%Y-%m-%d}: "
        f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}, {python}, {plan.rounds} rounds "
        f"of {plan.seconds:g} s for each figure, each after {plan.warm_seconds:g} s that do not count. The "
        f"targets are for `{results.app}`."
    )


@dataclass(frozen=True, slots=True)
class _Target:
    name: str
    at_least: bool
    bound: float
    values: list[float]
    """By rounds; the median counts."""
    form: str = "{:.2f}"


def _targets(results: Results) -> list[_Target]:
    app, starts = results.app, results.first_response_seconds.get(results.app, [])
    rate, streams = (results.ratios(one, app, "rate") for one in (PLAIN_16, STREAMS))
    calls = results.values(PLAIN_16, app, "table_calls")
    return [
        _Target(f"{PLAIN_16.name}: requests a second, ratio", True, 0.85, rate),
        _Target(
            f"{PLAIN_16.name}: CPU for a request, ratio", False, 1.2, results.ratios(PLAIN_16, app, "cpu")
        ),
        _Target("streams at full speed: chunks a second, ratio", True, 1.0, streams),
        _Target("50 paced streams: delay p99, ratio", False, 1.5, results.ratios(PACED, app, "p99")),
        _Target(
            f"{SLOW_64.name}: p50 above the pass-through's, ms",
            False,
            3,
            results.differences(SLOW_64, app, "p50"),
        ),
        _Target("table calls for a request", False, 0.1, calls, "{:.3f}"),
        *_memory_targets(results),
        _Target("process start to first response, s", False, 0.5, starts),
    ]


def _memory_targets(results: Results) -> list[_Target]:
    """Flat is: less than a megabyte more at the end than half-way."""
    if not results.memory:
        return []
    responses, last = results.memory[-1]
    half = min(results.memory, key=lambda seen: abs(seen[0] - responses / 2))[1]
    name, growth = f"memory after {responses:,} requests, MB", (last - half) / _MEGABYTE
    return [
        _Target(name, False, 75, [last / _MEGABYTE], "{:.1f}"),
        _Target("its growth over the second half, MB", False, 1, [growth]),
    ]


def _target_row(target: _Target) -> list[str]:
    bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
    if not target.values:
        return [target.name, bound, "not measured here", "", ""]
    middle = median(target.values)
    reached = middle >= target.bound if target.at_least else middle <= target.bound
    measured = target.form.format(middle)
    return [
        target.name,
        bound,
        measured,
        _spread(target.values, target.form),
        "reached" if reached else "**missed**",
    ]


def _spread(values: list[float], form: str) -> str:
    return f"{form} to {form}".format(min(values), max(values)) if len(values) > 1 else ""


def _scenario_rows(results: Results) -> Iterator[list[str]]:
    for scenario in SCENARIOS:
        for name in results.targets(scenario):
            title = f"{scenario.name}: {scenario.unit}" if name == results.app else ""
            failed = results.fault(name, scenario)
            yield [title, name, *(["failed", *[""] * 7] if failed else _figures(results, scenario, name))]


def _figures(results: Results, scenario: Scenario, name: str) -> list[str]:
    def cell(figure: str, form: str) -> str:
        values = results.values(scenario, name, figure)
        spread = _spread(values, form)
        return (form.format(median(values)) if values else _NONE) + (f" ({spread})" if spread else "")

    def ratio(figure: str) -> str:
        values = [] if name in {PASSTHROUGH, UPSTREAM} else results.ratios(scenario, name, figure)
        return f"{median(values):.3f}" if values else ""

    def busy(figure: str) -> str:
        values = results.values(scenario, name, figure)
        return f"{median(values):.2f}" if values else _NONE

    counts_table_calls = name == results.app and not scenario.paced  # whose streams outlast a sample
    return [
        cell("rate", "{:,.0f}"),
        ratio("rate"),
        cell("cpu", "{:.3f}"),
        ratio("cpu"),
        cell("p50", "{:.2f}") if scenario.has_delays else "",
        cell("p99", "{:.2f}") if scenario.has_delays else "",
        cell("table_calls", "{:.3f}") if counts_table_calls else "",
        " / ".join(map(busy, ("busy", "generator_busy", "upstream_busy"))),
    ]


def _process_rows(results: Results, left_out: Mapping[str, str]) -> Iterator[list[str]]:
    for name in results.proxies:
        starts = results.first_response_seconds.get(name, [])
        first = f"{median(starts):.2f} ({_spread(starts, '{:.2f}')})" if starts else "did not start"
        memory = results.resident.get(name)
        yield [name, first.removesuffix(" ()"), f"{memory / _MEGABYTE:.0f}" if memory else _NONE]
    for name in left_out:
        yield [name, "left out", _NONE]


def _failures(results: Results) -> str:
    if not results.failures:
        return "Every other response was right." if results.faults else "Every response was right."
    wrong = "; ".join(f"{count} x {failure}" for failure, count in results.failures.items())
    return f"Wrong responses: {wrong}."


def _reasons(results: Results, left_out: Mapping[str, str]) -> Iterator[str]:
    """The peers without figures. Lines of other programs are quoted as they are."""
    reasons = {f"{name} is left out": reason for name, reason in left_out.items()}
    for (name, scenario), fault in results.faults.items():
        reasons[f'{name} failed in "{scenario.name}"' if scenario else f"{name} did not start"] = fault
    for title, reason in reasons.items():
        yield f"{title}:\n\n" + "\n".join(f"    {line}" for line in reason.splitlines())
