"""A deployment as this instance sees it: how busy it is, how it responded, and until when it cools down."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from ..core.models import NO_QUIRKS, Deployment, FailureKind

_log = logging.getLogger(__name__)

COOL_DOWN_SECONDS = 10.0
"""If the upstream names no time; doubled with each further failure in a row that is not a 429."""

LONGEST_COOL_DOWN_SECONDS = 60.0
REFUSED_SECONDS = 60.0
"""After a refusal of our key, role or name: only an administrator can fix that."""

PROBE_SECONDS = 1.0
"""The retry time while a single call finds out whether the last deployment works again."""

DEAD_AFTER = 3
"""After this many tries in a row without any response, a deployment is not even the last resort."""

Notice = Callable[[Deployment, str, float], None]
"""Receives how a deployment was seen, in a word, and for how many seconds it gets no calls."""


class Candidate:
    """A deployment, and how it has responded to this instance so far."""

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
        self.trouble: FailureKind | None = None
        """The last failure; None after the next good response."""
        self.cool_until = 0.0
        self.answered_at = -math.inf
        """When it last responded to any call."""
        self.failed_at = 0.0
        self.failures = 0
        self.probing = False
        self.seen = ""
        """How it responded last, in a word; empty before the first call."""
        self.noted_at = clock()
        self.noted_calls = 0
        self._clock = clock
        self._notice = notice

    def is_ready(self) -> bool:
        """Whether it may get a call now. After a failure it gets a single one first."""
        if self.trouble is None:
            return True
        if self._clock() < self.cool_until:
            return False
        return self.trouble is FailureKind.BUSY or not self.probing

    def is_busy(self) -> bool:
        """Whether it has asked for a pause that still lasts."""
        return self.trouble is FailureKind.BUSY and self._clock() < self.cool_until

    def is_last_resort(self) -> bool:
        """Whether a call should rather be tried here than be refused, although the deployment failed."""
        if self.trouble is FailureKind.FAILED:
            return True
        return self.trouble is FailureKind.SILENT and self.failures < DEAD_AFTER

    def seconds_left(self) -> float:
        """The seconds until it may be tried again."""
        left = self.cool_until - self._clock()
        return left if left > 0 else PROBE_SECONDS

    def begin(self) -> None:
        """A call is sent to it; call `ended` exactly once after it."""
        self.in_flight += 1
        self.calls += 1
        if self.trouble is not None:
            self.probing = True

    def ended(self) -> None:
        self.in_flight -= 1

    def answered(self, began_at: float) -> None:
        """It responded to a call that began at `began_at`; an older call than the failure proves nothing."""
        self.failures = 0
        self.answered_at = self._clock()
        if self.trouble is not None and began_at >= self.failed_at:
            self.trouble, self.probing, self.cool_until = None, False, 0.0
            self._see("ok", 0.0)
        elif not self.seen:
            self._see("ok", 0.0)

    def left(self) -> None:
        """The try ended without a result: another call may try."""
        self.probing = False

    def failed(self, trouble: FailureKind, seen: str, seconds: float | None, began_at: float) -> None:
        """Let it cool down, for `seconds` if the upstream named them. Failures that overlap count as one."""
        now = self._clock()
        self.probing = False
        if trouble is not FailureKind.BUSY and (self.failures == 0 or began_at >= self.failed_at):
            self.failures += 1
        seconds = self._cool_down(trouble) if seconds is None else min(seconds, LONGEST_COOL_DOWN_SECONDS)
        self.failed_at = now
        if not self.is_busy():
            self.trouble = trouble
        self.cool_until = max(self.cool_until, now + seconds)
        if trouble is FailureKind.REFUSED:
            text = "deployment %s of model %s refuses the proxy (%s): check its key, role and name"
            _log.error(text, self.deployment.id, self.deployment.model, seen)
        else:
            text = "deployment %s of model %s: %s; not used for %.3g s"
            _log.warning(text, self.deployment.id, self.deployment.model, seen, self.cool_until - now)
        self._see(seen, self.cool_until - now)

    def _cool_down(self, trouble: FailureKind) -> float:
        if trouble is FailureKind.REFUSED:
            return REFUSED_SECONDS
        doubled = COOL_DOWN_SECONDS * 2.0 ** min(10, max(0, self.failures - 1))
        return COOL_DOWN_SECONDS if trouble is FailureKind.BUSY else min(doubled, LONGEST_COOL_DOWN_SECONDS)

    def _see(self, seen: str, seconds: float) -> None:
        self.seen, self.noted_at, self.noted_calls = seen, self._clock(), self.calls
        self._notice(self.deployment, seen, seconds)

    def note(self, after_seconds: float) -> None:
        """Report its state, if it had calls and has not been reported for `after_seconds`."""
        if self.seen and self.calls != self.noted_calls and self._clock() - self.noted_at >= after_seconds:
            self._see(self.seen, max(0.0, self.cool_until - self._clock()))
