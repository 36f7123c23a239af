"""The app's own identity, for keyless access.

azure-identity is slow to load, so it is imported only where it is used.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from .errors import UpstreamError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.identity.aio import DefaultAzureCredential

_log = logging.getLogger(__name__)

RENEW_BEFORE_SECONDS = 300


def default_credential(client_id: str | None) -> DefaultAzureCredential:
    """The managed identity in the cloud, the developer's own sign-in on a laptop."""
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - see above

    return DefaultAzureCredential(managed_identity_client_id=client_id)


class IdentityTokens:
    """Bearer tokens for the upstream, each kept until shortly before it ends."""

    def __init__(self, scope: str, client_id: str | None) -> None:
        self._scope = scope
        self._client_id = client_id
        self._credential: DefaultAzureCredential | None = None
        self._token: AccessToken | None = None

    async def token(self) -> str:
        """A token that is good for some minutes more.

        Raises:
            UpstreamError: when the identity gives none.
        """
        if self._token is None or self._token.expires_on < time.time() + RENEW_BEFORE_SECONDS:
            self._token = await self._renew()
        return self._token.token

    async def _renew(self) -> AccessToken:
        from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - as above

        self._credential = self._credential or default_credential(self._client_id)
        try:
            return await self._credential.get_token(self._scope)
        except ClientAuthenticationError as error:
            _log.error("no token for %s: the app has no identity that works here", self._scope)
            raise UpstreamError("The proxy could not sign in to the model. Tell your organiser.") from error

    async def close(self) -> None:
        if self._credential is not None:
            await self._credential.close()
