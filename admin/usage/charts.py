"""Charts as SVG: no script, colours that follow the page's, text that stays text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

VEGA_LITE: Final = "6.4"
INK, FAINT = "currentColor", "var(--faint)"
PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
"""Okabe and Ito's, told apart also by who sees few colours; without black and yellow, so for both grounds."""

WIDTH = 760
_WITHOUT_YEAR: Final = "slice(datum.label, 5)"

_CONFIG: Final[dict[str, Any]] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "padding": {"left": 36, "right": 12, "top": 6, "bottom": 16},  # the browser's letters may be wider
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": INK, "titleColor": INK},
        **{"domainColor": FAINT, "tickColor": FAINT, "gridColor": FAINT},
        **{"labelFontSize": 12, "labelLimit": 220},
        **{"titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 22},
    },
    "legend": {
        **{"labelColor": INK, "labelFontSize": 12, "labelLimit": 220},
        **{"orient": "top", "title": None, "columnPadding": 36, "columns": 4},
    },
    "range": {"category": list(PALETTE)},
}

_WHOLE: Final = "datum.value % 1 == 0 ? format(datum.value, ',d') : ''"
"""A count is never a part of one: where few were counted, the lines between have no number."""


def stacked_over_time(
    hours: Sequence[str], rows: Sequence[dict[str, Any]], title: str, kinds: Sequence[str]
) -> str:
    """Bars by hour. Each row has an `hour`, one of `hours`; a `kind`, one of `kinds`; and a `count`."""
    step = max(1, -(-len(hours) // 16))
    labelled = [hour for number, hour in enumerate(hours) if number % step == 0]
    x = {
        "field": "hour",
        "type": "ordinal",
        "scale": {"domain": list(hours), "paddingInner": 0.15},
        "axis": {
            "title": None,
            "values": labelled,
            "labelAngle": -40,
            "labelExpr": _WITHOUT_YEAR,
            "grid": False,
        },
    }
    return _bars(rows, x, _count_axis(title), kinds, height=190)


def stacked_by_name(
    names: Sequence[str], rows: Sequence[dict[str, Any]], title: str, kinds: Sequence[str]
) -> str:
    """Bars by `name`, one of `names`, from the top; otherwise as `stacked_over_time`."""
    y = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": list(names)},
        "axis": {"title": None, "grid": False},
    }
    return _bars(rows, _count_axis(title), y, kinds, height={"step": 24})


def _count_axis(title: str) -> dict[str, Any]:
    return {
        "field": "count",
        "type": "quantitative",
        "stack": "zero",
        "axis": {"title": title, "tickCount": 5, "labelExpr": _WHOLE},
    }


def _bars(
    rows: Sequence[dict[str, Any]],
    x: dict[str, Any],
    y: dict[str, Any],
    kinds: Sequence[str],
    *,
    height: Any,
) -> str:
    import vl_convert

    color = {"field": "kind", "type": "nominal", "scale": {"domain": list(kinds)}}
    order = {kind: number for number, kind in enumerate(kinds)}
    spec = {
        "width": WIDTH,
        "height": height,
        "data": {"values": [row | {"order": order[row["kind"]]} for row in rows]},
        "mark": "bar",
        "encoding": {
            "x": x,
            "y": y,
            "color": color | ({} if len(kinds) > 1 else {"legend": None}),
            "order": {"field": "order", "type": "quantitative"},
        },
        "config": _CONFIG,
    }
    return str(vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE))
