"""Desk keys: only that of the event itself is accepted, and every refusal has the same text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.core.errors import InvalidDeskKey, InvalidEventToken
from shared.desk.keys import check_desk_key, desk_key, read_desk_key
from shared.events.credentials import read_credential
from tests.conftest import EVENT

DESK = replace(EVENT, code="a.b_c-" + "d" * 58, desk_secret="5ec2e7")
KEY = desk_key(DESK)


def sent(key: str, scheme: str = "Bearer") -> dict[bytes, bytes]:
    return {b"authorization": f"{scheme} {key}".encode()}


def test_a_key_names_its_event_and_is_accepted() -> None:
    key, code = read_desk_key(sent(f" {KEY} ", "bearer"))
    assert code == DESK.code
    check_desk_key(key, DESK)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "hackathon/amy",
        KEY[:-1],
        KEY + "A",
        KEY.lower(),
        KEY.replace("desk.", "desk."[:-1]),
        "desk.." + KEY[-22:],
        "desk.YS9i." + KEY[-22:],  # a/b
        "desk.w7w." + KEY[-22:],  # ü
        "desk.A." + KEY[-22:],
        KEY[:-22] + "A" * 22,
        desk_key(replace(DESK, desk_secret="another")),
        desk_key(replace(DESK, code="another")),
        "desk." + "A" * 300 + KEY[-23:],
        "\x00\xff",
    ],
)
def test_any_other_key_is_refused_with_one_text(key: str) -> None:
    with pytest.raises(InvalidDeskKey) as refused:
        check_desk_key(read_desk_key(sent(key))[0], DESK)
    assert refused.value.message == InvalidDeskKey().message


def test_a_key_is_only_accepted_as_a_bearer_token() -> None:
    for headers in ({}, {b"api-key": KEY.encode()}, sent(KEY, "Basic"), {b"authorization": b"Bearer"}):
        with pytest.raises(InvalidDeskKey):
            read_desk_key(headers)


def test_an_event_without_a_secret_has_no_valid_key() -> None:
    event = replace(DESK, desk_secret="")
    with pytest.raises(InvalidDeskKey):
        check_desk_key(desk_key(event), event)


def test_a_desk_key_is_no_credential() -> None:
    with pytest.raises(InvalidEventToken):
        read_credential(sent(KEY))
    with pytest.raises(InvalidEventToken):
        read_credential({b"api-key": KEY.encode()})
