"""Which call this is, and whether its key is right: what Azure's gateway looks at before the body."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from . import refusals
from .refusals import Refused

Form = Literal["v1", "deployments"]

_V1 = "/openai/v1/chat/completions"
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?", re.ASCII)
_V1_VERSIONS = ("", "v1", "preview", "latest")


@dataclass(frozen=True, slots=True)
class Route:
    form: Form
    deployment: str | None  # None on the v1 form, which names it in the body
    api_version: str


def route(method: str, path: str, api_version: str) -> Route:
    """Raises Refused: 404 for what is not a chat completion, 400 for a dated version on the v1 form."""
    found = _DEPLOYMENT.fullmatch(path)
    if method != "POST" or not (found or path == _V1):
        raise Refused(refusals.resource_not_found())
    if found is None:
        if api_version not in _V1_VERSIONS:
            raise Refused(refusals.gateway_error(400, "BadRequest", "API version not supported"))
        return Route("v1", None, api_version)
    if not _VERSION.fullmatch(api_version):
        raise Refused(refusals.resource_not_found())
    return Route("deployments", found[1], api_version)


def check_key(
    headers: Mapping[str, str], form: Form, keys: Collection[str], bearers: Collection[str]
) -> None:
    """Raises Refused. The v1 form takes a key as a bearer too, since that is how OpenAI's client sends it."""
    key = headers.get("api-key")
    if key is not None and key in keys:
        return
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if key is not None or scheme.lower() != "bearer":
        raise Refused(refusals.wrong_key())
    if bearer in bearers or (form == "v1" and bearer in keys):
        return
    raise Refused(refusals.wrong_bearer())
