"""A deployment as one instance sees it: how busy it is, how it responded, and until when it cools down."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from ..core.models import NO_QUIRKS, Deployment, FailureKind

_log = logging.getLogger(__name__)

COOL_DOWN_SECONDS = 10.0
"""If the upstream names no time. Doubled with each further failure in a row that is not a 429."""

LONGEST_COOL_DOWN_SECONDS = 60.0
REFUSED_SECONDS = 60.0
"""After the deployment refused our key, role or name: only an administrator can fix that."""

PROBE_SECONDS = 1.0
"""The retry time while a single call finds out whether the last deployment works again."""

DEAD_AFTER = 3
"""After this many tries in a row without any response, a deployment is not even the last resort."""

HealthReport = Callable[[Deployment, str, float], None]
"""Receives a deployment's status in a word or two, and for how many seconds it gets no calls."""


class Candidate:
    """A deployment, and how it has responded to this instance so far."""

    __slots__ = (
        "_clock",
        "_report_health",
        "calls",
        "cool_until",
        "deployment",
        "failed_at",
        "failure",
        "failures",
        "in_flight",
        "is_probed",
        "quirks",
        "reported_at",
        "reported_calls",
        "responded_at",
        "status",
    )

    def __init__(
        self, deployment: Deployment, clock: Callable[[], float], report_health: HealthReport
    ) -> None:
        self.deployment = deployment
        self.quirks = NO_QUIRKS
        self.in_flight = 0
        self.calls = 0
        self.failure: FailureKind | None = None
        """The last failure. None before it, and after the next good response."""
        self.cool_until = 0.0
        self.responded_at = -math.inf
        """When it last responded to any call."""
        self.failed_at = 0.0
        self.failures = 0
        """Failures in a row, without those by a 429."""
        self.is_probed = False
        """Whether a single call is under way to find out whether it works again."""
        self.status = ""
        """Its last result in a word or two; empty before the first call."""
        self.reported_at = clock()
        self.reported_calls = 0
        self._clock = clock
        self._report_health = report_health

    def is_ready(self) -> bool:
        """Whether it can get a call now. After a failure, it first gets a single one."""
        if self.failure is None:
            return True
        if self._clock() < self.cool_until:
            return False
        return self.failure is FailureKind.BUSY or not self.is_probed

    def is_busy(self) -> bool:
        """Whether it returned a 429, and the time to wait is not over."""
        return self.failure is FailureKind.BUSY and self._clock() < self.cool_until

    def is_last_resort(self) -> bool:
        """Whether a call that has no other deployment is sent here, although it failed."""
        if self.failure is FailureKind.FAILED:
            return True
        return self.failure is FailureKind.SILENT and self.failures < DEAD_AFTER

    def seconds_left(self) -> float:
        """The seconds until it can be tried again."""
        left = self.cool_until - self._clock()
        return left if left > 0 else PROBE_SECONDS

    def begin(self) -> None:
        """A call is sent to it. Call `end` exactly once after it."""
        self.in_flight += 1
        self.calls += 1
        if self.failure is not None:
            self.is_probed = True

    def end(self) -> None:
        self.in_flight -= 1

    def note_response(self, began_at: float) -> None:
        """It responded to a try. `began_at` counts: a try older than the last failure proves nothing."""
        self.failures = 0
        self.responded_at = self._clock()
        if self.failure is not None and began_at >= self.failed_at:
            self.failure, self.is_probed, self.cool_until = None, False, 0.0
            self._report("ok", 0.0)
        elif not self.status:
            self._report("ok", 0.0)

    def note_no_result(self) -> None:
        """The try shows nothing about the deployment, so another call may probe it."""
        self.is_probed = False

    def note_failure(self, kind: FailureKind, status: str, seconds: float | None, began_at: float) -> None:
        """Cool down, for `seconds` if the upstream named them. Tries that overlap count as one failure."""
        now = self._clock()
        self.is_probed = False
        if kind is not FailureKind.BUSY and (self.failures == 0 or began_at >= self.failed_at):
            self.failures += 1
        seconds = self._cool_down(kind) if seconds is None else min(seconds, LONGEST_COOL_DOWN_SECONDS)
        self.failed_at = now
        if not self.is_busy():
            self.failure = kind
        self.cool_until = max(self.cool_until, now + seconds)
        if kind is FailureKind.REFUSED:
            text = "deployment %s of model %s refuses the proxy (%s): check its key, role and name"
            _log.error(text, self.deployment.id, self.deployment.model, status)
        else:
            text = "deployment %s of model %s: %s; not used for %.3g s"
            _log.warning(text, self.deployment.id, self.deployment.model, status, self.cool_until - now)
        self._report(status, self.cool_until - now)

    def report_if_due(self, after_seconds: float) -> None:
        """Report its status, if it had calls and was not reported for `after_seconds`."""
        is_used = bool(self.status) and self.calls != self.reported_calls
        if is_used and self._clock() - self.reported_at >= after_seconds:
            self._report(self.status, max(0.0, self.cool_until - self._clock()))

    def _cool_down(self, kind: FailureKind) -> float:
        if kind is FailureKind.REFUSED:
            return REFUSED_SECONDS
        if kind is FailureKind.BUSY:
            return COOL_DOWN_SECONDS
        doubled = COOL_DOWN_SECONDS * 2.0 ** min(10, max(0, self.failures - 1))
        return min(doubled, LONGEST_COOL_DOWN_SECONDS)

    def _report(self, status: str, cooling_seconds: float) -> None:
        self.status, self.reported_at, self.reported_calls = status, self._clock(), self.calls
        self._report_health(self.deployment, status, cooling_seconds)
