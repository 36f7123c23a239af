"""Sealed ids open for one attendee only, and only in the exact form in which they were sealed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.response_ids import MOST_ID_BYTES, MOST_TOKENS, NO_TURN, Owner, place_of, turn_of
from shared.core.models import Credential, Deployment

SECRET = b"a secret of an event"
PLACE, OTHER_PLACE = b"12345678", b"abcdefgh"
UPSTREAM = "resp_05500b38c2cd9bfc00691c7c9d222481a3b595421266dab424"
ANNA = Owner(SECRET, Credential("hackathon", "anna"))
OTHERS = {
    "another user": Owner(SECRET, Credential("hackathon", "ben")),
    "another event": Owner(SECRET, Credential("workshop", "anna")),
    "another secret": Owner(b"the secret of another", Credential("hackathon", "anna")),
    "the same letters, cut elsewhere": Owner(SECRET, Credential("hackathona", "nna")),
}
IDS = st.one_of(
    st.from_regex(r"[a-z]{1,5}_[0-9a-f]{0,50}", fullmatch=True),
    st.text(st.characters(max_codepoint=127), min_size=1, max_size=60),
)


@given(IDS, st.integers(0, MOST_TOKENS))
def test_an_id_opens_as_it_was_sealed(upstream_id: str, tokens: int) -> None:
    sealed = ANNA.seal(upstream_id, PLACE, tokens)
    opened = ANNA.open(sealed)
    assert opened == (upstream_id, PLACE, tokens, NO_TURN)
    assert upstream_id not in sealed or len(upstream_id) < 8
    turn = turn_of(upstream_id)
    assert ANNA.open_item(ANNA.seal_item(upstream_id, PLACE, turn, tokens)) == (
        upstream_id,
        PLACE,
        tokens,
        turn,
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_content_keeps_its_bytes(content: str) -> None:
    sealed = ANNA.seal_content(content, PLACE)
    assert sealed.endswith(content)
    assert ANNA.open_content(sealed) == (content, PLACE)


@pytest.mark.parametrize("upstream_id", [UPSTREAM, "msg_anonymized", "cu_sc_01ab", "file-abc", "abc", "fc_"])
def test_the_prefix_is_the_upstreams(upstream_id: str) -> None:
    prefix = upstream_id.partition("_")[0] if "_" in upstream_id else "id"
    assert ANNA.seal(upstream_id, PLACE).startswith(f"{prefix}_")


def test_an_id_of_azure_stays_short() -> None:
    assert len(ANNA.seal(UPSTREAM, PLACE, 100_000)) < 90


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_opens_for_anybody_else(other: str) -> None:
    owner = OTHERS[other]
    assert owner.open(ANNA.seal(UPSTREAM, PLACE)) is None
    assert owner.open_item(ANNA.seal_item(UPSTREAM, PLACE)) is None
    assert owner.open_content(ANNA.seal_content("gAAAA", PLACE)) is None


def test_kinds_cannot_stand_in_for_each_other() -> None:
    response, item = ANNA.seal(UPSTREAM, PLACE), ANNA.seal_item(UPSTREAM, PLACE)
    content = ANNA.seal_content(UPSTREAM, PLACE)
    assert ANNA.open(item) is None
    assert ANNA.open(content) is None
    assert ANNA.open_item(response) is None
    assert ANNA.open_item(content) is None
    assert ANNA.open_content(response) is None
    assert ANNA.open_content(item) is None


def test_every_changed_character_breaks_a_seal() -> None:
    sealed, content = ANNA.seal(UPSTREAM, PLACE, 300), ANNA.seal_content("gAAAAABo", PLACE)
    for text, opens in ((sealed, ANNA.open), (content, ANNA.open_content)):
        for at, old in enumerate(text):
            for new in {"A", "b", "_", "-", "=", ".", "é", old.swapcase(), chr(ord(old) ^ 1)} - {old}:
                assert opens(text[:at] + new + text[at + 1 :]) is None


def test_an_id_has_one_form_in_base64() -> None:
    for length in (10, 12, 14):
        sealed = ANNA.seal("resp_" + "a" * length, PLACE)
        for last in set(string.ascii_letters + string.digits + "-_") - {sealed[-1]}:
            assert ANNA.open(sealed[:-1] + last) is None


def test_every_cut_or_longer_form_is_refused() -> None:
    sealed, content = ANNA.seal(UPSTREAM, PLACE, 300), ANNA.seal_content("gAAAAABo", PLACE)
    for text, opens in ((sealed, ANNA.open), (content, ANNA.open_content)):
        for at in range(len(text)):
            assert opens(text[:at]) is None
            assert opens(text[at + 1 :]) is None
        for more in ("A", "=", "==", "====", "AAAA", "\n", " ", "\0"):
            assert opens(text + more) is None
            assert opens(more + text) is None


@pytest.mark.parametrize(
    "sealed",
    ["", "_", "resp_", UPSTREAM, "resp_é", "resp_" + "A" * 60, "msg_" + "A" * 5000, "resp_\ud800", "enc1."],
)
def test_what_was_never_sealed_is_refused(sealed: str) -> None:
    assert ANNA.open(sealed) is None
    assert ANNA.open_item(sealed) is None
    assert ANNA.open_content(sealed) is None


def test_a_seal_cannot_move_to_another_prefix_or_content() -> None:
    sealed = ANNA.seal(UPSTREAM, PLACE)
    assert ANNA.open(sealed.replace("resp_", "msg_", 1)) is None
    one, two = ANNA.seal_content("one", PLACE), ANNA.seal_content("two", PLACE)
    assert ANNA.open_content(one[:-3] + two[-3:]) is None


@pytest.mark.parametrize("upstream_id", ["", "resp_é", "resp_" + "a" * MOST_ID_BYTES])
def test_an_id_that_no_upstream_has_is_not_sealed(upstream_id: str) -> None:
    with pytest.raises(ValueError, match="id"):
        ANNA.seal(upstream_id, PLACE)


def test_an_event_without_a_secret_seals_nothing() -> None:
    with pytest.raises(ValueError, match="secret"):
        Owner(b"", Credential("hackathon", "anna"))


def test_a_place_is_an_endpoint_and_a_deployment() -> None:
    def place(endpoint: str, name: str) -> bytes:
        return place_of(Deployment("gpt-4o", "1", endpoint, name))

    assert place("https://one.example/", "gpt") == place("https://One.example", "gpt")
    assert len({place("https://one.example", "gpt"), place("https://two.example", "gpt")}) == 2
    assert len({place("https://one.example", "gpt"), place("https://one.exampleg", "pt")}) == 2
