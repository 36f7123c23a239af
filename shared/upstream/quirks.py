"""What a deployment has refused, as one instance has learned it."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..apis.quirks import NO_QUIRKS, Quirks
from ..core.models import Credential

EXPIRES_SECONDS = 600.0
"""After this time, the deployment may accept again what it refused: calls try it."""


class LearnedQuirks:
    """The quirks of one deployment, until they expire. `clock` returns seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._learned = NO_QUIRKS
        self._expires_at = math.inf
        self._seen: tuple[Quirks, Credential] | None = None
        """The quirks that the latest call showed which could not teach by itself, and its attendee."""

    @property
    def current(self) -> Quirks:
        if self._clock() >= self._expires_at:
            self._learned, self._expires_at = NO_QUIRKS, math.inf
        return self._learned

    def learn(self, quirks: Quirks, attendee: Credential, *, is_plain: bool) -> None:
        """A call was refused, and then served with `quirks`.

        If the call is plain, only the deployment can be the cause. Else its own content can be, and so it
        teaches only what another attendee's call has shown just before.
        """
        seen, self._seen = self._seen, (quirks, attendee)
        if is_plain or (seen is not None and seen[0] == quirks and seen[1] != attendee):
            self._learned = quirks
            self._expires_at = min(self._expires_at, self._clock() + EXPIRES_SECONDS)
