"""A deployment as this instance sees it: how busy it is, how it answered, and until when it cools down."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

from ..core.models import NO_QUIRKS, Deployment, Trouble

_log = logging.getLogger(__name__)

COOL_DOWN_SECONDS: Final = 10.0
"""Where the upstream does not say; doubled with each further failure in a row that was not a 429."""

LONGEST_COOL_DOWN_SECONDS: Final = 60.0
REFUSED_SECONDS: Final = 60.0
"""After a refusal of our key, role or name: nothing but an administrator's hand will change that."""

PROBE_SECONDS: Final = 1.0
"""When to come back while a single call is finding out whether the last deployment is there again."""

DEAD_AFTER: Final = 3
"""So many times in a row without any answer, and a deployment is not even the last resort."""

Notice = Callable[[Deployment, str, float], None]
"""Is told how a deployment was seen, in a word, and for how many seconds it is left alone."""


class Candidate:
    """A deployment, and how it has answered this instance so far."""

    __slots__ = (
        "_clock",
        "_notice",
        "answered_at",
        "calls",
        "cool_until",
        "deployment",
        "failed_at",
        "failures",
        "in_flight",
        "noted_at",
        "noted_calls",
        "probing",
        "quirks",
        "seen",
        "trouble",
    )

    def __init__(self, deployment: Deployment, clock: Callable[[], float], notice: Notice) -> None:
        self.deployment = deployment
        self.quirks = NO_QUIRKS
        self.in_flight = 0
        self.calls = 0
        self.trouble: Trouble | None = None
        """The last one; None once a call has been answered since."""
        self.cool_until = 0.0
        self.answered_at = -math.inf
        """When it last answered any call."""
        self.failed_at = 0.0
        self.failures = 0
        self.probing = False
        self.seen = ""
        """How it answered last, in a word; empty while it never did."""
        self.noted_at = clock()
        self.noted_calls = 0
        self._clock = clock
        self._notice = notice

    def is_ready(self) -> bool:
        """Whether it may get a call now: a single one, where it failed and is to be tried again."""
        if self.trouble is None:
            return True
        if self._clock() < self.cool_until:
            return False
        return self.trouble is Trouble.BUSY or not self.probing

    def is_busy(self) -> bool:
        """Whether it has asked to be left alone for now."""
        return self.trouble is Trouble.BUSY and self._clock() < self.cool_until

    def is_last_resort(self) -> bool:
        """Whether a call is better tried here than refused, though it failed."""
        if self.trouble is Trouble.FAILED:
            return True
        return self.trouble is Trouble.SILENT and self.failures < DEAD_AFTER

    def seconds_left(self) -> float:
        """Until it may be tried again."""
        left = self.cool_until - self._clock()
        return left if left > 0 else PROBE_SECONDS

    def begin(self) -> None:
        """A call goes to it; `ended` is due exactly once."""
        self.in_flight += 1
        self.calls += 1
        if self.trouble is not None:
            self.probing = True

    def ended(self) -> None:
        self.in_flight -= 1

    def answered(self, began_at: float) -> None:
        """It answered a call that began then; one that began before a failure says nothing about it."""
        self.failures = 0
        self.answered_at = self._clock()
        if self.trouble is not None and began_at >= self.failed_at:
            self.trouble, self.probing, self.cool_until = None, False, 0.0
            self._see("ok", 0.0)
        elif not self.seen:
            self._see("ok", 0.0)

    def left(self) -> None:
        """The try ended before it told anything: another may find out."""
        self.probing = False

    def failed(self, trouble: Trouble, seen: str, seconds: float | None, began_at: float) -> None:
        """Let it cool, `seconds` where the upstream said so. What fails together counts as one failure."""
        now = self._clock()
        self.probing = False
        if trouble is not Trouble.BUSY and (self.failures == 0 or began_at >= self.failed_at):
            self.failures += 1
        seconds = self._cool_down(trouble) if seconds is None else min(seconds, LONGEST_COOL_DOWN_SECONDS)
        self.failed_at = now
        if not self.is_busy():
            self.trouble = trouble
        self.cool_until = max(self.cool_until, now + seconds)
        if trouble is Trouble.REFUSED:
            _log.error(
                "deployment %s of model %s refuses the proxy (%s): check its key, role and name",
                *(self.deployment.id, self.deployment.model, seen),
            )
        else:
            _log.warning(
                "deployment %s of model %s: %s; not used for %.3g s",
                *(self.deployment.id, self.deployment.model, seen, self.cool_until - now),
            )
        self._see(seen, self.cool_until - now)

    def _cool_down(self, trouble: Trouble) -> float:
        if trouble is Trouble.REFUSED:
            return REFUSED_SECONDS
        doubled = COOL_DOWN_SECONDS * 2.0 ** min(10, max(0, self.failures - 1))
        return COOL_DOWN_SECONDS if trouble is Trouble.BUSY else min(doubled, LONGEST_COOL_DOWN_SECONDS)

    def _see(self, seen: str, seconds: float) -> None:
        self.seen, self.noted_at, self.noted_calls = seen, self._clock(), self.calls
        self._notice(self.deployment, seen, seconds)

    def note(self, after_seconds: float) -> None:
        """Tell how it is, where it had calls and this was not told for so long."""
        if self.seen and self.calls != self.noted_calls and self._clock() - self.noted_at >= after_seconds:
            self._see(self.seen, max(0.0, self.cool_until - self._clock()))
