"""Every path that the proxy serves, in one table, and the handler of `Web` for each of its methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

PREFIXES = ("", "v1/", "api/v1/")
"""Each path of an API exists with each of them."""
RESOURCE_FORMS = ("", "openai/", "openai/v1/")
"""An API whose path never names the model: OpenAI's form, that of `AzureOpenAI` and of the AI SDK's Azure
provider, and Azure's v1 form."""
DEPLOYMENT_FORMS = (*RESOURCE_FORMS, "openai/deployments/{deployment}/", "deployments/{deployment}/")
"""An API whose path may name the model: also the forms of `AzureOpenAI` with `azure_endpoint` and with
`base_url`."""


class Path(NamedTuple):
    """One line of the table. `{name}` in a template is one segment of any text."""

    template: str
    handlers: Mapping[str, str]
    """By method, the name of a method of `Web`."""


class Found(NamedTuple):
    handlers: Mapping[str, str]
    parameters: Mapping[str, str]


def _forms(forms: tuple[str, ...], path: str, **handlers: str) -> Iterator[Path]:
    return (Path(form + path, handlers) for form in forms)


API_PATHS = (
    *_forms(DEPLOYMENT_FORMS, "chat/completions", POST="chat"),
    *_forms(DEPLOYMENT_FORMS, "embeddings", POST="embeddings"),
    *_forms(DEPLOYMENT_FORMS, "images/generations", POST="images"),
    Path("models/chat/completions", {"POST": "chat"}),  # this and the next: the form of Azure AI Foundry
    Path("models/embeddings", {"POST": "embeddings"}),
    *_forms(RESOURCE_FORMS, "responses", POST="responses"),
    *_forms(RESOURCE_FORMS, "responses/{response_id}", GET="stored_response", DELETE="stored_response"),
    *_forms(RESOURCE_FORMS, "responses/{response_id}/cancel", POST="cancel_response"),
    *_forms(RESOURCE_FORMS, "responses/{response_id}/input_items", GET="input_items"),
    *_forms(RESOURCE_FORMS, "models", GET="models"),
    *_forms(RESOURCE_FORMS, "models/{model}", GET="model"),
    Path("event", {"GET": "event"}),
    Path("event/claim", {"POST": "claim"}),
)
DESK_PATHS = (
    Path("desk", {"GET": "desk"}),
    Path("desk/{action}", {"POST": "desk_action"}),
)
"""Not for attendees, so no message names them. Without a prefix, `GET /desk` is the page."""
PATHS = (
    Path("", {"GET": "home", "HEAD": "home"}),
    Path("healthz", {"GET": "alive", "HEAD": "alive"}),
    Path("readyz", {"GET": "ready", "HEAD": "ready"}),
    *(Path(prefix + template, handlers) for prefix in PREFIXES for template, handlers in API_PATHS),
    Path("desk", {"GET": "desk_page", "HEAD": "desk_page"}),
    *(Path(prefix + template, handlers) for prefix in PREFIXES for template, handlers in DESK_PATHS),
)
MOST_SEGMENTS = max(template.count("/") + 1 for template, _ in PATHS)
_other_forms = ("openai/", "deployments/", "models/")
MAIN_PATHS = [f"/v1/{path}" for path, _ in API_PATHS if "{" not in path and not path.startswith(_other_forms)]
"""One path for each API, for messages."""


_by_length: dict[int, list[tuple[list[str], Mapping[str, str]]]] = {}
for _template, _handlers in PATHS:
    _segments = _template.split("/")
    _by_length.setdefault(len(_segments), []).append((_segments, _handlers))


@lru_cache(maxsize=256)
def find(path: str) -> Found | None:
    """What serves a percent-decoded path. As in the Functions host, letter case and a slash at the end do not
    matter."""
    if not path.startswith("/"):
        return None
    segments = path[1:].removesuffix("/").split("/")
    for template, handlers in _by_length.get(len(segments), ()):
        if all(map(_fits, template, segments)):
            pairs = zip(template, segments, strict=True)
            return Found(handlers, {name[1:-1]: value for name, value in pairs if name.startswith("{")})
    return None


def _fits(template: str, segment: str) -> bool:
    """Whether a segment of a path is what its template names, or anything where that is a `{name}`."""
    if template.startswith("{"):
        return segment != ""
    return segment.lower() == template and segment.isascii()  # not "K", the sign for kelvins, for "k"
