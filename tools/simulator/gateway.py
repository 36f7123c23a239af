"""The checks that Azure's gateway makes before it reads the body: path, API version and credential."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from . import azure
from .azure import Refused

_Headers = Mapping[str, str]
_PATH = re.compile(r"/openai/(?:v1|deployments/(?P<deployment>[^/]+))/(?P<api>.+)")
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?", re.ASCII)
_V1_VERSIONS = ("", "v1", "preview", "latest")
_REASONING_MODELS = ("o1", "o3", "o4", "gpt-5")
_WRONG_BEARER = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect "
    "(https://cognitiveservices.azure.com), or have expired."
)


@dataclass(frozen=True, slots=True)
class Deployment:
    refuses_max_completion_tokens: bool = False

    def refuses(self, param: str, name: str) -> bool:
        if param == "max_completion_tokens":
            return self.refuses_max_completion_tokens
        return name.startswith(_REASONING_MODELS)


@dataclass(frozen=True, slots=True)
class Route:
    form: Literal["v1", "deployments"]
    api: str
    deployment: str | None  # None on the v1 form, which names it in the body
    api_version: str  # empty on the v1 form


def route(method: str, path: str, api_version: str, apis: Collection[str]) -> Route:
    """Raises Refused."""
    found = _PATH.fullmatch(path)
    if method != "POST" or not found or found["api"] not in apis:
        raise _not_found()
    if found["deployment"] is None:
        if api_version not in _V1_VERSIONS:
            raise Refused(azure.gateway_error(400, "BadRequest", "API version not supported"))
        return Route("v1", found["api"], None, "")
    if not _VERSION.fullmatch(api_version):
        raise _not_found()
    return Route("deployments", found["api"], found["deployment"], api_version)


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
