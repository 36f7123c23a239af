"""Which deployment serves a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from .cache import Cache
from .errors import StoreUnavailable
from .models import Deployment

_ALL: Final = "all"


class DeploymentStore(Protocol):
    async def deployments(self) -> list[Deployment]:
        """Every deployment that there is, active or not.

        Raises:
            StoreUnavailable: when the table does not answer.
        """


class Routes:
    """The active deployments at one moment, by model."""

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self._by_model: dict[str, list[Deployment]] = {}
        for deployment in sorted(deployments, key=lambda one: (one.priority, one.id)):
            if deployment.active:
                self._by_model.setdefault(deployment.model, []).append(deployment)
        self.models = frozenset(self._by_model)

    def choose(self, model: str) -> Deployment:
        """The deployment for a call to `model`, one of `models`: the lowest priority number."""
        return self._by_model[model][0]


class Routing:
    """The deployments, kept in memory for some seconds: one small table, read as a whole."""

    def __init__(self, store: DeploymentStore, cache_seconds: float, clock: Callable[[], float]) -> None:
        async def load(_: str) -> Routes:
            return Routes(await store.deployments())

        self._routes: Cache[str, Routes] = Cache(load, cache_seconds, clock)

    async def routes(self) -> Routes:
        """What is deployed now.

        Raises:
            StoreUnavailable: when the tables do not answer and nothing cached serves.
        """
        routes = self._routes.fresh(_ALL) or await self._routes.get(_ALL)
        if routes is None:
            raise StoreUnavailable
        return routes
