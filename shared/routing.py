"""Which deployment serves a call: by priority, weight, user and load, and by how each has answered."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Final, Protocol

from .cache import Cache
from .errors import ProxyError, StoreUnavailable, UpstreamBusy, UpstreamError
from .models import AS_ASKED, Deployment, Trouble

_log = logging.getLogger(__name__)

_ALL: Final = "all"

COOL_DOWN_SECONDS: Final = 10.0
"""Where the upstream does not say; doubled with each further failure in a row that was not a 429."""

LONGEST_COOL_DOWN_SECONDS: Final = 60.0
REFUSED_SECONDS: Final = 60.0
"""After a refusal of our key, role or name: nothing but an administrator's hand will change that."""

PROBE_SECONDS: Final = 1.0
"""When to come back while a single call is finding out whether the last deployment is there again."""

DEAD_AFTER: Final = 3
"""So many times in a row without any answer, and a deployment is not even the last resort."""

BALANCE: Final = 1.25
"""How far above its share of the calls in flight a deployment may be for the sake of affinity. The rule is
"Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016), with their usual factor."""

QUIET: Final = 4
"""Below so many calls in flight affinity always wins: balance is of no use yet."""

USERS_KEPT: Final = 10_000

Notice = Callable[[Deployment, str, float], None]
"""Is told how a deployment was seen, in a word, and for how many seconds it is left alone."""


class DeploymentStore(Protocol):
    async def deployments(self) -> list[Deployment]:
        """Every deployment that there is, active or not.

        Raises:
            StoreUnavailable: when the table does not answer.
        """


class Candidate:
    """A deployment, and how it has answered this instance so far."""

    __slots__ = (
        "_clock",
        "_notice",
        "calls",
        "cool_until",
        "deployment",
        "failed_at",
        "failures",
        "in_flight",
        "noted_at",
        "noted_calls",
        "probing",
        "seen",
        "trouble",
        "ways",
    )

    def __init__(self, deployment: Deployment, clock: Callable[[], float], notice: Notice) -> None:
        self.deployment = deployment
        self.ways = AS_ASKED
        self.in_flight = 0
        self.calls = 0
        self.trouble: Trouble | None = None
        """The last one; None once a call has been answered since."""
        self.cool_until = 0.0
        self.failed_at = 0.0
        self.failures = 0
        self.probing = False
        self.seen = "ok"
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
        if self.trouble is not None and began_at >= self.failed_at:
            self.trouble, self.probing, self.cool_until = None, False, 0.0
            self._see("ok", 0.0)

    def left(self) -> None:
        """The caller left before there was an answer: another may find out."""
        self.probing = False

    def failed(self, trouble: Trouble, seen: str, seconds: float | None, began_at: float) -> None:
        """Let it cool, `seconds` where the upstream said so. What fails together counts as one failure."""
        now = self._clock()
        self.probing = False
        if trouble is not Trouble.BUSY and (self.failures == 0 or began_at >= self.failed_at):
            self.failures += 1
        seconds = self._cool_down(trouble) if seconds is None else min(seconds, LONGEST_COOL_DOWN_SECONDS)
        self.failed_at = now
        if self.trouble is not Trouble.BUSY or now >= self.cool_until:
            self.trouble = trouble  # else: it has asked to be left alone, and that stands
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
        if self.calls != self.noted_calls and self._clock() - self.noted_at >= after_seconds:
            self._see(self.seen, max(0.0, self.cool_until - self._clock()))


class Tier:
    """The deployments of one model with one priority: equals."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self._orders: dict[str, tuple[Candidate, ...]] = {}

    def choose(self, user: str, tried: Sequence[Candidate]) -> Candidate | None:
        """The one that this user's calls prefer, unless it is cooling or clearly busier than the others."""
        order = self._order(user)
        first = order[0]
        if first.trouble is None and first.in_flight < QUIET and first not in tried:
            return first
        ready = [one for one in order if one.is_ready() and one not in tried]
        if len(ready) < 2:
            return ready[0] if ready else None
        calls = 1 + sum(one.in_flight for one in ready)
        share = BALANCE * calls / sum(_weight(one) for one in ready)
        return next(one for one in ready if one.in_flight < max(QUIET, share * _weight(one)))

    def _order(self, user: str) -> tuple[Candidate, ...]:
        order = self._orders.get(user)
        if order is None:
            if len(self._orders) >= USERS_KEPT:
                self._orders.clear()
            order = tuple(sorted(self.candidates, key=lambda one: -_score(user, one)))
            self._orders[user] = order
        return order


