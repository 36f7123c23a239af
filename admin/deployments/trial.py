"""Test requests to a deployment, and what they show."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from azure.core.exceptions import AzureError

from admin.deployments.probes import PROBES, is_unsupported, likely_apis
from admin.deployments.problems import problem, refuses
from admin.errors import CommandError
from admin.http import NoResponse, Response, open_session, send
from shared.core.models import API_TITLES, APIS, CHAT, MANAGED_IDENTITY, RESPONSES, Deployment
from shared.core.settings import DEFAULT_SCOPE, UPSTREAM_SCOPE
from shared.upstream.client import url
from shared.upstream.identity import default_credential

SECONDS = 60
_OTHER_FIELD = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_REFUSED_BY = {"max_tokens": "reasoning models", "max_completion_tokens": "old models and API versions"}


class NotTested(Exception):
    """There is no key or sign-in here for a test request."""


class TrialResult(NamedTuple):
    output_field: str
    """The field for the output limit that the deployment accepts."""
    apis: tuple[str, ...]
    """The APIs that it serves, of those that were tried."""
    text: str


async def try_deployment(
    deployment: Deployment,
    environment: Mapping[str, str],
    *,
    apis: Sequence[str] | None,
    may_switch: bool,
) -> TrialResult:
    """Send one request for each of `apis`; without them, find out which APIs the deployment serves.

    With `may_switch`, the other field for the output limit is tried if one is refused.

    Raises:
        CommandError: the deployment does not work, or does not serve one of `apis`.
        NotTested: no key or sign-in is known here.
    """
    await _find_host(deployment.endpoint)
    trial = _Trial(deployment, await _auth_headers(deployment, environment), may_switch=may_switch)
    served = await trial.find() if apis is None else await trial.check(apis)
    field = trial.deployment.output_field
    works = "it is busy now (429)" if trial.is_busy else "it works"
    with_field = f" with {field}" if CHAT in served and not trial.is_busy else ""
    titles = " and ".join(API_TITLES[api] for api in served)
    return TrialResult(field, tuple(served), f"{works}{with_field}, for {titles}")


class _Trial:
    """The requests to one deployment."""

    def __init__(self, deployment: Deployment, headers: dict[str, str], *, may_switch: bool) -> None:
        self.deployment = deployment
        self.is_busy = False
        """Whether a response was a 429. A busy deployment counts as one that works."""
        self._headers = headers
        self._may_switch = may_switch

    async def check(self, apis: Sequence[str]) -> Sequence[str]:
        """`apis`. Raises CommandError if the deployment does not serve one of them."""
        for api in apis:
            response = await self._send(api)
            if self._is_served(api, response):
                continue
            if is_unsupported(response):
                name, title = self.deployment.deployment_name, API_TITLES[api]
                raise CommandError(f"{name} does not serve {title}. Use --apis with those that it serves.")
            raise CommandError(problem(response, self.deployment))
        return apis

    async def find(self) -> Sequence[str]:
        """The APIs that it serves: the likeliest first, and Responses only after chat completions.

        Raises:
            CommandError: it does not work, or serves none.
        """
        for api in likely_apis(self.deployment):
            response = await self._send(api)
            if self._is_served(api, response):
                also = api == CHAT and self._is_served(RESPONSES, await self._send(RESPONSES))
                return (CHAT, RESPONSES) if also else (api,)
            if not is_unsupported(response):
                raise CommandError(problem(response, self.deployment))
        raise CommandError(
            f"{self.deployment.deployment_name} serves none of {', '.join(APIS)}. If you know that it does, "
            "use --apis and --no-check."
        )

    def _is_served(self, api: str, response: Response) -> bool:
        return response.status == 429 or PROBES[api].is_served(response)

    async def _send(self, api: str) -> Response:
        """The response to one request. In chat, with the field for the output limit that is accepted."""
        response = await self._send_once(api)
        field = self.deployment.output_field
        if api == CHAT and refuses(response, field):
            if not self._may_switch:
                raise CommandError(
                    f"{self.deployment.deployment_name} refuses {field}, as {_REFUSED_BY[field]} do. "
                    f"Use --output-field {_OTHER_FIELD[field]}."
                )
            self.deployment = replace(self.deployment, output_field=_OTHER_FIELD[field])
            response = await self._send_once(api)
        self.is_busy |= response.status == 429
        return response

    async def _send_once(self, api: str) -> Response:
        deployment, probe = self.deployment, PROBES[api]
        try:
            async with open_session(deployment.endpoint, SECONDS) as session:
                address = url(probe.api, deployment)
                return await send(session, address, self._headers, probe.body(deployment))
        except NoResponse as reason:
            raise CommandError(f"{reason}. Check the address and your network.") from reason


async def _find_host(endpoint: str) -> None:
    """Raises CommandError if this machine cannot resolve the name, and no network proxy does."""
    address = urlsplit(endpoint)
    host = address.hostname or ""
    if address.scheme in getproxies() and not proxy_bypass(host):
        return
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        raise CommandError(
            f"cannot find the host {host}. Check the address. If only the app can find it, for example in a "
            "private network, use --no-check."
        ) from error


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
