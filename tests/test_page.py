"""The attendee's page at `/`: what it is allowed to do, and what it says."""

from __future__ import annotations

import base64
import hashlib
import re

from shared.page import page
from tests.conftest import Stage, answered


async def test_the_page_is_at_the_root_and_needs_no_credential(stage: Stage) -> None:
    got = await answered(stage.http.get(stage.url + "/"))
    assert got.status == 200
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>Azure OpenAI for your event</title>" in got.body
    assert not stage.simulator.calls


async def test_the_page_may_run_its_own_script_and_call_this_proxy_and_nothing_else(stage: Stage) -> None:
    got = await answered(stage.http.get(stage.url + "/"))
    policy = dict(
        directive.strip().split(" ", 1) for directive in got.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    for kind in ("script", "style"):
        (inline,) = re.findall(rb"<%b>(.*?)</%b>" % (kind.encode(), kind.encode()), got.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"


def test_the_page_names_no_other_host() -> None:
    body = page().body
    assert isinstance(body, bytes)
    assert not re.findall(rb"(?:https?:)?//[a-z0-9-]+\.[a-z]", body)
    assert b"src=" not in body and b"innerHTML" not in body
