"""One small call to a deployment before it is added, and what its answer means in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from admin.faults import Fault
from shared.core.models import API_V1, MANAGED_IDENTITY, OUTPUT_FIELDS, Deployment
from shared.core.settings import DEFAULT_SCOPE, UPSTREAM_SCOPE

if TYPE_CHECKING:
    import aiohttp

SECONDS = 60
OUTPUT_TOKENS = 16
OPENAI_ROLE = "Cognitive Services OpenAI User"


_REFUSING = {"max_tokens": "reasoning models", "max_completion_tokens": "old models and API versions"}


class Tried(NamedTuple):
    """How it went: the deployment as it turned out to work, or why it could not be tried."""

    deployment: Deployment
    worked: bool
    told: str


class _Answer(NamedTuple):
    status: int
    code: str
    message: str
    param: str


async def tried(deployment: Deployment, environment: Mapping[str, str], *, may_switch: bool) -> Tried:
    """Call it once. With `may_switch`, where it refuses the field of the output cap, the other one is tried.

    Raises:
        Fault: it does not work; the message says what to do.
    """
    headers = await _headers(deployment, environment)
    if isinstance(headers, str):
        return Tried(deployment, False, headers)
    answer = await _call(deployment, headers)
    (other,) = {*OUTPUT_FIELDS} - {deployment.output_field}
    if _refuses(answer, deployment.output_field):
        if not may_switch:
            raise Fault(
                f"{deployment.deployment_name} refuses {deployment.output_field}, as "
                f"{_REFUSING[deployment.output_field]} do: give --output-field {other}."
            )
        deployment = replace(deployment, output_field=other)
        answer = await _call(deployment, headers)
    if fault := _fault(answer, deployment):
        raise Fault(fault)
    return Tried(deployment, True, _success(answer, deployment))


async def _headers(deployment: Deployment, environment: Mapping[str, str]) -> dict[str, str] | str:
    """What to sign in with; or why there is nothing. Raises Fault where the key cannot be one."""
    if deployment.auth != MANAGED_IDENTITY:
        if key := environment.get(deployment.auth, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise Fault(f"what {deployment.auth} holds cannot be a key: it has odd characters.")
            return {"api-key": key}
        return (
            f"its key is in the app's setting {deployment.auth}, which is not set here: put it into your "
            "environment to have it tried, or let `manage.py events check` try it through the app"
        )
    return await _signed_in(environment.get(UPSTREAM_SCOPE) or DEFAULT_SCOPE)


async def _signed_in(scope: str) -> dict[str, str] | str:
    from azure.core.exceptions import AzureError

    from shared.upstream.identity import default_credential

    async with default_credential(None) as credential:
        try:
            token = await credential.get_token(scope)
        except AzureError:
            return (
                "you are not signed in to Azure here (`az login` or `azd auth login` does it); "
                "`manage.py events check` tries it through the app, with the app's own identity"
            )
    return {"authorization": f"Bearer {token.token}"}


async def _call(deployment: Deployment, headers: dict[str, str]) -> _Answer:
    import aiohttp

    from admin.http import opened, unreached
    from shared.upstream.client import chat_url

    body = {
        "model": deployment.deployment_name,
        "messages": [{"role": "user", "content": "Say: ready"}],
        deployment.output_field: OUTPUT_TOKENS,
    }
    try:
        async with opened(deployment.endpoint, SECONDS) as session:
            call = session.post(chat_url(deployment), json=body, headers=headers, allow_redirects=False)
            async with call as response:
                return await _read(response)
    except TimeoutError as error:
        raise Fault(f"{deployment.endpoint} gave no answer within {SECONDS} s.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Fault(unreached(error, deployment.endpoint)) from error


async def _read(response: aiohttp.ClientResponse) -> _Answer:
    content = await response.read()
    try:
        body = json.loads(content)
    except ValueError:
        return _Answer(response.status, "not-json", "", "")
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        is_answer = isinstance(body, dict) and "choices" in body
        return _Answer(response.status, "" if is_answer or response.status != 200 else "not-json", "", "")
    code, message, param = (str(error.get(name) or "") for name in ("code", "message", "param"))
    return _Answer(response.status, code, message, param)


def _refuses(answer: _Answer, field: str) -> bool:
    told = f"{answer.param} {answer.message}"
    known = answer.code == "unsupported_parameter" or "unsupported parameter" in told.lower()
    return answer.status == 400 and field in told and (known or "unrecognized" in told.lower())


_TOO_SHORT = "max_tokens or model output limit was reached"
"""A reasoning model may think longer than a trial allows: it answers 400 then, and works."""


def _fault(answer: _Answer, deployment: Deployment) -> str | None:  # noqa: PLR0911 - one line for each
    name, endpoint = deployment.deployment_name, deployment.endpoint
    text = f"{answer.code} {answer.message}".lower()
    match answer.status:
        case 200 if answer.code != "not-json":
            return None
        case 400 if _TOO_SHORT in text:
            return None
        case 429:
            return None
        case 401 | 403:
            return _not_let_in(deployment, text)
        case 404 if answer.code == "DeploymentNotFound" or "deployment" in text or "model" in text:
            return (
                f"there is no deployment {name!r} at {endpoint}: take its own name from the Azure portal, "
                "not the model's; a new one works after some minutes."
            )
        case 404:
            return _no_such_version(deployment)
        case 400 if "api version" in text or "api-version" in text:
            return _no_such_version(deployment)
        case status if 200 <= status < 400:
            return f"what answers at {endpoint} is not Azure OpenAI."
        case status:
            said = f": {answer.message[:300]}" if answer.message else ""
            return f"it answered {status}{said}"


def _not_let_in(deployment: Deployment, text: str) -> str:
    if "firewall" in text or "virtual network" in text or "public access" in text:
        return (
            f"the firewall of {deployment.endpoint} does not let this machine in; if the app is within its "
            "network, give --no-check."
        )
    if deployment.auth != MANAGED_IDENTITY:
        if "disabled" in text:
            return f"{deployment.endpoint} takes no keys: use --managed-identity."
        return f"the key in {deployment.auth} is not one of {deployment.endpoint}: is it of another resource?"
    return (
        f"you may not call {deployment.endpoint}: your own sign-in lacks the role {OPENAI_ROLE}, or it was "
        "granted minutes ago and does not work yet. The app calls with its own identity: if that has the "
        "role, give --no-check, and let `manage.py events check` try it."
    )


def _no_such_version(deployment: Deployment) -> str:
    if deployment.api_version == API_V1:
        return (
            f"{deployment.endpoint} has no chat completions in the v1 form: is it the endpoint of an Azure "
            "OpenAI resource? Older ones take --api-version 2024-10-21."
        )
    version = deployment.api_version
    return f"{deployment.endpoint} does not know the API version {version}: try without --api-version."


def _success(answer: _Answer, deployment: Deployment) -> str:
    if answer.status == 429:
        return f"{deployment.deployment_name} is there, and busy just now (429)"
    return f"{deployment.deployment_name} answered, with {deployment.output_field}"
