"""A call as it comes from the client, before its body is read."""

from __future__ import annotations

from collections.abc import Mapping

from ..functions.http import Request
from .bodies import Bodies
from .departure import Departure, Watch

Headers = Mapping[bytes, bytes]
"""A client's headers: names in lower case, values unchanged."""


class Incoming:
    """One call. Only one place may read its body or watch its client at a time."""

    __slots__ = ("_bodies", "_body", "_receive", "_watch", "clock_at_arrival", "deployment", "headers")

    def __init__(self, req: Request, bodies: Bodies, watch: Watch, clock_at_arrival: float) -> None:
        self.headers: Headers = req.headers
        self.deployment: str | None = req.path_params.get("deployment")
        """The model, if the path names it."""
        self.clock_at_arrival = clock_at_arrival
        self._receive = req.receive
        self._bodies = bodies
        self._watch = watch
        self._body = bodies.new()

    async def read_body(self) -> bytes:
        """The whole body. See `Bodies.read` for the errors."""
        return await self._bodies.read(self._body, self._receive)

    async def turn(self) -> None:
        """Wait before the next work on the body. Only if it has more than `LARGE_BYTES`."""
        await self._bodies.turns.wait()

    def departure(self) -> Departure:
        """Watches the client while the call is served."""
        return Departure(self._receive, self._watch)

    def free(self) -> None:
        """The body is not needed any more."""
        self._body.free()
