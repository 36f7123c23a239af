"""The results as Markdown: against their targets, and in full."""

import os
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from statistics import median

from .results import Results
from .scenarios import PACED, PLAIN_16, SCENARIOS, SLOW_64, STREAMS, Scenario
from .targets import LOCAL, PASSTHROUGH, UPSTREAM

BEGIN = "<!-- The figures begin. `dev.py bench --write` replaces all lines up to their end. -->"
END = "<!-- The figures end. -->"
_SCENARIO_HEAD = (
    "| scenario | proxy | a second | ratio | CPU s for 1,000 | ratio | delay p50, ms | delay p99, ms "
    "| table calls | busy |"
)
_MEGABYTE = 1_000_000


def text(results: Results) -> str:
    parts = [
        _head(results),
        _table("|  | target | measured | single rounds |  |", _target_rows(results)),
        _table(_SCENARIO_HEAD, _scenario_rows(results)),
        _table("| process | first response, s | memory at the end, MB |", _process_rows(results)),
        *_failures(results),
    ]
    return "\n\n".join(parts)


def inserted(figures: str, page: str) -> str:
    """The page with the figures between its two markers, or at its end where it has none."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] or "\n"
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def _table(head: str, rows: Iterable[list[str]]) -> str:
    dashes = ["---"] * (head.count("|") - 1)
    return "\n".join([head, *(f"| {' | '.join(line)} |" for line in (dashes, *rows))])


def _head(results: Results) -> str:
    options = " --peers" * bool(results.peers or results.faults) + " --local" * (results.app == LOCAL)
    plan, python = results.plan, f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"Written by `python3 dev.py bench{options} --write` on {datetime.now(UTC):%Y-%m-%d}: "
        f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}, {python}, {plan.rounds} "
        f"rounds of {plan.seconds:g} s for each figure, after {plan.warm_seconds:g} s that do not count. The "
        f"targets are for `{results.app}`."
    )


def _target_rows(results: Results) -> Iterator[list[str]]:
    app, ratios = results.app, results.ratios
    plain, slow = PLAIN_16.name, SLOW_64.name
    rate, streams = (ratios(one, app, "rate") for one in (PLAIN_16, STREAMS))
    yield _target(f"{plain}: requests a second, ratio", "at least 0.85", rate)
    yield _target(f"{plain}: CPU for a request, ratio", "at most 1.2", ratios(PLAIN_16, app, "cpu"))
    yield _target("streams at full speed: chunks a second, ratio", "at least 1", streams)
    yield _target("50 paced streams: delay p99, ratio", "at most 1.5", ratios(PACED, app, "p99"))
    above = [one - other for one, other in results.pairs(SLOW_64, app, "p50")]
    yield _target(f"{slow}: p50 above the pass-through's, ms", "at most 3", above)
    calls = results.values(PLAIN_16, app, "table_calls")
    yield _target("table calls for a request", "at most 0.1", calls, "{:.3f}")
    if results.memory:
        responses, last = results.memory[-1]
        half = min(results.memory, key=lambda seen: abs(seen[0] - responses / 2))[1]
        name = f"memory after {responses:,} requests, MB"
        yield _target(name, "at most 75", [last / _MEGABYTE], "{:.1f}")
        yield _target("its growth over the second half, MB", "at most 1", [(last - half) / _MEGABYTE])
    starts = results.first_response_seconds.get(app, [])
    yield _target("process start to first response, s", "at most 0.5", starts)


def _target(name: str, target: str, values: list[float], form: str = "{:.2f}") -> list[str]:
    """The median of the rounds counts."""
    if not values:
        return [name, target, "not measured here", "", ""]
    middle, bound = median(values), float(target.rsplit(maxsplit=1)[-1])
    reached = middle >= bound if target.startswith("at least") else middle <= bound
    verdict = "reached" if reached else "**missed**"
    return [name, target, form.format(middle), _spread(values, form), verdict]


def _spread(values: list[float], form: str) -> str:
    return f"{form} to {form}".format(min(values), max(values)) if len(values) > 1 else ""


def _scenario_rows(results: Results) -> Iterator[list[str]]:
    for scenario in SCENARIOS:
        for name in results.targets(scenario):
            title = f"{scenario.name}: {scenario.unit}" if name == results.app else ""
            yield [title, name, *_figures(results, scenario, name)]


def _figures(results: Results, scenario: Scenario, name: str) -> list[str]:
    def cell(figure: str, form: str) -> str:
        return _median(results.values(scenario, name, figure), form)

    def ratio(figure: str) -> str:
        compared = name not in {PASSTHROUGH, UPSTREAM} and not scenario.app_only
        values = results.ratios(scenario, name, figure) if compared else []
        return f"{median(values):.3f}" if values else ""

    def busy(figure: str) -> str:
        values = results.values(scenario, name, figure)
        return f"{median(values):.2f}" if values else "-"

    delays = [cell("p50", "{:.2f}"), cell("p99", "{:.2f}")] if scenario.has_delays else ["", ""]
    # A paced stream lasts longer than a sample, so its table calls are not counted.
    calls = cell("table_calls", "{:.3f}") if name == results.app and not scenario.paced else ""
    parts = " / ".join(map(busy, ("busy", "generator_busy", "upstream_busy")))
    return [
        cell("rate", "{:,.0f}"),
        ratio("rate"),
        cell("cpu", "{:.3f}"),
        ratio("cpu"),
        *delays,
        calls,
        parts,
    ]


def _median(values: list[float], form: str) -> str:
    """With the lowest and the highest, where there are several."""
    spread = _spread(values, form)
    return form.format(median(values)) + (f" ({spread})" if spread else "") if values else "-"


def _process_rows(results: Results) -> Iterator[list[str]]:
    for name in results.proxies:
        starts, memory = results.first_response_seconds.get(name, []), results.resident.get(name)
        yield [name, _median(starts, "{:.2f}"), f"{memory / _MEGABYTE:.0f}" if memory else "-"]


def _failures(results: Results) -> Iterator[str]:
    wrong = "; ".join(f"{count} x {failure}" for failure, count in results.failures.items())
    yield f"Wrong responses: {wrong}." if wrong else "Every response that counts was right."
    for name, fault in results.faults.items():  # lines of other programs are quoted as they are
        yield f"{name} took no further part:\n\n" + "\n".join(f"    {line}" for line in fault.splitlines())
