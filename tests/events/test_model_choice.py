"""Which model serves a request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.core.errors import InvalidRequest, ModelNotFound
from shared.core.models import Event, Served
from shared.events.model_choice import choose_model, find_model, usable_models
from tests import conftest

EVENT = replace(conftest.EVENT, models=(), default_model=None)
BOTH = ("chat", "responses")
DEPLOYED: Served = dict.fromkeys(("gpt-4o", "gpt-4o-mini", "o3"), BOTH)
MIXED: Served = {
    "ada": ("embeddings",),
    "gpt-4o": ("chat",),
    "o3": ("responses",),
    "painter": ("images",),
    "small": ("embeddings",),
}


def test_event_without_models_allows_all_deployed_models_in_alphabetical_order() -> None:
    assert usable_models(EVENT, DEPLOYED) == ["gpt-4o", "gpt-4o-mini", "o3"]


def test_usable_models_are_the_deployed_ones_in_the_events_order() -> None:
    assert usable_models(replace(EVENT, models=("o3", "gone", "gpt-4o")), DEPLOYED) == ["o3", "gpt-4o"]


@pytest.mark.parametrize(
    ("event", "requested", "chosen"),
    [
        (EVENT, "o3", "o3"),
        (replace(EVENT, default_model="gpt-4o"), "o3", "o3"),
        (replace(EVENT, default_model="gpt-4o"), None, "gpt-4o"),
        (replace(EVENT, default_model="gpt-4o"), "", "gpt-4o"),
        (replace(EVENT, models=("o3",)), None, "o3"),
        (replace(EVENT, models=("o3", "gone")), None, "o3"),
    ],
)
def test_model_is_the_requested_one_or_the_default_or_the_only_one(
    event: Event, requested: str | None, chosen: str
) -> None:
    assert choose_model(event, requested, "chat", DEPLOYED) == chosen


@pytest.mark.parametrize("requested", [None, ""])
def test_request_must_name_a_model_where_the_event_has_several_and_no_default(requested: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose_model(EVENT, requested, "chat", DEPLOYED)
    assert caught.value.param == "model"
    assert caught.value.message == "The request names no model. Use one of: gpt-4o, gpt-4o-mini, o3."


@pytest.mark.parametrize("requested", ["gpt-4o", "gpt-5", "O3", "o3 "])
def test_error_for_a_model_that_the_event_does_not_allow_lists_the_usable_ones(requested: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        choose_model(replace(EVENT, models=("o3", "gpt-4o-mini")), requested, "chat", DEPLOYED)
    assert caught.value.param == "model"
    assert caught.value.message == f"You cannot use {requested!r} at this event. Use one of: o3, gpt-4o-mini."


def test_default_model_that_is_not_deployed_is_not_found() -> None:
    with pytest.raises(ModelNotFound):
        choose_model(replace(EVENT, default_model="gone"), None, "chat", DEPLOYED)


def test_error_says_so_where_no_model_is_deployed() -> None:
    with pytest.raises(ModelNotFound, match=r"The event has no models yet\. Ask your organiser\."):
        choose_model(EVENT, "o3", "chat", {})
    with pytest.raises(InvalidRequest, match=r"The event has no models yet\. Ask your organiser\."):
        choose_model(EVENT, None, "chat", {})


def test_error_shortens_and_escapes_a_long_or_odd_model_name() -> None:
    with pytest.raises(ModelNotFound) as caught:
        choose_model(EVENT, "\n\x1b" + "x" * 10_000, "chat", DEPLOYED)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("model", "api", "message"),
    [
        (
            "small",
            "chat",
            "'small' serves embeddings, not chat completions. For chat completions use one of: gpt-4o.",
        ),
        (
            "o3",
            "embeddings",
            "'o3' serves the Responses API, not embeddings. For embeddings use one of: ada, small.",
        ),
        ("gpt-4o", "images", "'gpt-4o' serves chat completions, not images. For images use one of: painter."),
    ],
)
def test_a_model_asked_by_the_wrong_api_is_not_found_and_the_error_lists_the_right_ones(
    model: str, api: str, message: str
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        choose_model(replace(EVENT, default_model="gpt-4o"), model, api, MIXED)
    assert (caught.value.message, caught.value.param) == (message, "model")


def test_the_default_model_counts_for_the_apis_that_it_serves() -> None:
    event = replace(EVENT, default_model="gpt-4o")
    assert choose_model(event, None, "chat", MIXED) == "gpt-4o"
    assert choose_model(event, None, "images", MIXED) == "painter"
    with pytest.raises(InvalidRequest, match=r"names no model\. Use one of: ada, small\."):
        choose_model(event, None, "embeddings", MIXED)


def test_an_error_lists_only_the_models_of_the_api() -> None:
    with pytest.raises(ModelNotFound, match=r"You cannot use 'x' at this event\. Use one of: ada, small\."):
        choose_model(EVENT, "x", "embeddings", MIXED)


def test_an_event_without_a_model_for_the_api_says_so() -> None:
    event = replace(EVENT, models=("gpt-4o",))
    for model in (None, "x", "painter"):
        with pytest.raises((ModelNotFound, InvalidRequest), match=r"The event has no model for images\. Ask"):
            choose_model(event, model, "images", MIXED)
    with pytest.raises(ModelNotFound, match=r"serves chat completions, not images\. The event has no"):
        choose_model(event, "gpt-4o", "images", MIXED)


def test_a_model_is_found_by_its_name_whatever_it_serves() -> None:
    assert find_model(EVENT, "ada", MIXED) == "ada"
    assert usable_models(EVENT, MIXED, "embeddings") == ["ada", "small"]
    with pytest.raises(ModelNotFound, match=r"You cannot use 'ada' at this event\. Use one of: gpt-4o\."):
        find_model(replace(EVENT, models=("gpt-4o",)), "ada", MIXED)
    with pytest.raises(ModelNotFound, match="The event has no models yet"):
        find_model(EVENT, "ada", {})
