"""Tokens of the app's own identity."""

from __future__ import annotations

import asyncio
import time
from typing import Self

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError

from shared.core.errors import UpstreamError
from shared.upstream.identity import IdentityTokens


class CountingCredential:
    """The part of an azure-identity credential that the app needs. It counts its calls."""

    def __init__(self, seconds: float = 3600) -> None:
        self.calls = 0
        self.seconds = seconds
        self.fails = False

    async def get_token(self, *_: str, **__: object) -> AccessToken:
        self.calls += 1
        await asyncio.sleep(0)
        if self.fails:
            raise ServiceRequestError("no network")
        return AccessToken(f"token-{self.calls}", int(time.time() + self.seconds))

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_concurrent_calls_share_one_renewal() -> None:
    credential = CountingCredential()
    tokens = IdentityTokens("scope", None, credential)
    assert set(await asyncio.gather(*(tokens.token() for _ in range(50)))) == {"token-1"}
    assert await tokens.token() == "token-1" and credential.calls == 1


async def test_an_expiring_token_is_used_while_the_next_is_fetched() -> None:
    credential = CountingCredential(seconds=60)
    tokens = IdentityTokens("scope", None, credential)
    assert await tokens.token() == "token-1"
    credential.seconds = 3600
    assert await tokens.token() == "token-1"
    async with asyncio.timeout(10):
        while await tokens.token() == "token-1":  # noqa: ASYNC110 - it is fetched in the background
            await asyncio.sleep(0)
    assert await tokens.token() == "token-2" and credential.calls == 2


async def test_a_valid_token_is_used_while_renewals_fail_and_renewals_pause() -> None:
    credential = CountingCredential(seconds=60)
    tokens = IdentityTokens("scope", None, credential)
    assert await tokens.token() == "token-1"
    credential.fails = True
    for _ in range(50):
        assert await tokens.token() == "token-1"
        await asyncio.sleep(0)
    assert credential.calls == 2


async def test_a_token_that_is_about_to_expire_is_not_used() -> None:
    credential = CountingCredential(seconds=20)
    tokens = IdentityTokens("scope", None, credential)
    assert [await tokens.token() for _ in range(2)] == ["token-1", "token-2"]
    credential.fails = True
    with pytest.raises(UpstreamError):
        await tokens.token()


async def test_a_missing_token_is_an_upstream_error() -> None:
    credential = CountingCredential()
    credential.fails = True
    with pytest.raises(UpstreamError, match="sign in"):
        await IdentityTokens("scope", None, credential).token()
