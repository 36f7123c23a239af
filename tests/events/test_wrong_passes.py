"""Requests with a wrong pass are counted by the name that they state, and never show a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.core.counts import OTHERS
from shared.core.errors import InvalidEventToken
from shared.core.models import Credential
from shared.events.passes import tag_of
from shared.events.wrong_passes import AT_ONCE, PER_SECOND, WrongPasses, stated_name
from tests.clock import Clock
from tests.conftest import EVENT

SECRET = "5ec2e7"
WORDS = ["amy", "amy.lee", "anna@example.com", "christopherson"]


@pytest.mark.parametrize("name", WORDS)
def test_a_name_is_stated_without_any_form_of_its_pass(name: str) -> None:
    for number in range(200):
        secret = f"{SECRET}{number}"
        tag = tag_of(secret, name)
        wrong = [name, f"{name}.{tag}", f"{name}{tag}", f"{name}.{'b' if tag[0] == 'a' else 'a'}{tag[1:]}"]
        assert {stated_name(user, secret) for user in wrong} == {name}


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("amy.5vjmz4", "amy"),
        ("amy.5vjmz4rm6q2kk", "amy"),
        ("amy.0vjmz4rm6q2k", "amy"),
        (".5vjmz4", ".5vjmz4"),
    ],
)
def test_parts_of_a_pass_are_left_out(user: str, name: str) -> None:
    assert stated_name(user, SECRET) == name


def test_few_names_of_an_event_are_counted_by_name() -> None:
    clock, counted = Clock(), list[Credential]()
    wrong = WrongPasses(lambda stated, _: counted.append(stated), clock)
    event = replace(EVENT, code="new", first_code="first", access="claim", pass_secret=SECRET)

    def note(user: str) -> Credential:
        wrong.note(Credential("new", user), event, InvalidEventToken())
        return counted[-1]

    assert note("amy") == Credential("first", "amy")
    for number in range(AT_ONCE * 2):
        note(f"user-{number}")
    assert note("amy").user == "amy" and note("late").user == OTHERS
    clock.seconds += 1 / PER_SECOND
    assert note("late").user == "late"
    assert len({one.user for one in counted} - {OTHERS}) == AT_ONCE + 1
