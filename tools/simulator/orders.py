"""Which behaviour the next request to a deployment gets."""

import re
from collections import Counter, defaultdict, deque

from . import behaviours
from .behaviours import Answer, Behaviour, EveryOther, Failure

NAMED: dict[str, Behaviour] = {
    "429": behaviours.RateLimited(retry_after_ms=2000, retry_after=2),
    "content-filter": behaviours.FilteredPrompt(),
    "context-length": behaviours.TooLong(),
    "slow": behaviours.Slow(headers_seconds=2, between_seconds=0.5),
    "reset": behaviours.ResetBeforeHeaders(),
    "cut": behaviours.CutStream(after=8),
    "stream-error": behaviours.StreamError(after=8),
    "failed": behaviours.StreamError(after=8, failed=True),
    "garbage": behaviours.Garbage(),
}
HELP = f"A message with sim:NAME chooses a behaviour. NAME is {', '.join(NAMED)} or a status from 400 to 599."

_NAME = re.compile(r"\bsim:([a-z0-9-]+)", re.IGNORECASE)
_STATUS = re.compile(r"[45]\d\d", re.ASCII)


class Orders:
    def __init__(self) -> None:
        self._next: defaultdict[str, deque[Behaviour]] = defaultdict(deque)
        self._always: dict[str, Behaviour] = {}
        self._taken: Counter[str] = Counter()

    def queue(self, deployment: str, behaviours: tuple[Behaviour, ...]) -> None:
        self._next[deployment].extend(behaviours)

    def always(self, deployment: str, behaviour: Behaviour) -> None:
        self._always[deployment] = behaviour

    def clear(self) -> None:
        for orders in (self._next, self._always, self._taken):
            orders.clear()

    def take(self, deployment: str, prompt: str) -> Behaviour:
        """The next in the queue, or else the permanent one, or else the one that the prompt names."""
        self._taken[deployment] += 1
        if queued := self._next[deployment]:
            return queued.popleft()
        behaviour = self._always.get(deployment) or _named(prompt)
        if isinstance(behaviour, EveryOther) and self._taken[deployment] % 2:
            return Answer()
        return behaviour


def _named(prompt: str) -> Behaviour:
    found = _NAME.search(prompt)
    if found is None:
        return Answer()
    name = found[1].lower()
    if name in NAMED:
        return NAMED[name]
    return Failure(int(name)) if _STATUS.fullmatch(name) else Answer(text=HELP)
