"""Which behaviour the next call to a deployment gets."""

from collections import deque

from . import catalogue
from .behaviours import Answer, Behaviour
from .deployments import Deployment


class Orders:
    def __init__(self) -> None:
        self._next: dict[str, deque[Behaviour]] = {}
        self._always: dict[str, Behaviour] = {}

    def queue(self, deployment: str, behaviours: tuple[Behaviour, ...]) -> None:
        self._next.setdefault(deployment, deque()).extend(behaviours)

    def always(self, deployment: str, behaviour: Behaviour) -> None:
        self._always[deployment] = behaviour

    def clear(self, deployment: str | None) -> None:
        for orders in (self._next, self._always):
            if deployment is None:
                orders.clear()
            else:
                orders.pop(deployment, None)

    def take(self, name: str, deployment: Deployment, prompt: str) -> Behaviour:
        """What was queued, else set for always, else what the message, the name or the deployment says."""
        if waiting := self._next.get(name):
            return waiting.popleft()
        return (
            self._always.get(name)
            or catalogue.by_message(prompt)
            or catalogue.by_deployment(name)
            or deployment.behaviour
            or Answer()
        )
