"""The numbers of one account, as this instance knows them: arithmetic only, with no clock, table or await.

`exchange.py` keeps them in step with the account's row in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from .amounts import NO_LIMIT, NOTHING, UNLIMITED, Amount
from .ledger_row import NO_ROW, Change, Key, LedgerRow, Purpose
from .pace import SHARE, Pace

REMEMBERED_SECONDS = 1.0
"""How long a row counts as fresh. So a refused client in a loop costs at most one table call in this time."""


@dataclass(slots=True, eq=False)
class Account:
    """What one instance has in hand of one account.

    At all times, the row's `granted` covers the row's `used` and the amounts that all instances have in hand.
    """

    key: Key
    pace: Pace
    used_at: float
    limit: Amount = NO_LIMIT
    row: LedgerRow = NO_ROW
    """As last seen. At first it is assumed to be missing, so a first call needs an insert but no read."""
    gone: Amount = NOTHING
    """What the row no longer has: what it granted, or what was used if that is more."""
    seen_at: float = -inf
    changed_at: float = -inf
    """When this instance last saw that another one had written the row."""
    refused_at: float = -inf
    """When this instance last refused a call for want of what it and the row have."""
    is_stale: bool = False
    """Whether another instance has written since the row was seen."""
    in_hand: Amount = NOTHING
    """Granted to this instance: spare, held by calls, or spent. Only a read or write changes it."""
    spare: Amount = NOTHING
    """The free part. A negative amount is owed: a call cost more than its hold, or began when there was no
    limit."""
    spent: Amount = NOTHING
    """Used, but not yet reported to the row."""
    latest: Amount = NOTHING
    """What the latest call wanted to hold."""
    wanted: Amount = NOTHING
    """The sum for all calls that wait for a grant."""
    least: Amount = NOTHING
    """With less than this, none of them can be served."""
    granted_under: Amount = NO_LIMIT
    """The limit under which the spare amount was granted."""
    doubt: Change | None = None
    """A write that is under way, or whose outcome is unknown."""

    def take(self, wanted: Amount, now: float) -> bool:
        """Hold `wanted` if the spare amount covers it.

        Not after the limit was lowered: the spare amount must go back first.
        """
        self.used_at, self.latest = now, wanted
        limit, spare = self.limit, self.spare
        if not spare.suffices(wanted, limit):
            return False
        if limit is not self.granted_under and not limit.covers(self.granted_under):
            return False
        self.spare = spare.minus(wanted)
        return True

    def wait(self, wanted: Amount, least: Amount) -> None:
        """A call that wants `wanted`, or else at least `least`, waits for a grant."""
        self.least = least if self.wanted == NOTHING else self.least.at_most(least)
        self.wanted = self.wanted.plus(wanted)

    def stop_waiting(self, wanted: Amount) -> None:
        self.wanted = self.wanted.minus(wanted)

    def take_rest(self, wanted: Amount, least: Amount, now: float) -> Amount | None:
        """Hold what is spare of `wanted`, if it covers `least`. Units without a limit are never scarce."""
        rest = self.spare.at_least(least).at_most(wanted).in_limited_units(self.limit, wanted)
        return rest if self.take(rest, now) else None

    def settle(self, held: Amount, used: Amount, now: float) -> None:
        """Replace what a call holds by what it used. A call that used more than it held leaves a debt."""
        self.spare = self.spare.changed_by(held, used)
        self.spent = self.spent.plus(used)
        self.used_at = now

    def reduce(self, held: Amount, most: Amount) -> Amount:
        """Hold less for a running call: it can use at most `most`. Returns what it then holds."""
        less = held.at_most(most)
        self.spare = self.spare.changed_by(held, less)
        return less

    @property
    def held(self) -> Amount:
        """What the running calls hold."""
        return self.in_hand.minus(self.spare).minus(self.spent)

    @property
    def is_seen(self) -> bool:
        """Whether the row was seen. Until then, `row` is a guess."""
        return self.seen_at != -inf

    def is_fresh(self, now: float) -> bool:
        return now - self.seen_at < REMEMBERED_SECONDS

    def changed_within(self, seconds: float, now: float) -> bool:
        """Whether another instance has written the row lately, as far as this one has seen."""
        return now - self.changed_at < seconds

    def is_out_of(self, wanted: Amount, least: Amount, now: float) -> bool:
        """Whether a write cannot help.

        The row, which was seen a moment ago, has too little for `least`, or none of the missing units.
        """
        if self.doubt is not None or not (self.limit.covers(self.granted_under) and self.is_fresh(now)):
            return False
        free = self.limit.minus(self.gone).at_least(NOTHING)
        if not free.suffices(least.minus(self.spare), self.limit):
            return True
        missing = wanted.minus(self.spare).in_limited_units(self.limit, NOTHING)
        return (
            (missing.requests <= 0 or free.requests <= 0)
            and (missing.tokens <= 0 or free.tokens <= 0)
            and (missing.cost <= 0 or free.cost <= 0)
        )

    def is_too_empty_for(self, least: Amount, now: float) -> bool:
        """Whether neither this instance nor the row, which was seen a moment ago, has `least`."""
        return not self.spare.suffices(least, self.limit) and self.is_out_of(least, least, now)

    def has_plenty_for(self, wanted: Amount, held: Amount = NOTHING) -> bool:
        """Whether the row, as last seen, has so much that it does not matter how much a call holds.

        `held` is held by the same user's other calls.
        """
        limit, gone = self.limit, self.gone
        return (
            limit.requests - gone.requests >= SHARE * (wanted.requests + held.requests)
            and limit.tokens - gone.tokens >= SHARE * (wanted.tokens + held.tokens)
            and limit.cost - gone.cost >= SHARE * (wanted.cost + held.cost)
        )

    @property
    def remaining(self) -> Amount:
        """What new calls can still use: what is left in the row, as last seen, and what is spare here.

        Nothing until the row was seen, so that no figure promises too much.
        """
        return Amount(self.requests_left, self.tokens_left, self.cost_left)

    @property
    def requests_left(self) -> int:
        return self._left(self.limit.requests, self.gone.requests, self.spare.requests)

    @property
    def tokens_left(self) -> int:
        return self._left(self.limit.tokens, self.gone.tokens, self.spare.tokens)

    @property
    def cost_left(self) -> int:
        limit = self.limit.cost
        return limit if limit == UNLIMITED else self._left(limit, self.gone.cost, self.spare.cost)

    def _left(self, limit: int, gone: int, spare: int) -> int:
        if self.seen_at == -inf:
            return 0
        left = spare + limit - gone if limit > gone else spare
        return 0 if left < 0 else left if left < limit else limit

    @property
    def used(self) -> Amount:
        """What calls have used, as far as this instance knows. Running calls count with their holds."""
        return self.charged.plus(self.held)

    @property
    def charged(self) -> Amount:
        """What ended calls have used, as far as this instance knows."""
        in_doubt = self.doubt.spent if self.doubt else NOTHING
        return self.row.used.plus(in_doubt).plus(self.spent)

    @property
    def owes(self) -> bool:
        return not self.spare.suffices(NOTHING, self.limit)

    @property
    def needs_write(self) -> bool:
        """Whether there is something to return or report, or a write whose outcome is unknown."""
        return not (self.spare == self.spent == NOTHING and self.doubt is None)

    @property
    def is_urgent(self) -> bool:
        """Whether the next write should come soon, because other instances need it.

        It should if more is spare here than a block's share of what remains (after a call that held much and
        used little), if something is owed, or if the outcome of a write is unknown.
        """
        is_large = not self.remaining.suffices(self.spare.times(SHARE), self.limit)
        return is_large or self.owes or self.doubt is not None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in hand, held or wanted."""
        return self.held == self.wanted == NOTHING and not self.needs_write

    def has_surplus(self, now: float) -> bool:
        """Whether far more is spare than the next calls need, as after a burst."""
        needed = self.pace.block(self.spent, self.limit, self.limit, now).plus(self.latest)
        return not needed.times(4).suffices(self.spare, self.limit)

    def plan(self, purpose: Purpose, writer: str, now: float) -> Change:
        """The next write to the row. `writer` is a name that no other write has."""
        used = self.row.used.plus(self.spent)
        if purpose is Purpose.TAKE and not self._can_serve_one(used):
            # What is spare here helps no call here, but may help another instance.
            purpose = Purpose.GIVE_BACK
        keeps = purpose is not Purpose.GIVE_BACK and self.limit.covers(self.granted_under)
        returned = self.spare.at_most(NOTHING) if keeps else self.spare
        # Units without a limit need no grant: their row has what was used, and not what is held.
        returned = returned.in_limited_units(self.limit, self.in_hand.minus(self.spent))
        # Never below what was used, even if the row was edited by hand.
        granted = self.row.granted.minus(returned).at_least(used)
        free = self.limit.minus(granted).at_least(NOTHING).in_limited_units(self.limit, NOTHING)
        kept = self.spare.minus(returned)
        taken = self._next_block(free, kept, now) if purpose is Purpose.TAKE else NOTHING
        row = LedgerRow(granted.plus(taken), used, writer, self.row.version)
        return Change(row, returned, taken, self.spent, self.limit)

    def _can_serve_one(self, used: Amount) -> bool:
        """Whether what is spare and what the row has left cover the least that a waiting call needs."""
        granted = self.row.granted.minus(self.spare).at_least(used)
        return self.limit.minus(granted).at_least(NOTHING).suffices(self.least, self.limit)

    def _next_block(self, free: Amount, kept: Amount, now: float) -> Amount:
        """Enough for the waiting calls, and for later calls at the pace of the last ones.

        What is kept counts. Otherwise the unit that is used more slowly would pile up here.
        """
        block = self.pace.block(self.spent, self.limit, free, now)
        wanted = self.wanted.plus(block).in_limited_units(self.limit, NOTHING)
        return wanted.minus(kept).at_least(NOTHING).at_most(free)

    def skip_write(self, change: Change) -> None:
        """The change is empty, so no write is needed."""
        self.granted_under = change.limit

    def before_write(self, change: Change) -> None:
        """Take what is returned or reported out of hand, so that no call can spend it during the write.

        A debt stays until the row has it.
        """
        self.doubt = change
        self._move(change.returned.at_least(NOTHING).times(-1), change.spent.times(-1))

    def after_write(self, change: Change, row: LedgerRow, now: float) -> None:
        """The write succeeded: `row` is in the table."""
        self._see(row, now)
        self._apply(change, now)

    def after_conflict(self, change: Change) -> None:
        """The first try of the write met a conflict: put the amounts back."""
        self.doubt = None
        self._move(change.returned.at_least(NOTHING), change.spent)

    def after_read(self, row: LedgerRow, now: float) -> None:
        """`row` is in the table. It may show whether the write in `doubt` arrived."""
        if row.version != self.row.version:
            self.changed_at = now
        self._see(row, now)
        change = self.doubt
        if change is None or row.version == change.row.version:
            return
        if row.writer == change.row.writer:
            self._apply(change, now)
        else:
            # Another instance wrote since, so the outcome stays unknown. At most one block is lost. A debt
            # stays a debt, so that nothing is given out twice.
            self.doubt = None

    def _see(self, row: LedgerRow, now: float) -> None:
        self.row, self.seen_at, self.is_stale = row, now, False
        self.gone = row.granted.at_least(row.used)

    def _apply(self, change: Change, now: float) -> None:
        self.doubt = None
        self._move(change.taken.minus(change.returned.at_most(NOTHING)))
        self.granted_under = change.limit
        self.pace.note(change.spent, now)

    def _move(self, spare: Amount, spent: Amount = NOTHING) -> None:
        """So much more is spare in this hand, and so much more spent."""
        self.spare, self.spent = self.spare.plus(spare), self.spent.plus(spent)
        self.in_hand = self.in_hand.plus(spare).plus(spent)
