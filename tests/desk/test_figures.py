"""The figures of the desk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from shared.core.models import Deployment, Event, Health
from shared.desk.figures import figures
from shared.desk.readings import Reading
from shared.desk.sums import Sums, minute_of
from shared.quota.ledger_row import LedgerRow

NOW = datetime(2026, 12, 1, 15, 0, tzinfo=UTC)


def test_times_of_a_deployment_are_in_the_events_time_zone() -> None:
    event = Event("hack", "Hack", NOW, NOW + timedelta(days=1), time_zone=ZoneInfo("Asia/Tokyo"))
    deployment = Deployment("gpt-4o", "first", "https://a.example", "gpt-4o")
    used = [(deployment, Health(NOW, "429", NOW)), (deployment, Health(NOW, "ok")), (deployment, None)]
    shown = figures(Reading(NOW, event, LedgerRow(), Sums(minute_of(NOW)), NOW, used), 30)
    times = [(one["seen_at"], one["cooling_until"]) for one in shown["deployments"]]
    local = "2026-12-02T00:00:00+09:00"
    assert [[time and time.isoformat() for time in pair] for pair in times] == [
        [local, local],
        [local, None],
        [None, None],
    ]
