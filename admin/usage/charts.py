"""Draws charts as SVG without scripts. Their colours follow the page, and their text stays text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import vl_convert

VEGA_LITE = "6.4"
INK, FAINT = "currentColor", "var(--faint)"
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
"""Okabe and Ito's colours for colour-blind readers, without black and yellow, for both backgrounds."""

WIDTH = 760
_WITHOUT_YEAR = "replace(datum.label, regexp(' [0-9]{4}'), '')"
_WHOLE_NUMBERS = "datum.value % 1 == 0 ? format(datum.value, ',d') : ''"
"""Grid lines between whole numbers have no label."""

_LABELS = {"labelColor": INK, "labelFontSize": 12, "labelLimit": 220}
_LINES = {"domainColor": FAINT, "tickColor": FAINT, "gridColor": FAINT}
_TITLE = {"titleColor": INK, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 22}
_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "padding": {"left": 36, "right": 12, "top": 6, "bottom": 16},  # the browser's letters may be wider
    "view": {"stroke": None},
    "axis": _LABELS | _LINES | _TITLE,
    "legend": _LABELS | {"orient": "top", "title": None, "columnPadding": 36, "columns": 4},
    "range": {"category": list(PALETTE)},
}


def by_hour(hours: Sequence[str], rows: Sequence[dict[str, Any]], title: str, kinds: Sequence[str]) -> str:
    """Stacked bars. Each row has an `hour` of `hours`, a `kind` of `kinds`, and a `count`."""
    step = max(1, -(-len(hours) // 16))
    axis = {"title": None, "values": hours[::step], "labelAngle": -40, "grid": False}
    x = {
        "field": "hour",
        "type": "ordinal",
        "scale": {"domain": list(hours), "paddingInner": 0.15},
        "axis": axis | {"labelExpr": _WITHOUT_YEAR},
    }
    return _draw(rows, {"x": x, "y": _count_axis(title)}, kinds, height=190)


def by_name(names: Sequence[str], rows: Sequence[dict[str, Any]], title: str, kinds: Sequence[str]) -> str:
    """Stacked bars from the top. Each row has a `name` of `names`, a `kind` of `kinds`, and a `count`."""
    y = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": list(names)},
        "axis": {"title": None, "grid": False},
    }
    return _draw(rows, {"x": _count_axis(title), "y": y}, kinds, height={"step": 24})


def _count_axis(title: str) -> dict[str, Any]:
    axis = {"title": title, "tickCount": 5, "labelExpr": _WHOLE_NUMBERS}
    return {"field": "count", "type": "quantitative", "stack": "zero", "axis": axis}


def _draw(rows: Sequence[dict[str, Any]], axes: dict[str, Any], kinds: Sequence[str], *, height: Any) -> str:
    color: dict[str, Any] = {"field": "kind", "type": "nominal", "scale": {"domain": list(kinds)}}
    if len(kinds) == 1:
        color["legend"] = None
    order = {kind: number for number, kind in enumerate(kinds)}
    spec = {
        "width": WIDTH,
        "height": height,
        "data": {"values": [row | {"order": order[row["kind"]]} for row in rows]},
        "mark": "bar",
        "encoding": axes | {"color": color, "order": {"field": "order", "type": "quantitative"}},
        "config": _CONFIG,
    }
    return str(vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE))
