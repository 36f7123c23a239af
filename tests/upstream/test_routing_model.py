"""Random calls of several attendees, of whom one causes failures, and deployments that break and recover."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from shared.core.models import Credential, Deployment, FailureKind
from shared.upstream.candidate import COOL_DOWN_SECONDS, LONGEST_COOL_DOWN_SECONDS, Candidate
from shared.upstream.routing import Routes

pytestmark = pytest.mark.one_python

START = 1000.0
STEPS = 1500
LONGEST_TRY_SECONDS = 8.0
EVE = "eve"
HARMLESS_TOGETHER = {FailureKind.FAILED, FailureKind.REFUSED}
"""The failures that close no deployment, even if Eve uses several names."""
KINDS = list(FailureKind)
KNOWN_AFTER_SECONDS = LONGEST_COOL_DOWN_SECONDS + 2 * LONGEST_TRY_SECONDS
"""A deployment that has recovered may get no calls for so long: the longest cool-down, and a probe."""


@dataclass
class Try:
    """One try of a call: what it will meet was decided when it began."""

    user: str
    tried: tuple[Candidate, ...]
    began_at: float
    ends_at: float
    failure: FailureKind | None


class World:
    """Deployments of one model, their true states, and the calls in flight."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = START
        self.users = [f"user-{number}" for number in range(self.random.randint(1, 6))]
        self.candidates = [self._candidate(number) for number in range(self.random.randint(1, 4))]
        self.routes = Routes(self.candidates)
        self.broken: dict[Candidate, FailureKind] = {}
        self.healthy_since = dict.fromkeys(self.candidates, 0.0)
        self.poison = self.random.choice([None, *KINDS])
        """The kind of failure that Eve's calls cause. None: any."""
        self.names_of_eve = 3 if self.poison in HARMLESS_TOGETHER else 1
        self.in_flight: list[Try] = []
        self.failed: list[float] = []
        """When calls of others failed although a deployment was known to work."""
        self.failed_tries: Counter[Candidate] = Counter()
        """The tries of others that failed, at broken deployments."""

    def _candidate(self, number: int) -> Candidate:
        row = Deployment(
            "m",
            f"d{number}",
            "https://d.example",
            "d",
            priority=self.random.randint(1, 2),
            weight=self.random.randint(0, 3),
        )
        return Candidate(row, lambda: self.now, lambda *_: None)

    def run(self) -> None:
        for _ in range(STEPS):
            self.now += self.random.expovariate(2)
            for one in [one for one in self.in_flight if one.ends_at <= self.now]:
                self.in_flight.remove(one)
                self._end(one)
            if self.random.random() < 0.02:
                self._break_or_mend()
            busy = {one.user for one in self.in_flight}
            free = [user for user in self.users if user not in busy]
            if not free or self.random.random() < 0.5:
                self._begin(f"{EVE}-{self.random.randrange(self.names_of_eve)}", ())
            else:
                self._begin(self.random.choice(free), ())

    def _break_or_mend(self) -> None:
        candidate = self.random.choice(self.candidates)
        if self.broken.pop(candidate, None) is not None:
            self.healthy_since[candidate] = self.now
        elif len(self.broken) < len(self.candidates) - 1:
            self.broken[candidate] = self.random.choice(KINDS)

    def _begin(self, user: str, tried: tuple[Candidate, ...]) -> None:
        chosen = self.routes.choose("m", Credential("event", user), tried)
        if chosen is None:
            if not user.startswith(EVE) and self._is_one_known_to_work():
                self.failed.append(self.now)
            return
        chosen.begin()
        failure = self.broken.get(chosen)
        if user.startswith(EVE) and self.random.random() < 0.9:
            failure = self.poison or self.random.choice(KINDS)
        ends_at = self.now + self.random.choice([0.0, self.random.uniform(0, LONGEST_TRY_SECONDS)])
        self.in_flight.append(Try(user, (*tried, chosen), self.now, ends_at, failure))

    def _end(self, one: Try) -> None:
        candidate = one.tried[-1]
        candidate.end()
        if one.failure is None:
            candidate.note_response(one.began_at)
            return
        seconds = self.random.choice([None, None, 1.0, 60.0])
        attendee = Credential("event", one.user)
        candidate.note_failure(one.failure, one.failure.value, seconds, one.began_at, attendee)
        if not one.user.startswith(EVE):
            self.failed_tries[candidate] += 1
        self._begin(one.user, one.tried)

    def _is_one_known_to_work(self) -> bool:
        return any(
            self.now - self.healthy_since[candidate] > KNOWN_AFTER_SECONDS
            for candidate in self.candidates
            if candidate not in self.broken
        )


@pytest.mark.parametrize("seed", range(60))
def test_others_are_served_while_a_deployment_works(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    world = World(seed)
    world.run()
    assert world.failed == []
    cool_downs = (world.now - START) / COOL_DOWN_SECONDS
    most = (1 + len(world.users)) * cool_downs
    assert all(world.failed_tries[candidate] <= most for candidate in world.candidates)
