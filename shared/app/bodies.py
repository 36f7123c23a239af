"""Reads the bodies of requests, and bounds the memory that all of them take together."""

from __future__ import annotations

from ..core.deadlines import Deadlines, TimeLimit
from ..core.errors import InvalidRequest, Overloaded, RequestTooLarge
from ..core.turns import Turns
from ..functions.http import Request
from .departure import ClientLeft

_OVERLOADED = (
    "The proxy has too many large requests at the moment. Try again in a few seconds, or send a smaller one."
)


SMALL_SHARE = 100
"""A body of at most this fraction of the largest is never dropped: the bodies of running calls must not stop
small calls. So 100 of them take as much memory as one."""


class Body:
    """The body of one request, as far as it has arrived. Its bytes count until `free` is called."""

    __slots__ = ("_bodies", "is_refused", "parts", "size")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.parts: list[bytes] = []
        self.size = 0
        self.is_refused = False
        """Whether it was dropped, to make room."""

    def free(self) -> None:
        """Its bytes count no longer. Later calls do nothing."""
        if self.size:
            self._bodies.drop(self)


class Bodies:
    """All bodies that this instance has in memory. Create it inside a running loop."""

    def __init__(
        self,
        most_bytes: int,
        most_bytes_together: int,
        seconds: float,
        advice: str = "Send a smaller image or fewer messages.",
    ) -> None:
        """A body has at most `most_bytes` and arrives within `seconds`. `advice` is for a larger one.

        All together have at most `most_bytes_together`, besides small ones that arrive then.
        """
        self._advice = advice
        self._most_bytes = most_bytes
        self._most_bytes_together = most_bytes_together
        self._seconds = seconds
        self._bytes_together = 0
        self.turns = Turns()
        """For work on large bodies: see `LARGE_BYTES`."""
        self._arriving: dict[Body, None] = {}
        self._deadlines = Deadlines()

    async def read(self, body: Body, req: Request) -> bytes:
        """The whole body of a request.

        Raises:
            InvalidRequest: it did not arrive in time.
            RequestTooLarge: it is too long. The rest is not read.
            Overloaded: all bodies together are too large, and this is the largest of those that arrive, and
                not small.
            ClientLeft: the client left before the end.
        """
        self._arriving[body] = None
        more = True
        try:
            if (whole := req.take_body()) is not None:
                self._add(body, whole)
                return whole
            with TimeLimit(self._deadlines, self._seconds):
                while more:
                    message = await req.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    more = message["more_body"]
                    self._add(body, message["body"])
            return body.parts[0] if len(body.parts) == 1 else b"".join(body.parts)
        except TimeoutError:
            raise InvalidRequest(
                f"The body did not arrive within {self._seconds:g} seconds. "
                "Check your connection and try again."
            ) from None
        finally:
            del self._arriving[body]
            body.parts.clear()

    def drop(self, body: Body) -> None:
        self._bytes_together -= body.size
        body.size = 0
        body.parts.clear()

    def _add(self, body: Body, part: bytes) -> None:
        size = len(part)
        if not body.is_refused:
            body.parts.append(part)
            body.size += size
            self._bytes_together += size
        if body.size > self._most_bytes:
            most = self._most_bytes
            shown = f"{most / 1_000_000:g} MB" if most >= 1_000_000 else f"{most:,} bytes"
            raise RequestTooLarge(f"The request is larger than {shown}. {self._advice}")
        if self._bytes_together > self._most_bytes_together:
            largest = max(self._arriving, key=lambda one: one.size)
            if largest.size * SMALL_SHARE > self._most_bytes:
                largest.is_refused = True
                self.drop(largest)
        if body.is_refused:
            raise Overloaded(_OVERLOADED, 2)
