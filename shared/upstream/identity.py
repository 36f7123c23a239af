"""The app's own identity, for keyless access.

azure-identity is slow to import, so it is imported only where it is used. Tokens are kept here because its
own cache takes about a millisecond of CPU for each call, four times as much as the rest of the call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from ..core.errors import UpstreamError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.identity.aio import DefaultAzureCredential

_log = logging.getLogger(__name__)

RENEW_BEFORE_SECONDS = 300
"""A token is renewed this long before it expires, and used until the new one is there."""

LEAST_SECONDS = 30
"""A token with less time left is not used: the call may wait in a queue for that long."""

RETRY_SECONDS = 10
"""The time between two tries to renew a token, while the old one is still valid."""


def default_credential(client_id: str | None) -> DefaultAzureCredential:
    """The managed identity in the cloud; the developer's own sign-in on a laptop."""
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - see above

    return DefaultAzureCredential(managed_identity_client_id=client_id)


class IdentityTokens:
    """Bearer tokens for the upstream, each kept until shortly before it expires."""

    def __init__(
        self, scope: str, client_id: str | None, credential: AsyncTokenCredential | None = None
    ) -> None:
        self._scope = scope
        self._client_id = client_id
        self._credential = credential
        self._token: AccessToken | None = None
        self._renewing: asyncio.Task[AccessToken] | None = None
        self._renew_at = 0.0

    async def token(self) -> str:
        """A token that is valid for at least `LEAST_SECONDS`. Waits only if there is none.

        Raises:
            UpstreamError: the identity gives none.
        """
        token, now = self._token, time.time()
        if token is None or token.expires_on <= now + LEAST_SECONDS:
            return (await asyncio.shield(self._renewal())).token
        if now >= self._renew_at:
            self._renewal()
        return token.token

    def _renewal(self) -> asyncio.Task[AccessToken]:
        """The renewal that runs, or a new one. It continues if the call that started it is cancelled."""
        if self._renewing is None:
            self._renew_at = time.time() + RETRY_SECONDS
            self._renewing = asyncio.create_task(self._renew())
            self._renewing.add_done_callback(self._end_renewal)
        return self._renewing

    def _end_renewal(self, renewing: asyncio.Task[AccessToken]) -> None:
        self._renewing = None
        if not renewing.cancelled() and renewing.exception() is None:
            self._renew_at = renewing.result().expires_on - RENEW_BEFORE_SECONDS

    async def _renew(self) -> AccessToken:
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - see above

        self._credential = self._credential or default_credential(self._client_id)
        try:
            self._token = await self._credential.get_token(self._scope)
        except AzureError as error:
            _log.error("the app's identity gave no token for %s", self._scope)
            text = "The proxy could not sign in to the model. Contact your organiser."
            raise UpstreamError(text) from error
        return self._token

    async def close(self) -> None:
        if self._credential is not None:
            await self._credential.close()
