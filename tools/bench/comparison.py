"""The part of the page that compares: a row for each proxy."""

from collections.abc import Iterable, Mapping
from textwrap import fill

from . import figures
from .figures import NONE, Figure
from .markdown import quoted, table
from .requests import PACE_MS
from .results import PACED, PASSTHROUGH, PLAIN_16, STREAMS, Results, Scenario

FAILED = "failed"
_HEAD = (
    "proxy",
    "plain, 16 connections: requests a second",
    "ratio",
    "CPU s for 1,000",
    "ratio",
    "streams at full speed: chunks a second",
    "ratio",
    "50 paced streams: delay p99 in ms",
    "memory, MB",
    "first response, s",
)
_NOTE = (
    "Ratios are against the pass-through, within each round; memory is that of the end. The paced streams "
    f"bring {PACED.connections * 1000 // PACE_MS:,} chunks a second: a proxy that passes on fewer falls ever "
    "further behind, and its delay only shows for how long it was measured."
)


def text(results: Results, left_out: Mapping[str, str]) -> str:
    rows = [_row(results, name) for name in results.proxies]
    rows += [_empty(name, "left out") for name in left_out]
    policies = "\n".join(_item(f"`{peer.name}`: {peer.policy}") for peer in results.peers)
    return "\n\n".join([table(_HEAD, rows), _NOTE, *filter(None, [policies]), *_reasons(results, left_out)])


def _row(results: Results, name: str) -> list[str]:
    if (name, None) in results.faults:
        return _empty(name, "did not start")

    def told(scenario: Scenario, figure: Figure, form: str) -> str:
        if results.fault(name, scenario):
            return FAILED
        return figures.told(figures.values(results, scenario, name, figure), form)

    def ratio(scenario: Scenario, figure: Figure) -> str:
        if results.fault(name, scenario) or name == PASSTHROUGH:
            return ""
        return figures.told(figures.ratios(results, scenario, name, figure), "{:.3f}")

    return [
        name,
        *(told(PLAIN_16, figures.rate, "{:,.0f}"), ratio(PLAIN_16, figures.rate)),
        *(told(PLAIN_16, figures.cpu, "{:.3f}"), ratio(PLAIN_16, figures.cpu)),
        *(told(STREAMS, figures.rate, "{:,.0f}"), ratio(STREAMS, figures.rate)),
        told(PACED, figures.p99, "{:.2f}"),
        f"{results.resident[name] / figures.MEGABYTE:.0f}" if name in results.resident else NONE,
        figures.told(results.first_answer_seconds.get(name, []), "{:.2f}"),
    ]


def _item(words: str) -> str:
    return fill(words, 110, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _empty(name: str, why: str) -> list[str]:
    return [name, why, *[""] * (len(_HEAD) - 2)]


def _reasons(results: Results, left_out: Mapping[str, str]) -> Iterable[str]:
    for name, why in left_out.items():
        yield f"{name} is left out:\n\n{quoted(why)}"
    for (name, scenario), what in results.faults.items():
        where = f'failed in "{scenario.name}"' if scenario else "did not start"
        yield f"{name} {where}:\n\n{quoted(what)}"
