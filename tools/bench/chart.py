"""Charts as SVG text, in light and dark as the reader's system is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

_HEAD: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="{title}">
<style>
svg {{ --back: #fff; --text: #1f2328; --line: #d0d7de; --app: #0969da; --other: #8c959f }}
@media (prefers-color-scheme: dark) {{
svg {{ --back: #0d1117; --text: #e6edf3; --line: #3d444d; --app: #4493f8; --other: #7d8590 }}
}}
text {{ fill: var(--text) }} .right {{ text-anchor: end }} .bold {{ font-weight: 600 }}
.back {{ fill: var(--back) }} .app {{ fill: var(--app) }} .other {{ fill: var(--other) }}
.axis {{ stroke: var(--line) }} .curve {{ stroke: var(--app); stroke-width: 2; fill: none }}
</style>
<rect class="back" width="{width}" height="{height}"/>
"""
_WIDTH: Final = 860
_BAR, _BARS_FROM, _BARS_TO = 24, 150, 780
_PANEL_HEIGHT, _PLOT_HEIGHT, _PLOT_TOP = 142, 84, 34


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: float
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    points: Sequence[tuple[float, float]]
    """From the lowest x to the highest. Both axes are linear and begin at 0."""


def bars(title: str, groups: Iterable[tuple[str, Sequence[Bar]]], mark: float, longest: float) -> str:
    """Groups of horizontal bars, with a line at `mark`. A bar above `longest` is cut, with an arrow."""
    scale, y, parts = (_BARS_TO - _BARS_FROM) / longest, 0, list[str]()
    for name, group in groups:
        y += _BAR
        parts.append(_text(10, y, name, "bold"))
        for bar in group:
            y += _BAR
            width = min(bar.value, longest) * scale
            kind = "app" if bar.is_ours else "other"
            parts.append(_text(_BARS_FROM - 8, y, bar.name, "right"))
            parts.append(
                f'<rect class="{kind}" x="{_BARS_FROM}" y="{y - 13}" width="{width:.1f}" height="17"/>'
            )
            parts.append(_text(_BARS_FROM + width + 6, y, short(bar.value) + " →" * (bar.value > longest)))
    at = _BARS_FROM + mark * scale
    parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="{y + 8}"/>')
    return _svg(title, y + 16, parts)


def panels(title: str, rows: Sequence[Sequence[Panel]]) -> str:
    """A grid of small charts with one curve each."""
    parts = [
        part
        for row, panels_of_row in enumerate(rows)
        for column, panel in enumerate(panels_of_row)
        for part in _panel(
            panel, column * _WIDTH / len(panels_of_row), row * _PANEL_HEIGHT, len(panels_of_row)
        )
    ]
    return _svg(title, len(rows) * _PANEL_HEIGHT, parts)


def short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def _panel(panel: Panel, left: float, top: float, columns: int) -> Iterable[str]:
    x0, width, bottom = left + 44, _WIDTH / columns - 58, top + _PLOT_TOP + _PLOT_HEIGHT
    most_x, most_y = panel.points[-1][0], _round(max(y for _, y in panel.points))
    spots = [(x0 + x / most_x * width, bottom - y / most_y * _PLOT_HEIGHT) for x, y in panel.points]
    yield _text(left + 10, top + 20, panel.title, "bold")
    for share in (0, 0.5, 1):
        y = bottom - share * _PLOT_HEIGHT
        yield f'<line class="axis" x1="{x0:.1f}" x2="{x0 + width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(x0 - 5, y + 4, f"{most_y * share:,g}", "right")
    yield _text(x0 + width, bottom + 16, f"{most_x:,g}", "right")
    yield f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>'
    for x, y in spots:
        yield f'<circle class="app" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _round(value: float) -> float:
    """The next number above that reads well on an axis."""
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 3, 4, 6, 8, 10) if step * power >= value)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    head = _HEAD.format(width=_WIDTH, height=f"{height:g}", title=escape(title))
    return head + "\n".join(parts) + "\n</svg>\n"
