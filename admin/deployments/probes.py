"""One small request for each API: what is sent to a deployment, and what its response shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from admin.deployments import rules
from admin.http import Response
from shared.apis.api import Api
from shared.apis.chat import CHAT
from shared.apis.embeddings import EMBEDDINGS
from shared.apis.images import IMAGES
from shared.apis.responses import RESPONSES
from shared.core.models import APIS, Deployment

OUTPUT_TOKENS = 16

_OUTPUT_TOO_SHORT = "max_tokens or model output limit was reached"
"""A reasoning model returns 400 with this text if it thinks longer than the test allows: so it works."""

_UNSUPPORTED = (
    "operationnotsupported",
    "operation does not work with the specified model",
    "not supported in the v1/",
    "only supported in v1/",
)
"""How Azure and OpenAI say that a model is not for this API."""


class Probe(NamedTuple):
    api: Api
    members: Callable[[Deployment], dict[str, Any]]
    """The body without the model."""
    is_served: Callable[[Response], bool]
    """Whether the response shows that the deployment serves the API."""

    def body(self, deployment: Deployment) -> dict[str, Any]:
        return {"model": deployment.deployment_name, **self.members(deployment)}


def _chat(deployment: Deployment) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say: ready"}]
    return {"messages": messages, deployment.output_field: OUTPUT_TOKENS}


def _is_chat(response: Response) -> bool:
    if response.status == 400:
        return _OUTPUT_TOO_SHORT in response.error.message
    return response.status == 200 and "choices" in response.json


def _refuses_member(response: Response, name: str) -> bool:
    return response.status == 400 and name in f"{response.error.param} {response.error.message}".lower()


PROBES = {
    probe.api.name: probe
    for probe in (
        Probe(CHAT, _chat, _is_chat),
        # One token is less than the API allows, so the request costs nothing.
        Probe(
            RESPONSES,
            lambda _: {"input": "Say: ready", "max_output_tokens": 1, "store": False},
            lambda response: "output" in response.json or _refuses_member(response, "max_output_tokens"),
        ),
        Probe(
            EMBEDDINGS,
            lambda _: {"input": "ready"},
            lambda response: response.status == 200 and "data" in response.json,
        ),
        # Without a prompt, no picture is made.
        Probe(IMAGES, lambda _: {}, lambda response: _refuses_member(response, "prompt")),
    )
}


def is_unsupported(response: Response) -> bool:
    """Whether the deployment works, but its model is not for this API."""
    text = f"{response.error.code} {response.error.message}".lower()
    return response.status in {400, 404} and any(sign in text for sign in _UNSUPPORTED)


def likely_apis(deployment: Deployment) -> Sequence[str]:
    """All APIs. The one that the names of model and deployment suggest comes first."""
    first = rules.apis_by_name(deployment)[0]
    return sorted(APIS, key=lambda api: api != first)
