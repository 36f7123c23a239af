"""QR codes, as SVG and on a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import segno


def svg_element(text: str) -> str:
    """An SVG element for an HTML page, of class `qr`, that fills its box."""
    return str(_code(text).svg_inline(border=2, omitsize=True, svgclass="qr", lineclass=None))


def svg_file(text: str) -> str:
    """The content of an SVG file."""
    drawn = io.BytesIO()
    _code(text).save(drawn, kind="svg", scale=10, border=4)
    return drawn.getvalue().decode()


def for_terminal(text: str) -> str:
    """Lines of block characters, for a dark or a light terminal."""
    drawn = io.StringIO()
    _code(text).terminal(out=drawn, compact=True)
    return drawn.getvalue()


def _code(text: str) -> segno.QRCode:
    import segno

    return segno.make(text, error="m", micro=False)
