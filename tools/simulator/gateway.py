"""The checks that Azure's gateway makes before it reads the body: path, API version and credential.

The settings of a deployment, and which APIs it serves, are here too.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from . import azure
from .azure import Refused

_Headers = Mapping[str, str]
_Form = Literal["v1", "deployments", "resource"]
_METHODS = {"cancel": ("POST",), "input_items": ("GET",)}
_PATHS = (
    r"/openai/(?:(?P<v1>v1)|deployments/(?P<deployment>[^/]+))/"
    r"(?P<api>chat/completions|embeddings|images/generations)(?P<stored>)(?P<action>)",
    r"/openai/(?P<v1>v1/)?(?P<deployment>)"
    r"(?P<api>responses)(?:/(?P<stored>[^/]+)(?:/(?P<action>cancel|input_items))?)?",
)
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?", re.ASCII)
_V1_VERSIONS = ("", "v1", "preview", "latest")
_REASONING_MODELS = ("o1", "o3", "o4", "gpt-5")
_OPERATIONS = {
    "chat/completions": "chatCompletion",
    "responses": "responses",
    "embeddings": "embeddings",
    "images/generations": "imageGenerations",
}
_WRONG_BEARER = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect "
    "(https://cognitiveservices.azure.com), or have expired."
)


@dataclass(frozen=True, slots=True)
class Deployment:
    refuses_max_completion_tokens: bool = False
    billed_as: str | None = (
        None  # a model: real tokens and its picture rule (billing.py). None: words are tokens
    )
    tokens_per_second: float | None = None  # None: as the simulator
    apis: frozenset[str] | None = None  # such as "chat/completions". None: those of the model, by its name

    def refuses(self, param: str, name: str) -> bool:
        if param == "max_completion_tokens":
            return self.refuses_max_completion_tokens
        return self.reasons(name)

    def reasons(self, name: str) -> bool:
        return (self.billed_as or name).startswith(_REASONING_MODELS)

    def check_api(self, api: str, name: str) -> None:
        """Raises Refused."""
        if api not in (_apis_of(self.billed_as or name) if self.apis is None else self.apis):
            raise Refused(azure.not_supported(_OPERATIONS[api], name))


def _apis_of(model: str) -> Collection[str]:
    if model.startswith("text-embedding"):
        return ("embeddings",)
    if model.startswith(("gpt-image", "dall-e")):
        return ("images/generations",)
    return ("chat/completions", "responses")


@dataclass(frozen=True, slots=True)
class Route:
    form: _Form
    api: str
    deployment: str | None  # only the form "deployments" has it in the path
    api_version: str  # empty on the v1 form
    stored: str | None  # the id of a stored response
    action: str  # what to do with it: GET, DELETE, cancel or input_items


def route(method: str, path: str, api_version: str) -> Route:
    """Raises Refused."""
    found = next(filter(None, (re.fullmatch(each, path) for each in _PATHS)), None)
    if not found or method not in _METHODS.get(
        found["action"], ("GET", "DELETE") if found["stored"] else ("POST",)
    ):
        raise _not_found()
    form: _Form = "v1" if found["v1"] else "deployments" if found["deployment"] else "resource"
    if form != "v1" and not _VERSION.fullmatch(api_version):
        raise _not_found()
    if form == "v1" and api_version not in _V1_VERSIONS:
        raise Refused(azure.gateway_error(400, "BadRequest", "API version not supported"))
    version = "" if form == "v1" else api_version
    return Route(form, found["api"], found["deployment"], version, found["stored"], found["action"] or method)


def _not_found() -> Refused:
    return Refused(azure.gateway_error(404, "404", "Resource not found"))


def check_credential(headers: _Headers, form: str, keys: Collection[str], bearers: Collection[str]) -> None:
    """Raises Refused. The v1 form also takes a key as a bearer, because OpenAI's client sends it so."""
    key = headers.get("api-key")
    if key is not None and key in keys:
        return
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if key is not None or scheme.lower() != "bearer":
        raise Refused(azure.error(401))
    if bearer not in bearers and not (form == "v1" and bearer in keys):
        raise Refused(azure.gateway_error(401, "401", _WRONG_BEARER))
