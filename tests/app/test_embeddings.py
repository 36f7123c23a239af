"""Embeddings and images through the app: what is forwarded, charged and refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Stage
from tests.responses import WireResponse, response_of
from tools.simulator import Answer


async def call(stage: Stage, path: str, event: str, **body: Any) -> WireResponse:
    headers = {"api-key": f"{event}/ann"}
    return await response_of(stage.post(path, headers=headers, json=body))


async def tokens_left(stage: Stage, event: str) -> int:
    response = await stage.get("/v1/event", event, "ann")
    return int(response.json["tokens"]["remaining"])


@pytest.mark.parametrize("path", ["/v1/embeddings", "/openai/embeddings", "/models/embeddings"])
async def test_a_list_of_tokens_needs_one_token_of_the_quota_for_each_number(stage: Stage, path: str) -> None:
    model = await stage.add_deployment("text-embedding-3-small", apis=("embeddings",))
    event = await stage.add_event(models=(model,), default_model=None, tokens_per_day=1000)
    response = await call(stage, path, event, input=[list(range(90_000, 90_900))])
    assert (response.status, response.json["usage"]["total_tokens"]) == (200, 900)
    assert await tokens_left(stage, event) == 100
    response = await call(stage, path, event, input=[1] * 101)
    assert (response.status, response.json["error"]["code"]) == (429, "token_quota_exceeded")
    assert stage.simulator.total(model).prompt_tokens == 900


@pytest.mark.parametrize(("reports", "tokens"), [(True, 20), (False, 30)])
async def test_embeddings_are_charged_as_reported_or_else_the_tokens_of_their_text(
    stage: Stage, reports: bool, tokens: int
) -> None:
    """The simulator reports a token for each word. In truth, "glove" has two."""
    model = await stage.add_deployment("text-embedding-3-small", apis=("embeddings",))
    event = await stage.add_event(models=(model,), default_model=None, tokens_per_day=1000)
    stage.simulator.always(model, Answer(report_usage=reports))
    texts = ["glove box"] * 10
    assert (await call(stage, "/v1/embeddings", event, input=texts)).status == 200
    assert await tokens_left(stage, event) == 1000 - tokens


async def test_a_picture_is_refused_that_may_cost_more_than_is_left(stage: Stage) -> None:
    model = await stage.add_deployment("gpt-image-1", apis=("images",))
    event = await stage.add_event(models=(model,), default_model=None, tokens_per_day=600)
    picture = {"prompt": "a glove box", "size": "1024x1024"}
    refused = await call(stage, "/v1/images/generations", event, **picture, quality="high")
    assert (refused.status, refused.json["error"]["code"]) == (429, "token_quota_exceeded")
    made = await call(stage, "/v1/images/generations", event, **picture, quality="low")
    assert (made.status, made.json["usage"]["output_tokens"]) == (200, 272)
    assert await tokens_left(stage, event) == 600 - made.json["usage"]["total_tokens"]


async def test_a_picture_without_usage_is_charged_the_most_that_it_can_cost(stage: Stage) -> None:
    model = await stage.add_deployment("dall-e-3", apis=("images",))
    event = await stage.add_event(models=(model,), default_model=None, tokens_per_day=10_000)
    body = {"prompt": "a glove box", "size": "1024x1024", "quality": "standard"}
    assert (await call(stage, "/v1/images/generations", event, **body)).status == 200
    assert 1000 <= 10_000 - await tokens_left(stage, event) <= 1000 + 200


async def test_a_stream_of_a_picture_is_passed_on_and_charged_as_reported(stage: Stage) -> None:
    model = await stage.add_deployment("gpt-image-1", apis=("images",))
    event = await stage.add_event(models=(model,), default_model=None, tokens_per_day=10_000)
    body = {"prompt": "a glove box", "quality": "low", "stream": True, "partial_images": 2}
    response = await call(stage, "/v1/images/generations", event, **body)
    assert response.status == 200
    assert response.body.count(b"event: image_generation.partial_image\n") == 2
    assert response.body.count(b"event: image_generation.completed\n") == 1
    made = stage.simulator.total(model)
    assert made.completion_tokens == 272 + 2 * 100
    assert await tokens_left(stage, event) == 10_000 - made.prompt_tokens - made.completion_tokens
