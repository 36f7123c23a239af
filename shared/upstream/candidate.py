"""A deployment as one instance sees it: how busy it is, how it responded, and until when it cools down."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from enum import Enum

from ..core.models import CHAT, Credential, Deployment, FailureKind
from ..core.money import prices_of
from .quirks import LearnedQuirks

_log = logging.getLogger(__name__)

COOL_DOWN_SECONDS = 10.0
"""If the upstream names no time. Doubled with each further failure in a row that is not a 429."""

LONGEST_COOL_DOWN_SECONDS = 60.0
REFUSED_SECONDS = 60.0
"""After the deployment refused our key, role or name, or has no quota: only an administrator can fix that."""

PROBE_SECONDS = 1.0
"""The retry time while a single call finds out whether the last deployment works again."""

DEAD_AFTER = 3
"""After this many failures in a row, met by several attendees, a silent deployment is not even the last
resort."""

HealthReport = Callable[[Deployment, str, float], None]
"""Receives a deployment's status in a word or two, and for how many seconds it gets no calls."""


class Availability(Enum):
    """What a deployment is to an attendee's call. A call tries the deployments in this order."""

    READY = "ready"
    SPARE = "spare"
    """It cools down after a failure that only one other attendee has met."""
    FAILED = "failed"
    REFUSED = "refused"
    CLOSED = "closed"
    """It gets no call."""


class Candidate:
    """A deployment, and how it has responded to this instance so far, in one of its APIs.

    A deployment may refuse one API, and serve another.

    The content of a call can make it fail. So a failure counts for the attendee who meets it, and for all
    only when a second attendee meets the same kind during its cool-down.
    """

    __slots__ = (
        "_clock",
        "_report_health",
        "api",
        "calls",
        "cool_until",
        "deployment",
        "failed_at",
        "failed_for",
        "failure",
        "failures",
        "in_flight",
        "is_probed",
        "last_failed_for",
        "prices",
        "quirks",
        "reported_at",
        "reported_calls",
        "responded_at",
        "status",
    )

    def __init__(
        self,
        deployment: Deployment,
        clock: Callable[[], float],
        report_health: HealthReport,
        api: str = CHAT,
    ) -> None:
        self.update(deployment)
        self.api = api
        self.quirks = LearnedQuirks(clock)
        self.in_flight = 0
        self.calls = 0
        self.failure: FailureKind | None = None
        """The last failure. None before it, and after the next good response."""
        self.failed_for: Credential | None = None
        """The only attendee who met this failure. None: several did."""
        self.cool_until = 0.0
        self.responded_at = -math.inf
        """When it last responded to any call."""
        self.failed_at = 0.0
        self.failures = 0
        """Failures in a row, without 429s and refusals. Those of one attendee in a row count as one."""
        self.last_failed_for: Credential | None = None
        """The attendee who met the last of them."""
        self.is_probed = False
        """Whether a single call is under way to find out whether it works again."""
        self.status = ""
        """Its last result in a word or two; empty before the first call."""
        self.reported_at = clock()
        self.reported_calls = 0
        self._clock = clock
        self._report_health = report_health

    def update(self, deployment: Deployment) -> None:
        """The deployment's row has changed, but not its target."""
        self.deployment = deployment
        self.prices = prices_of(deployment)
        """None if one is missing."""

    def availability(self, attendee: Credential) -> Availability:
        """What it is to a call of this attendee. After a failure, it is first ready for a single call."""
        failure = self.failure
        is_of_another = self._is_of_another(attendee)
        if failure is None or (failure is FailureKind.REFUSED and is_of_another):
            return Availability.READY
        if self._clock() >= self.cool_until and (failure is FailureKind.BUSY or not self.is_probed):
            return Availability.READY
        is_dead = failure is FailureKind.SILENT and self.failures >= DEAD_AFTER
        if is_dead and (self.is_probed or self.last_failed_for == attendee):
            return Availability.CLOSED
        if is_of_another:
            return Availability.SPARE
        return _AVAILABILITY[failure]

    def is_busy(self) -> bool:
        """Whether it returned a 429, and the time to wait is not over."""
        return self.failure is FailureKind.BUSY and self._clock() < self.cool_until

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
            self.failure, self.failed_for, self.is_probed, self.cool_until = None, None, False, 0.0
            self._report("ok", 0.0)
        elif not self.status:
            self._report("ok", 0.0)

    def note_no_result(self) -> None:
        """The try shows nothing about the deployment, so another call may probe it."""
        self.is_probed = False

    def note_failure(
        self, kind: FailureKind, status: str, seconds: float | None, began_at: float, attendee: Credential
    ) -> None:
        """Cool down, for `seconds` if the upstream named them. Tries that overlap count as one failure."""
        self.is_probed = False
        self._count(kind, began_at, attendee)
        seconds = self._cool_down(kind) if seconds is None else min(seconds, LONGEST_COOL_DOWN_SECONDS)
        self.failed_at = self._clock()
        self._set_failure(kind, seconds, attendee)
        if self.api != self.deployment.apis[0]:
            status = f"{self.api}: {status}"
        self._log_failure(kind, status)
        self._report(status, self.cool_until - self.failed_at)

    def report_if_due(self, after_seconds: float) -> None:
        """Report its status, if it had calls and was not reported for `after_seconds`."""
        is_used = bool(self.status) and self.calls != self.reported_calls
        if is_used and self._clock() - self.reported_at >= after_seconds:
            self._report(self.status, max(0.0, self.cool_until - self._clock()))

    def _is_of_another(self, attendee: Credential) -> bool:
        """Whether one other attendee alone met the failure."""
        return self.failed_for is not None and self.failed_for != attendee

    def _count(self, kind: FailureKind, began_at: float, attendee: Credential) -> None:
        if kind is FailureKind.BUSY or kind is FailureKind.REFUSED:
            return
        if self.failures == 0 or (began_at >= self.failed_at and attendee != self.last_failed_for):
            self.failures += 1
        self.last_failed_for = attendee

    def _set_failure(self, kind: FailureKind, seconds: float, attendee: Credential) -> None:
        """A 429 stays during its cool-down. A single refusal replaces no failure that cools down for all."""
        until, is_cooling = self.failed_at + seconds, self.failed_at < self.cool_until
        counts = is_cooling and not self._is_of_another(attendee)
        is_same = is_cooling and kind is self.failure
        if counts and not is_same and (self.failure is FailureKind.BUSY or kind is FailureKind.REFUSED):
            return
        if not is_same:
            self.failed_for = attendee
        elif self.failed_for != attendee:
            self.failed_for = None
        self.failure = kind
        self.cool_until = max(self.cool_until, until) if is_same and counts else until

    def _log_failure(self, kind: FailureKind, status: str) -> None:
        name, model = self.deployment.id, self.deployment.model
        if kind is not FailureKind.REFUSED:
            seconds = self.cool_until - self.failed_at
            _log.warning("deployment %s of model %s: %s; not used for %.3g s", name, model, status, seconds)
            return
        counts_for_all = self.failure is kind and self.failed_for is None
        level = logging.ERROR if counts_for_all else logging.WARNING
        text = "deployment %s of model %s refuses the proxy (%s): check its key, role, name and quota"
        _log.log(level, text, name, model, status)

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


_AVAILABILITY = {
    FailureKind.BUSY: Availability.CLOSED,
    FailureKind.FAILED: Availability.FAILED,
    FailureKind.SILENT: Availability.FAILED,
    FailureKind.REFUSED: Availability.REFUSED,
}
"""During a cool-down, for an attendee who met the failure, or for all if several did."""
