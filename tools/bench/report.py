"""The results as Markdown: against their targets, and in full."""

import os
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import product
from operator import itemgetter
from statistics import median

from . import chart
from .peers import COMPILED
from .results import Results
from .scenarios import PACED, PLAIN_16, RESPONSES_STREAMS, SCENARIOS, SLOW_64, STREAMS, Scenario
from .targets import LOCAL, PASSTHROUGH, UPSTREAM

_SCENARIO_HEAD = (
    "| scenario | proxy | a second | ratio | CPU s for 1,000 | ratio | delay p50, ms | delay p99, ms "
    "| table calls | busy |"
)
_PROXY_HEAD = (
    "| proxy | plain: requests a second | streams: chunks a second | plain: CPU | paced streams: delay p99 "
    "| first response, s | memory at the end, MB |"
)
_MEGABYTE = 1_000_000
_LONGEST_BAR = 2.0
_COMPARED = {PLAIN_16: PLAIN_16.name, STREAMS: "streams at full speed"}


def summary(results: Results) -> str:
    """Against the targets, and beside the other proxies."""
    parts = [
        _head(results),
        table("|  | target | measured | single rounds |  |", _target_rows(results)),
        _baseline(results),
        table(_PROXY_HEAD, _proxy_rows(results)),
    ]
    return "\n\n".join(parts)


def _baseline(results: Results) -> str:
    rates = [results.values(scenario, PASSTHROUGH, "rate") for scenario in _COMPARED]
    plain, streams = (f"{median(values):,.0f}" for values in rates)
    done = f"{plain} requests and {streams} chunks a second"
    return f"Each proxy as a multiple of the pass-through, which had {done}:"


def details(results: Results) -> str:
    parts = [_head(results), table(_SCENARIO_HEAD, _scenario_rows(results)), *_failures(results)]
    return "\n\n".join(parts)


def svg(results: Results) -> str:
    """Two figures of all proxies, as bars."""
    groups = [
        (title, [chart.Bar(name, ratio, name == results.app) for name, ratio in _ranked(results, scenario)])
        for scenario, title in _COMPARED.items()
    ]
    return chart.bars("Speed as a multiple of the pass-through's", groups, 1.0, _LONGEST_BAR)


def _ranked(results: Results, scenario: Scenario) -> list[tuple[str, float]]:
    ratios = {name: results.ratios(scenario, name, "rate") for name in results.proxies}
    found = ((name, median(values)) for name, values in ratios.items() if values)
    return sorted(found, key=itemgetter(1), reverse=True)


def inserted(figures: str, page: str, name: str = "figures", option: str = "") -> str:
    """The page with the figures between the two markers of that name, or at its end where it has none."""
    begin, end = markers(name, option)
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2] or "\n"
    return f"{before}{begin}\n\n{figures}\n\n{end}{after}"


def markers(name: str = "figures", option: str = "") -> tuple[str, str]:
    command = f"dev.py bench{option} --write"
    begin = f"<!-- The {name} begin. `{command}` replaces all lines up to their end. -->"
    return begin, f"<!-- The {name} end. -->"


def table(head: str, rows: Iterable[list[str]]) -> str:
    dashes = ["---"] * (head.count("|") - 1)
    return "\n".join([head, *(f"| {' | '.join(line)} |" for line in (dashes, *rows))])


def origin(options: str) -> str:
    """Which command wrote the figures, when and where."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"Written by `python3 dev.py bench{options} --write` on {datetime.now(UTC):%Y-%m-%d}: "
        f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}, {python}"
    )


def _head(results: Results) -> str:
    options = " --peers" * bool(results.peers or results.faults) + " --local" * (results.app == LOCAL)
    plan = results.plan
    return (
        f"{origin(options)}, {plan.rounds} rounds of {plan.seconds:g} s for each figure, after "
        f"{plan.warm_seconds:g} s that do not count. The targets are for `{results.app}`."
    )


def _target_rows(results: Results) -> Iterator[list[str]]:
    app, ratios = results.app, results.ratios
    plain, slow = PLAIN_16.name, SLOW_64.name
    rate, streams = (ratios(one, app, "rate") for one in (PLAIN_16, STREAMS))
    yield _target(f"{plain}: requests a second, ratio", "at least 0.85", rate)
    yield _target(f"{plain}: CPU for a request, ratio", "at most 1.2", ratios(PLAIN_16, app, "cpu"))
    yield _target("streams at full speed: chunks a second, ratio", "at least 1", streams)
    rates = (results.values(one, app, "rate") for one in (RESPONSES_STREAMS, STREAMS))
    beside_chat = [one / other for one, other in zip(*rates, strict=False) if other]
    yield _target(f"{RESPONSES_STREAMS.name}: ratio to those of chat", "at least 0.9", beside_chat)
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
    for peer, scenario in product((one for one in results.peers if one.startswith(COMPILED)), _COMPARED):
        beside = results.ratios(scenario, app, "rate", peer)
        yield _target(
            f"{_COMPARED[scenario]}: {scenario.unit} a second, ratio to {peer}", "at least 1", beside
        )
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


def _proxy_rows(results: Results) -> Iterator[list[str]]:
    for name in results.proxies:
        starts, memory = results.first_response_seconds.get(name, []), results.resident.get(name)
        figures = [(PLAIN_16, "rate"), (STREAMS, "rate"), (PLAIN_16, "cpu"), (PACED, "p99")]
        ratios = [results.ratios(scenario, name, figure) for scenario, figure in figures]
        cells = [chart.short(median(values)) if values else "-" for values in ratios]
        yield [name, *cells, _median(starts, "{:.2f}"), f"{memory / _MEGABYTE:.0f}" if memory else "-"]


def _failures(results: Results) -> Iterator[str]:
    wrong = "; ".join(f"{count} x {failure}" for failure, count in results.failures.items())
    yield f"Wrong responses: {wrong}." if wrong else "Every response that counts was right."
    for name, fault in results.faults.items():  # lines of other programs are quoted as they are
        yield f"{name} took no further part:\n\n" + "\n".join(f"    {line}" for line in fault.splitlines())
