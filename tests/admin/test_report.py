"""The HTML report in a real browser."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web

from admin.usage.report import render
from admin.usage.timeline import Timeline
from shared.core.counts import Counts, Minute, UsageRow
from shared.core.models import Deployment
from tests import browser
from tests.conftest import EVENT

HOSTILE = "<img src=x onerror=alert(1)>\"'&</title><script>alert(2)</script>"
BEGAN = datetime(2026, 6, 1, 6, tzinfo=UTC)
PRICED = Deployment(
    "gpt-4o", "a", "https://a", "gpt-4o", prompt_price=Decimal("2.5"), completion_price=Decimal("10")
)


def rows() -> list[UsageRow]:
    """Two days of 60 users on 3 models, with nights, refusals and errors, and names with HTML in them."""
    chance = random.Random(7)
    found = [UsageRow("winter", BEGAN, HOSTILE, "<svg onload=alert(3)>", Counts(2, 30, 40, 1, 1))]
    for hour in (BEGAN + timedelta(hours=number) for number in (*range(12), *range(24, 36))):
        for user in range(60):
            for model in ("gpt-4o-mini", "gpt-4o", "o3-mini"):
                if chance.random() < 0.4:
                    counts = Counts(
                        chance.randint(1, 9), chance.randint(50, 900), chance.randint(20, 600), user % 3, 0
                    )
                    found.append(UsageRow("winter", hour, f"user-{user}", model, counts))
    return found


def report() -> str:
    zone = ZoneInfo("Europe/Berlin")
    return render(replace(EVENT, code="winter", name=HOSTILE, time_zone=zone), rows(), [PRICED])


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[browser.Page]:
    async with browser.opened(tmp_path / "profile") as page:
        yield page


async def test_the_report_opens_from_disk_and_loads_nothing(opened: browser.Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(), encoding="utf-8")
    assert file.stat().st_size < 500_000
    await opened.open(file.as_uri())
    assert opened.requested == [file.as_uri()]
    assert opened.complaints == []
    assert await opened.evaluate("document.title") == f"{HOSTILE}: usage"
    assert await opened.evaluate("document.querySelector('h1').textContent") == HOSTILE
    assert await opened.evaluate("document.querySelectorAll('script, img, iframe, object, link').length") == 0
    assert await opened.evaluate("document.querySelectorAll('section svg').length") == 5
    assert HOSTILE in await opened.evaluate("document.querySelectorAll('table')[1].textContent")


async def test_the_browser_reports_what_a_page_loads(opened: browser.Page, tmp_path: Path) -> None:
    """So the test above can fail."""
    paths = []

    async def serve(request: web.BaseRequest) -> web.Response:
        paths.append(request.path)
        return web.Response(status=404)

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    file = tmp_path / "page.html"
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/pixel.png"
    file.write_text(f"<img src='{url}'>")
    await opened.open(file.as_uri())
    await runner.cleanup()
    assert opened.requested == [file.as_uri(), url] and paths == ["/pixel.png"]
    assert opened.complaints != []


async def test_every_chart_fits_in_its_frame(opened: browser.Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(), encoding="utf-8")
    await opened.open(file.as_uri())
    bars = await opened.evaluate(
        "[...document.querySelectorAll('svg')].map(svg => [...svg.querySelectorAll('.mark-rect path')]"
        ".filter(bar => bar.getBoundingClientRect().height > 0.5).length)"
    )
    assert len(bars) == 5 and all(count >= 8 for count in bars)
    outside = await opened.evaluate(
        "[...document.querySelectorAll('svg')].flatMap(svg => { const frame = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => { const box = text.getBoundingClientRect();"
        " return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1 })"
        ".map(text => text.textContent) })"
    )
    assert outside == []
    assert await opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [360, 500, 1280])
async def test_the_report_is_readable_in_a_window_of_this_width(
    opened: browser.Page, tmp_path: Path, width: int
) -> None:
    """Charts and tables that are wider can be scrolled."""
    file = tmp_path / "report.html"
    file.write_text(report(), encoding="utf-8")
    await opened.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
    )
    await opened.open(file.as_uri())
    assert await opened.evaluate("document.documentElement.scrollWidth") <= width
    letters = await opened.evaluate(
        "[...document.querySelectorAll('svg')].map(svg => 12 * svg.clientWidth / svg.viewBox.baseVal.width)"
    )
    assert len(letters) == 5 and min(letters) >= 9.5
    heights = await opened.evaluate(
        "[...document.querySelectorAll('tbody td:first-child')].filter(cell => cell.textContent.length < 16)"
        ".map(cell => cell.clientHeight)"
    )
    assert len(heights) > 60 and max(heights) < 40  # one line


async def test_the_report_is_readable_in_dark_mode_and_on_paper(opened: browser.Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(), encoding="utf-8")
    await opened.open(file.as_uri())
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await opened.send("Emulation.setEmulatedMedia", media=media, features=features)
        ground, *inks = await opened.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('svg text')).fill].map(color =>"
            " color.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765)"
        )
        assert all(abs(ground - ink) > 0.6 for ink in inks), (scheme, media, ground, inks)
        assert (ground < 0.5) == ((scheme, media) == ("dark", "screen"))
    shot = await opened.send("Page.captureScreenshot", captureBeyondViewport=True)
    (tmp_path / "report.png").write_bytes(base64.b64decode(shot["data"]))
    paper = await opened.send("Page.printToPDF")
    assert base64.b64decode(paper["data"]).startswith(b"%PDF")


def test_a_short_event_has_minutes_its_limits_and_no_command() -> None:
    event = replace(EVENT, tokens_total=5000, requests_per_day=20)
    minutes = {3: Minute(2, 30), 4: Minute(1, 15, 0, 1), 58: Minute(0, 0, 0, 4)}
    rows = [UsageRow("winter", BEGAN, "ann", "m", Counts(3, 20, 25, 5), minutes)]
    html = render(event, rows, [])
    assert "Requests in 2 minutes" in html and "by hour" not in html
    assert "Limits: 5,000 tokens in all, 20 requests a day for each attendee." in html
    assert "No cost: no price set for m." in html and "deployments update" not in html
    times = Timeline.of(event, rows)
    assert len(times.times()) == 29
    assert [one["count"] for one in times.requests_by_model(["m"])] == [2, 1]
    assert not Timeline.of(event, [*rows, rows[0]._replace(minutes={})]).is_fine
    assert not Timeline.of(event, [*rows, rows[0]._replace(hour=BEGAN + timedelta(hours=5))]).is_fine


def test_an_event_with_only_refusals_has_charts() -> None:
    refused = UsageRow("winter", BEGAN, "ann", "", Counts(refusals=3))
    assert render(EVENT, [refused], []).count("<svg") == 5


def test_an_event_without_refusals_and_errors_has_no_chart_of_them() -> None:
    served = UsageRow("winter", BEGAN, "ann", "m", Counts(1, 20, 25))
    assert "Refused requests" not in render(EVENT, [served], [])


def test_an_unused_event_has_a_report() -> None:
    assert "No usage yet." in render(EVENT, [], [])


async def test_small_counts_have_whole_numbers_on_the_axis(opened: browser.Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    few = UsageRow("winter", BEGAN, "ann", "gpt-4o", Counts(2, 18, 70))
    file.write_text(render(replace(EVENT, code="winter"), [few], []), encoding="utf-8")
    await opened.open(file.as_uri())
    labels = await opened.evaluate(
        "[...document.querySelector('svg').querySelectorAll('text')].map(text => text.textContent)"
        ".filter(text => /^[0-9]+$/.test(text))"
    )
    assert sorted(labels) == ["0", "1", "2"]
