"""A call as it comes from the client: its headers, its body as it arrives, and whether the client leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from ..functions.http import Request
from .bodies import Bodies, Body

Headers = Mapping[bytes, bytes]
"""A client's headers: names in lower case, values unchanged."""


class Incoming:
    """One call. Only one place may read its body or watch its client at a time."""

    __slots__ = ("_bodies", "_body", "_req", "client", "clock_at_arrival", "headers", "model_in_path")

    def __init__(self, req: Request, bodies: Bodies, clock_at_arrival: float) -> None:
        self.headers: Headers = req.headers
        self.model_in_path: str | None = req.path_params.get("deployment")
        """The model, if the client's path names one. Azure's paths name it as a deployment."""
        self.clock_at_arrival = clock_at_arrival
        self.client = req.client
        self._req = req
        self._bodies = bodies
        self._body = Body(bodies)

    def read_body(self) -> Awaitable[bytes]:
        """The whole body. See `Bodies.read` for the errors."""
        return self._bodies.read(self._body, self._req)

    async def wait_for_turn(self) -> None:
        """Wait for a turn of the event loop. For work on a body of more than `LARGE_BYTES`."""
        await self._bodies.turns.wait()

    def free(self) -> None:
        """The body is not needed any more."""
        self._body.free()
