"""What deployments have refused of an API."""

from __future__ import annotations

from typing import NamedTuple


class Quirks(NamedTuple):
    """What a deployment has refused, so that later requests avoid it."""

    output_field: str | None = None
    """The only field that it accepts for the output limit. None: the field that the client uses."""
    stream_options: bool = True
    """Whether it accepts `stream_options`. Old versions of the API do not."""


NO_QUIRKS = Quirks()
"""For a deployment that has refused nothing."""
