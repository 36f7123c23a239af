"""Chooses the deployment for a call, by priority, weight, user and load, and by how each has responded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Protocol

from ..core.cache import Cache
from ..core.errors import ProxyError, StoreUnavailable, UpstreamBusy, UpstreamError
from ..core.models import Deployment, FailureKind
from .candidate import Candidate, HealthReport
from .failures import BUSY, REFUSED

_ALL = "all"

BALANCE = 1.25
"""A deployment keeps its users until it has this many times its share of the calls in flight. The rule is
"Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016), with their usual factor."""

QUIET = 4
"""With fewer calls in flight, a deployment always keeps its users: balance does not matter yet."""

USERS_KEPT = 10_000

REPORT_SECONDS = 60.0
"""The health of a deployment that is used is reported at least this often."""


class DeploymentStore(Protocol):
    async def deployments(self) -> list[Deployment]:
        """Every deployment, active or not.

        Raises:
            StoreUnavailable: the table does not respond.
        """


class Tier:
    """The deployments of one model with the same priority."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self._orders: dict[str, tuple[Candidate, ...]] = {}

    def choose(self, user: str, tried: Sequence[Candidate]) -> Candidate | None:
        """The first deployment in the user's order that is ready and not too busy."""
        order = self._order(user)
        first = order[0]
        if first.failure is None and first.in_flight < QUIET and first not in tried:
            return first
        ready = [candidate for candidate in order if candidate.is_ready() and candidate not in tried]
        if len(ready) < 2:
            return ready[0] if ready else None
        calls = 1 + sum(candidate.in_flight for candidate in ready)
        share = BALANCE * calls / sum(_weight(candidate) for candidate in ready)
        return next(
            candidate for candidate in ready if candidate.in_flight < max(QUIET, share * _weight(candidate))
        )

    def _order(self, user: str) -> tuple[Candidate, ...]:
        order = self._orders.get(user)
        if order is None:
            if len(self._orders) >= USERS_KEPT:
                self._orders.clear()
            order = tuple(sorted(self.candidates, key=lambda candidate: -_score(user, candidate)))
            self._orders[user] = order
        return order


class Routes:
    """The active deployments at one moment, by model."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._tiers: dict[str, list[Tier]] = {}
        self._only: dict[str, Candidate] = {}
        ordered = sorted(candidates, key=_rank)
        for (model, _), equal in groupby(ordered, key=lambda candidate: _rank(candidate)[:2]):
            self._tiers.setdefault(model, []).append(Tier(tuple(equal)))
        for model, tiers in self._tiers.items():
            if len(tiers) == len(tiers[0].candidates) == 1:
                self._only[model] = tiers[0].candidates[0]
        self.models = frozenset(self._tiers)

    def choose(self, model: str, user: str, tried: Sequence[Candidate] = ()) -> Candidate | None:
        """The next deployment for a call of `user`; None if none is left. `model` is one of `models`.

        The lowest priority number comes first. Deployments that failed come last.
        """
        only = self._only.get(model)
        if only is not None and only.failure is None and not tried:
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
        """The error for the attendee when no deployment is left. `last` is the error of the call's last try.

        If deployments are busy, the error says when to retry. Those that refuse the proxy do not count: a
        retry would not help.
        """
        waiting = [
            candidate for candidate in self._all(model) if candidate.failure is not FailureKind.REFUSED
        ]
        if last is not None and not any(candidate.is_busy() for candidate in waiting):
            return last
        if not waiting:
            return UpstreamError(REFUSED)
        seconds = min(candidate.seconds_left() for candidate in waiting)
        return UpstreamBusy(BUSY, seconds)

    def tiers(self, model: str) -> Sequence[Tier]:
        """The deployments of `model`, which is one of `models`, by priority."""
        return self._tiers[model]

    def _all(self, model: str) -> list[Candidate]:
        return [candidate for tier in self._tiers[model] for candidate in tier.candidates]


class Routing:
    """The deployments. The table is small: it is read as a whole, and kept in memory for some seconds.

    How a deployment responded is kept for as long as its row has the same target.
    """

    def __init__(
        self,
        store: DeploymentStore,
        cache_seconds: float,
        clock: Callable[[], float],
        report_health: HealthReport,
    ) -> None:
        self._store = store
        self._clock = clock
        self._report_health = report_health
        self._loaded: list[Deployment] | None = None
        self._known: dict[tuple[str, str], Candidate] = {}
        self._last = Routes(())
        self._routes: Cache[str, Routes] = Cache(self._load, cache_seconds, clock)

    async def routes(self) -> Routes:
        """The deployments that are active now.

        Raises:
            StoreUnavailable: the tables do not respond and nothing is cached.
        """
        routes = self._routes.fresh(_ALL) or await self._routes.get(_ALL)
        if routes is None:
            raise StoreUnavailable
        return routes

    async def _load(self, _: str) -> Routes:
        loaded = [deployment for deployment in await self._store.deployments() if deployment.active]
        if loaded != self._loaded:
            self._known = {
                (deployment.model, deployment.id): self._candidate(deployment) for deployment in loaded
            }
            self._last = Routes(self._known.values())
            self._loaded = loaded
        for candidate in self._known.values():
            candidate.report_if_due(REPORT_SECONDS)
        return self._last

    def _candidate(self, deployment: Deployment) -> Candidate:
        known = self._known.get((deployment.model, deployment.id))
        if known is None or known.deployment.target != deployment.target:
            return Candidate(deployment, self._clock, self._report_health)
        known.deployment = deployment
        return known


def _rank(candidate: Candidate) -> tuple[str, int, str]:
    deployment = candidate.deployment
    return deployment.model, deployment.priority, deployment.id


def _weight(candidate: Candidate) -> int:
    return max(1, candidate.deployment.weight)


def _score(user: str, candidate: Candidate) -> float:
    """Weighted rendezvous hashing: equal on every instance. A changed deployment moves only its own users."""
    deployment = candidate.deployment
    name = f"{user}\n{deployment.model}\n{deployment.id}".encode()
    drawn = (int.from_bytes(blake2b(name, digest_size=8).digest()) + 1) / (2**64 + 2)
    return -_weight(candidate) / math.log(drawn)
