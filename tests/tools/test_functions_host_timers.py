"""NCRONTAB schedules, and the functions that run by them."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import azure.functions as func
import pytest

from tests.tools.sample_apps import new_app
from tools.functions_host import AppFault, FunctionsHost
from tools.functions_host.functions import read_functions
from tools.functions_host.invocation import ThreadPool
from tools.functions_host.ncrontab import Schedule
from tools.functions_host.settings import added_to_environment
from tools.functions_host.timers import Timers

MONDAY = datetime(2026, 3, 2, 10, 0, 0, 500, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * * *", "2026-03-02 10:00:01"),
        ("0 * * * * *", "2026-03-02 10:01:00"),
        ("*/7 * * * * *", "2026-03-02 10:00:07"),
        ("0 */5 * * * *", "2026-03-02 10:05:00"),
        ("30 5/20 9,10 * * *", "2026-03-02 10:05:30"),
        ("0 0 9-10 * * *", "2026-03-03 09:00:00"),
        ("0 0 0-12/5 * * *", "2026-03-03 00:00:00"),
        ("0 30 9 * * Mon-Fri", "2026-03-03 09:30:00"),
        ("0 30 9 * * sunday", "2026-03-08 09:30:00"),
        ("0 0 0 1 Jan *", "2027-01-01 00:00:00"),
        ("0 0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 0 13 * 5", "2026-03-13 00:00:00"),
        ("5 10 * * *", "2026-03-02 10:05:00"),
    ],
)
def test_the_next_time_of_a_schedule(expression: str, expected: str) -> None:
    found = Schedule.parse(expression).next_after(MONDAY)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_time_that_is_named_is_not_its_own_next() -> None:
    schedule = Schedule.parse("0 0 10 * * *")
    assert schedule.next_after(MONDAY.replace(microsecond=0)) == datetime(2026, 3, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("* * *", "needs six fields, it has 3"),
        ("60 * * * * *", "'60' is not a value of second"),
        ("0 0 0 0 * *", "'0' is not a value of day"),
        ("0 0 0 * * 7", "'7' is not a value of day of week"),
        ("0 0 0 * Foo *", "'Foo' is not a value of month"),
        ("*/0 * * * * *", r"'\*/0' is not a step of second"),
        ("0 0 5-1 * * *", "'5-1' runs backwards in hour"),
        ("0 0 0 30 2 *", "it never comes"),
    ],
)
def test_a_schedule_that_cannot_be_read_is_named(expression: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Schedule.parse(expression)


def ticking_app(
    schedule: str, on_tick: Callable[[func.TimerRequest], None], *, on_startup: bool = False
) -> func.FunctionApp:
    app = new_app()

    @app.timer_trigger("timer", schedule, run_on_startup=on_startup)
    async def tick(timer: func.TimerRequest) -> None:
        await asyncio.sleep(0)  # the clock may leap: no other wait lets other tasks run
        on_tick(timer)

    return app


class LeapingClock:
    """Leaps just past the hour each time that it is read: whatever is waited for is over."""

    def __init__(self) -> None:
        self.now = MONDAY

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now


async def test_a_timer_runs_at_its_times_and_a_failure_does_not_end_it() -> None:
    times: asyncio.Queue[datetime] = asyncio.Queue()
    clock = LeapingClock()

    def fail(timer: func.TimerRequest) -> None:
        times.put_nowait(clock.now)
        raise RuntimeError

    timers = Timers(read_functions(ticking_app("0 0 * * * *", fail), "").timers, ThreadPool(), clock)
    timers.start()
    first, second = await times.get(), await times.get()
    await timers.stop()
    assert MONDAY < first < second


async def test_a_timer_may_run_on_startup_and_is_not_past_due() -> None:
    requests: asyncio.Queue[func.TimerRequest] = asyncio.Queue()
    async with FunctionsHost(ticking_app("0 0 0 1 1 *", requests.put_nowait, on_startup=True)):
        request = await requests.get()
    assert isinstance(request, func.TimerRequest)
    assert request.past_due is False


async def test_a_timer_that_runs_is_not_started_again() -> None:
    app, running, most = new_app(), 0, 0
    finished = asyncio.Semaphore(0)

    @app.timer_trigger("timer", "* * * * * *")
    async def tick(timer: func.TimerRequest) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        finished.release()

    timers = Timers(read_functions(app, "").timers, ThreadPool(), LeapingClock())
    timers.start()
    for _ in range(3):
        await finished.acquire()
    await timers.stop()
    assert most == 1


def test_a_schedule_may_be_named_by_a_setting() -> None:
    app = ticking_app("%TICKS%", lambda timer: None)
    with added_to_environment({"TICKS": "0 0 * * * *"}):
        (timer,) = read_functions(app, "").timers
    assert timer.schedule == Schedule.parse("0 0 * * * *")


def test_a_schedule_at_fault_names_its_function() -> None:
    with pytest.raises(AppFault, match="tick: the schedule 'often' needs six fields"):
        read_functions(ticking_app("often", lambda timer: None), "")


def test_a_timer_annotated_with_another_type_is_a_fault() -> None:
    app = new_app()

    @app.timer_trigger("timer", "0 * * * * *")
    async def tick(timer: str) -> None: ...

    with pytest.raises(AppFault, match=r"must be func\.TimerRequest"):
        read_functions(app, "")
