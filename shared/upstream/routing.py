"""Chooses the deployment for a call, by priority, weight, user and load, and by how each has responded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import groupby
from typing import Protocol

from ..apis.response_ids import place_of
from ..core.cache import Cache
from ..core.errors import ProxyError, StoreUnavailable, UpstreamBusy, UpstreamError
from ..core.models import APIS, Credential, Deployment, FailureKind, Served
from ..core.money import highest_prices
from .candidate import Availability, Candidate, HealthReport
from .failures import BUSY, REFUSED

_ALL = "all"

BALANCE = 1.25
"""A deployment keeps its users until it has this many times its share of the calls in flight. The rule is
"Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016), with their usual factor."""

QUIET = 4
"""With fewer calls in flight, a deployment always keeps its users: balance does not matter yet."""

USERS_KEPT = 10_000

_USED = [one for one in Availability if one is not Availability.CLOSED]

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

    def choose(
        self,
        attendee: Credential,
        tried: Sequence[Candidate],
        availability: Availability = Availability.READY,
    ) -> Candidate | None:
        """The first deployment in the user's order that has this availability and is not too busy."""
        order = self._order(attendee.user)
        first = order[0]
        if first.failure is None and first.in_flight < QUIET and first not in tried:
            return first
        ready = [one for one in order if one not in tried and one.availability(attendee) is availability]
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
    """The active deployments of one API at one moment, by model."""

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
        self.prices = {model: highest_prices(one.prices for one in self._all(model)) for model in self._tiers}
        """The highest prices of the deployments of each model. None if a price is missing."""

    def choose(
        self,
        model: str,
        attendee: Credential,
        tried: Sequence[Candidate] = (),
        place: bytes | None = None,
    ) -> Candidate | None:
        """The next deployment for a call; None if none is left. `model` is one of `models`.

        The lowest priority number comes first. Deployments that failed come last, those that refuse the proxy
        after the others. With `place`, only a deployment there can serve the call.
        """
        if place is not None:
            left = [one for one in self._all(model) if one not in tried]
            there = (one for one in left if place_of(one.deployment) == place)
            return next((one for one in there if one.availability(attendee) is not Availability.CLOSED), None)
        only = self._only.get(model)
        if only is not None and only.failure is None and not tried:
            return only
        tiers = self._tiers[model]
        for availability in _USED:
            for tier in tiers:
                if (chosen := tier.choose(attendee, tried, availability)) is not None:
                    return chosen
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

    def places(self, model: str) -> frozenset[bytes]:
        """The places of all deployments of `model`: see `place_of`."""
        return frozenset(place_of(one.deployment) for one in self._all(model))

    def at(self, place: bytes) -> Deployment | None:
        """The deployment at a place, of any model."""
        every = (one.deployment for model in self._tiers for one in self._all(model))
        return next((deployment for deployment in every if place_of(deployment) == place), None)

    def tiers(self, model: str) -> Sequence[Tier]:
        """The deployments of `model`, which is one of `models`, by priority."""
        return self._tiers[model]

    def _all(self, model: str) -> list[Candidate]:
        return [candidate for tier in self._tiers[model] for candidate in tier.candidates]


class AllRoutes:
    """The active deployments of all APIs at one moment."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        found = list(candidates)
        self._of = {api: Routes(one for one in found if one.api == api) for api in APIS}
        models = {one.deployment.model for one in found}
        self.served: Served = {
            model: tuple(api for api in APIS if model in self._of[api].models) for model in models
        }
        """The models, with the APIs that at least one of their deployments serves."""

    def of(self, api: str) -> Routes:
        """The deployments that serve `api`, which is one of `APIS`."""
        return self._of[api]


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
        self._known: dict[tuple[str, str, str], Candidate] = {}
        self._last = AllRoutes(())
        self._routes: Cache[str, AllRoutes] = Cache(self._load, cache_seconds, clock)

    def preload(self) -> None:
        """Start to read the table, if it has not been read."""
        self._routes.preload(_ALL)

    async def routes(self) -> AllRoutes:
        """The deployments that are active now.

        Raises:
            StoreUnavailable: the tables do not respond and nothing is cached.
        """
        routes = self._routes.fresh(_ALL) or await self._routes.get(_ALL)
        if routes is None:
            raise StoreUnavailable
        return routes

    async def _load(self, _: str) -> AllRoutes:
        loaded = [deployment for deployment in await self._store.deployments() if deployment.active]
        if loaded != self._loaded:
            self._known = {
                (deployment.model, deployment.id, api): self._candidate(deployment, api)
                for deployment in loaded
                for api in deployment.apis
            }
            self._last = AllRoutes(self._known.values())
            self._loaded = loaded
        for candidate in self._known.values():
            candidate.report_if_due(REPORT_SECONDS)
        return self._last

    def _candidate(self, deployment: Deployment, api: str) -> Candidate:
        known = self._known.get((deployment.model, deployment.id, api))
        if known is None or known.deployment.target != deployment.target:
            return Candidate(deployment, self._clock, self._report_health, api)
        known.update(deployment)
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
