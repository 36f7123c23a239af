"""A pass is right for one name at one event, and every other one is refused in the same way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import InvalidEventToken
from shared.core.models import Credential
from shared.events.credentials import parse
from shared.events.passes import TAG_LETTERS, check_pass, pass_of, tag_of
from tests.conftest import EVENT

CLAIM = replace(EVENT, access="claim", pass_secret="5ec2e7")
ROSTER = replace(CLAIM, access="roster")
NAMES = st.text("abcxyz0189-_.@+", min_size=1, max_size=64)


@given(NAMES)
def test_pass_of_a_name_is_a_valid_key_and_gives_back_the_name(user: str) -> None:
    """Whatever dots the name has."""
    credential = parse(f"{CLAIM.code}/{pass_of(CLAIM, user)}".encode())
    assert check_pass(credential, CLAIM) == Credential(CLAIM.code, user)


@given(NAMES, NAMES)
def test_pass_of_one_name_is_refused_for_another(user: str, other: str) -> None:
    tag = tag_of(CLAIM.pass_secret, user)
    credential = Credential(CLAIM.code, f"{other}.{tag}")
    if other == user:
        assert check_pass(credential, CLAIM).user == user
    else:
        with pytest.raises(InvalidEventToken):
            check_pass(credential, CLAIM)


def wrong_keys() -> list[str]:
    tag = tag_of(CLAIM.pass_secret, "amy")
    one_off = [f"amy.{tag[:n]}{'b' if tag[n] == 'a' else 'a'}{tag[n + 1 :]}" for n in range(TAG_LETTERS)]
    others = [tag_of("another secret", "amy"), tag_of(CLAIM.pass_secret, "amy", 1), tag_of("", "amy")]
    forms = ["amy", "amy.", f".{tag}", tag, f"amy{tag}", f"amy.{tag}a", f"amy.{tag[:-1]}", f"amy.{tag}.{tag}"]
    return [*one_off, *forms, *(f"amy.{other}" for other in others)]


@pytest.mark.parametrize("event", [CLAIM, ROSTER], ids=["claim", "roster"])
def test_every_wrong_tag_gets_the_same_refusal(event: object) -> None:
    bodies = set()
    for user in wrong_keys():
        with pytest.raises(InvalidEventToken) as caught:
            check_pass(Credential(CLAIM.code, user), event)  # type: ignore[arg-type]
        bodies.add(caught.value.body())
    (body,) = bodies
    assert b"hackathon/YOUR-NAME.PASS" in body and tag_of(CLAIM.pass_secret, "amy").encode() not in body


def test_next_pass_of_a_name_makes_the_earlier_one_void() -> None:
    first = Credential(CLAIM.code, pass_of(CLAIM, "amy"))
    check_pass(first, CLAIM)
    released = replace(CLAIM, exceptions={"amy": {"pass_number": 1}})
    with pytest.raises(InvalidEventToken):
        check_pass(first, released)
    assert check_pass(Credential(CLAIM.code, pass_of(released, "amy")), released).user == "amy"


def test_event_without_a_secret_accepts_no_tag() -> None:
    event = replace(CLAIM, pass_secret="")
    with pytest.raises(InvalidEventToken):
        check_pass(Credential(CLAIM.code, pass_of(event, "amy")), event)
