"""What each account was served, charged and counted, and what kills and outages may have lost of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from shared.core.models import Deployment, Usage
from shared.core.money import Prices, prices_of
from shared.quota.amounts import NOTHING, UNLIMITED, Amount
from shared.quota.standing import TOTAL_ROW
from shared.tables.quota_rows import ledger_from_row
from shared.tables.service import QUOTAS
from tools.attack.stage import Stage
from tools.simulator import CutStream
from tools.simulator.journal import NOTHING as NO_WORK
from tools.simulator.journal import Call

_UNITS: dict[str, Callable[[Amount], int]] = {
    "requests": lambda amount: amount.requests,
    "tokens": lambda amount: amount.tokens,
    "cost": lambda amount: amount.cost,
}


@dataclass(slots=True)
class Account:
    """A user's day, or the total of an event. `granted` is what its row says is gone: used or lost."""

    code: str
    user: str  # TOTAL_ROW: all users
    limit: Amount
    served: Amount = NOTHING
    """What the simulator billed."""
    may_be_lost: Amount = NOTHING
    """By the kills and outages so far (docs/quota.md)."""
    may_be_over: Amount = NOTHING
    """A call that was cut or left is charged a bound (docs/metering.md)."""
    granted: Amount = NOTHING
    used: Amount = NOTHING
    counted: Amount = NOTHING
    """In the table `usage`."""
    days: int = 1

    def lose(self, most: Amount) -> None:
        self.may_be_lost = self.may_be_lost.plus(most)

    def has_plenty(self, unit: str) -> bool:
        """Whether more than a tenth of the limit is left, whatever the faults so far have lost."""
        of = _UNITS[unit]
        return of(self.served) + of(self.may_be_lost) < 0.9 * of(self.limit)

    def failures(self, unit: str) -> Iterator[str]:
        of = _UNITS[unit]
        limit, served, lost = of(self.limit) * self.days, of(self.served), of(self.may_be_lost)
        granted, used, counted = of(self.granted), of(self.used), of(self.counted)
        most = served + of(self.may_be_over)
        facts = {
            f"served {served:,}, which is above the limit of {limit:,}": served > limit,
            f"charged {granted:,}, which is above the limit of {limit:,}": granted > limit,
            f"served {served:,}, but charged only {granted:,}": served > granted,
            f"used {used:,}, but charged only {granted:,}": used > granted,
            f"counted {counted:,}, but served only {served:,}, with bounds {most:,}": counted > most,
            f"counted {counted:,}, but charged only {granted:,}": counted > granted,
            f"served {served:,}, but counted {counted:,}; {lost:,} may be lost": served > counted + lost,
            f"charged {granted:,}, but counted {counted:,}; {lost:,} may be lost": granted > counted + lost,
        }
        return (f"{self.code}/{self.user}, {unit}: {fact}" for fact, failed in facts.items() if failed)


@dataclass(slots=True)
class Accounts:
    deployments: Iterable[Deployment]
    _all: dict[str, dict[str, Account]] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    """Calls that the simulator refused."""

    def add(self, code: str, users: Iterable[str], limit: Amount) -> None:
        self._all[code] = {user: Account(code, user, limit) for user in users}

    def __iter__(self) -> Iterator[Account]:
        return (account for event in self._all.values() for account in event.values())

    def of(self, credential: str) -> Account:
        code, _, user = credential.partition("/")
        event = self._all[code]
        return event[user] if user in event else event[TOTAL_ROW]

    def add_served(self, calls: Iterable[Call]) -> None:
        """A whole response that was cut is not charged (docs/metering.md), so it is no service."""
        prices = {one.deployment_name: prices_of(one) or Prices() for one in self.deployments}
        for call in calls:
            if call.behaviour is None and call.body:
                self.strange.append(f"the simulator refused a call with {call.status}: {call.body[:200]!r}")
            is_cut = isinstance(call.behaviour, CutStream) and not call.json.get("stream")
            if call.billed != NO_WORK and not is_cut:
                account, work = self.of(call.json["user"]), call.billed
                usage = Usage(work.prompt_tokens, work.completion_tokens, work.cached_tokens)
                cost = prices[str(call.deployment)].cost(usage)
                account.served = account.served.plus(Amount(1, work.total, cost))

    async def read(self, stage: Stage) -> object:
        """Read the rows. Returns what changes when a row does."""
        for account in self:
            account.granted = account.used = account.counted = NOTHING
            account.days = 0
        for code in self._all:
            found = stage.service.get_table_client(QUOTAS).query_entities(f"PartitionKey eq '{code}'")
            async for entity in found:
                row, user = ledger_from_row(entity), entity["RowKey"].rpartition(":")[0]
                account = self.of(f"{code}/{user}")
                account.granted, account.used = account.granted.plus(row.granted), account.used.plus(row.used)
                account.days += 1
            for usage in (await stage.tables.read_usage(code))[0]:
                account, counts = self.of(f"{code}/{usage.user}"), usage.counts
                tokens = counts.prompt_tokens + counts.completion_tokens
                account.counted = account.counted.plus(Amount(counts.requests, tokens, counts.cost))
        return [(account.granted, account.used, account.counted) for account in self]

    def failures(self) -> list[str]:
        return self.strange + [
            failure
            for account in self
            for unit, of in _UNITS.items()
            if of(account.limit) < UNLIMITED
            for failure in account.failures(unit)
        ]

    def lines(self) -> Iterator[str]:
        """The sums of the accounts, for each unit that is limited."""
        yield _FORMAT.format("limit of", "each", "accounts", "fullest", *_SUMS)
        for event in self._all.values():
            limit = next(iter(event.values())).limit
            for unit, of in _UNITS.items():
                if (most := of(limit)) < UNLIMITED:
                    fullest = max(of(one.served) for one in event.values()) / most
                    sums = [sum(of(getattr(one, name)) for one in event.values()) for name in _SUMS.values()]
                    figures = (f"{one:,}" for one in (most, len(event)))
                    yield _FORMAT.format(unit, *figures, f"{fullest:.3f}", *(f"{one:,}" for one in sums))


_FORMAT = "{:9} {:>10} {:>9} {:>8} {:>11} {:>11} {:>11} {:>12}"
_SUMS = {"served": "served", "charged": "granted", "counted": "counted", "may be lost": "may_be_lost"}
