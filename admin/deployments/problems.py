"""What is wrong with a deployment, by its response to a test request, and what to do."""

from __future__ import annotations

from admin.http import Response
from shared.core.models import API_V1, MANAGED_IDENTITY, Deployment

OPENAI_ROLE = "Cognitive Services OpenAI User"


def refuses(response: Response, field: str) -> bool:
    """Whether the deployment refuses this field for the output limit."""
    code, message, param = response.error
    text = f"{param} {message}"
    is_unsupported = code == "unsupported_parameter" or "unsupported parameter" in text.lower()
    return response.status == 400 and field in text and (is_unsupported or "unrecognized" in text.lower())


def problem(response: Response, deployment: Deployment) -> str:
    """What is wrong and what to do, for a response that does not show that the deployment works."""
    name, endpoint = deployment.deployment_name, deployment.endpoint
    code, message, _ = response.error
    text = f"{code} {message}".lower()
    match response.status:
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
