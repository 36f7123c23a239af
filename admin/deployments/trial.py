"""A test request to a deployment, and what to do if it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from azure.core.exceptions import AzureError

from admin.errors import CommandError
from admin.http import NoResponse, Response, open_session, send
from shared.core.models import API_V1, MANAGED_IDENTITY, Deployment
from shared.core.settings import DEFAULT_SCOPE, UPSTREAM_SCOPE
from shared.upstream.client import chat_url
from shared.upstream.identity import default_credential

SECONDS = 60
OUTPUT_TOKENS = 16
OPENAI_ROLE = "Cognitive Services OpenAI User"
_OTHER_FIELD = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_REFUSED_BY = {"max_tokens": "reasoning models", "max_completion_tokens": "old models and API versions"}

_OUTPUT_TOO_SHORT = "max_tokens or model output limit was reached"
"""A reasoning model returns 400 with this text if it thinks longer than the test allows: so it works."""


class NotTested(Exception):
    """There is no key or sign-in here for a test request."""


class TrialResult(NamedTuple):
    output_field: str
    """The field for the output limit that the deployment accepts."""
    text: str


async def try_deployment(
    deployment: Deployment, environment: Mapping[str, str], *, may_switch: bool
) -> TrialResult:
    """Send one request. With `may_switch`, the other field for the output limit is tried if one is refused.

    Raises:
        CommandError: the deployment does not work.
        NotTested: no key or sign-in is known here.
    """
    headers = await _auth_headers(deployment, environment)
    response = await _send(deployment, headers)
    field = deployment.output_field
    if _refuses(response, field):
        if not may_switch:
            raise CommandError(
                f"{deployment.deployment_name} refuses {field}, as {_REFUSED_BY[field]} do. "
                f"Use --output-field {_OTHER_FIELD[field]}."
            )
        deployment = replace(deployment, output_field=_OTHER_FIELD[field])
        response = await _send(deployment, headers)
    if problem := _problem(response, deployment):
        raise CommandError(problem)
    is_busy = response.status == 429
    text = "it is busy now (429)" if is_busy else f"it works with {deployment.output_field}"
    return TrialResult(deployment.output_field, text)


async def _auth_headers(deployment: Deployment, environment: Mapping[str, str]) -> dict[str, str]:
    if deployment.auth == MANAGED_IDENTITY:
        token = await _own_token(environment.get(UPSTREAM_SCOPE) or DEFAULT_SCOPE)
        return {"authorization": f"Bearer {token}"}
    key = environment.get(deployment.auth, "").strip()
    if not key:
        raise NotTested(
            f"the setting {deployment.auth} is not set here. Set it in your environment, "
            "or test through the app with `manage.py events check`."
        )
    if not (key.isascii() and key.isprintable()):
        raise CommandError(f"the value of {deployment.auth} is not a valid key. Copy the key again.")
    return {"api-key": key}


async def _own_token(scope: str) -> str:
    async with default_credential(None) as credential:
        try:
            return (await credential.get_token(scope)).token
        except AzureError as error:
            raise NotTested(
                "you are not signed in to Azure. Run `az login` or `azd auth login`, "
                "or test through the app with `manage.py events check`."
            ) from error


async def _send(deployment: Deployment, headers: dict[str, str]) -> Response:
    body = {
        "model": deployment.deployment_name,
        "messages": [{"role": "user", "content": "Say: ready"}],
        deployment.output_field: OUTPUT_TOKENS,
    }
    try:
        async with open_session(deployment.endpoint, SECONDS) as session:
            return await send(session, chat_url(deployment), headers, body)
    except NoResponse as reason:
        raise CommandError(f"{reason}. Check the address and your network.") from reason


def _refuses(response: Response, field: str) -> bool:
    code, message, param = response.error
    text = f"{param} {message}"
    is_unsupported = code == "unsupported_parameter" or "unsupported parameter" in text.lower()
    return response.status == 400 and field in text and (is_unsupported or "unrecognized" in text.lower())


def _problem(response: Response, deployment: Deployment) -> str | None:  # noqa: PLR0911 - one for each status
    """What is wrong and what to do; None if the deployment works."""
    name, endpoint = deployment.deployment_name, deployment.endpoint
    code, message, _ = response.error
    text = f"{code} {message}".lower()
    match response.status:
        case 200 if "choices" in response.json:
            return None
        case 400 if _OUTPUT_TOO_SHORT in text:
            return None
        case 429:
            return None
        case 401 | 403:
            return _access_problem(deployment, text)
        case 404 if "deployment" in text or "model" in text:
            return (
                f"there is no deployment {name!r} at {endpoint}. Use the name of the deployment from the "
                "Azure portal, not of the model. A new deployment takes some minutes to work."
            )
        case 404:
            return _version_problem(deployment)
        case 400 if "api version" in text or "api-version" in text:
            return _version_problem(deployment)
        case status if 200 <= status < 400:
            return f"{endpoint} is not an Azure OpenAI resource. Check the address."
        case status:
            return f"the test request returned {status}" + (f": {message[:300]}" if message else ".")


def _access_problem(deployment: Deployment, text: str) -> str:
    endpoint = deployment.endpoint
    if "firewall" in text or "virtual network" in text or "public access" in text:
        return (
            f"the firewall of {endpoint} blocks this machine. If the app can reach it over its own network, "
            "use --no-check."
        )
    if deployment.auth != MANAGED_IDENTITY:
        if "disabled" in text:
            return f"{endpoint} does not accept keys. Use --managed-identity."
        return f"{endpoint} does not accept the key in {deployment.auth}. Use a key of this resource."
    return (
        f"your sign-in has no access to {endpoint}. It needs the role {OPENAI_ROLE}; a new role takes "
        "some minutes to work. If the app's identity has the role, use --no-check, and test through the app "
        "with `manage.py events check`."
    )


def _version_problem(deployment: Deployment) -> str:
    if deployment.api_version == API_V1:
        return (
            f"{deployment.endpoint} has no v1 API. Check that it is an Azure OpenAI endpoint; "
            "for an older resource, use --api-version 2024-10-21."
        )
    version = deployment.api_version
    return f"{deployment.endpoint} does not know the API version {version}. Use --api-version v1."