class Routes:
    """The active deployments at one moment, by model."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._tiers: dict[str, list[Tier]] = {}
        self._only: dict[str, Candidate] = {}
        ordered = sorted(candidates, key=_rank)
        for (model, _), equals in groupby(ordered, key=lambda one: _rank(one)[:2]):
            self._tiers.setdefault(model, []).append(Tier(tuple(equals)))
        for model, tiers in self._tiers.items():
            if len(tiers) == len(tiers[0].candidates) == 1:
                self._only[model] = tiers[0].candidates[0]
        self.models = frozenset(self._tiers)

    def choose(self, model: str, user: str, tried: Sequence[Candidate] = ()) -> Candidate | None:
        """Where a call of `user` to `model`, one of `models`, goes next; None when nothing is left.

        Lowest priority number first; those that failed only where no other is left.
        """
        only = self._only.get(model)
        if only is not None and only.trouble is None and not tried:
            return only
        tiers = self._tiers[model]
        for tier in tiers:
            if (chosen := tier.choose(user, tried)) is not None:
                return chosen
        for candidate in self._all(model):
            if candidate not in tried and candidate.is_last_resort():
                return candidate
        return None

    def refusal(self, model: str, last: ProxyError | None) -> ProxyError:
        """What the attendee is told when nothing is left: `last` where a try of this very call ended so.

        All cooling: when the first of them is back. What only an administrator can mend is no reason to wait.
        """
        waiting = [one for one in self._all(model) if one.trouble is not Trouble.REFUSED]
        if last is not None and not any(one.trouble is Trouble.BUSY for one in waiting):
            return last
        if not waiting:
            return UpstreamError(
                "The model refused the proxy's own credentials or name. Tell your organiser."
            )
        seconds = min(one.seconds_left() for one in waiting)
        return UpstreamBusy("The model is busy for everybody. Try again shortly.", seconds)

    def _all(self, model: str) -> list[Candidate]:
        return [candidate for tier in self._tiers[model] for candidate in tier.candidates]


class Routing:
    """The deployments, kept in memory for some seconds: one small table, read as a whole.

    How each has answered is kept over that, for as long as its row names the same target.
    """

    def __init__(
        self,
        store: DeploymentStore,
        cache_seconds: float,
        clock: Callable[[], float],
        notice: Notice,
        notice_seconds: float = 60.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._notice = notice
        self._notice_seconds = notice_seconds
        self._loaded: list[Deployment] | None = None
        self._known: dict[tuple[str, str], Candidate] = {}
        self._last = Routes(())
        self._routes: Cache[str, Routes] = Cache(self._load, cache_seconds, clock)

    async def routes(self) -> Routes:
        """What is deployed now.

        Raises:
            StoreUnavailable: when the tables do not answer and nothing cached serves.
        """
        routes = await self._routes.get(_ALL)
        if routes is None:
            raise StoreUnavailable
        return routes

    async def _load(self, _: str) -> Routes:
        loaded = [one for one in await self._store.deployments() if one.active]
        if loaded != self._loaded:
            self._known = {(one.model, one.id): self._candidate(one) for one in loaded}
            self._last = Routes(self._known.values())
            self._loaded = loaded
        for candidate in self._known.values():
            candidate.note(self._notice_seconds)
        return self._last

    def _candidate(self, deployment: Deployment) -> Candidate:
        known = self._known.get((deployment.model, deployment.id))
        if known is None or _target(known.deployment) != _target(deployment):
            return Candidate(deployment, self._clock, self._notice)
        known.deployment = deployment
        return known


def _rank(candidate: Candidate) -> tuple[str, int, str]:
    deployment = candidate.deployment
    return deployment.model, deployment.priority, deployment.id


def _target(deployment: Deployment) -> tuple[str, str, str, str]:
    return deployment.endpoint, deployment.deployment_name, deployment.api_version, deployment.auth


def _weight(candidate: Candidate) -> int:
    return max(1, candidate.deployment.weight)


def _score(user: str, candidate: Candidate) -> float:
    """Weighted rendezvous hashing: the same on every instance, and a change of one moves only its share."""
    deployment = candidate.deployment
    name = f"{user}\n{deployment.model}\n{deployment.id}".encode()
    drawn = (int.from_bytes(blake2b(name, digest_size=8).digest()) + 1) / (2**64 + 2)
    return -_weight(candidate) / math.log(drawn)
