"""One session with the tables for a command. What loads slowly is loaded here, not with the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from admin.faults import Fault, Outage
from admin.target import Target
from shared.core.errors import StoreUnavailable
from shared.core.settings import TABLES, TABLES_URI

if TYPE_CHECKING:
    from admin.tables import Tables

T = TypeVar("T")

ROLE = "Storage Table Data Contributor"


def run(target: Target, work: Callable[[Tables], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, given the tables of `target`.

    Raises:
        Outage, Fault: see `opened`.
    """

    async def session() -> T:
        async with opened(target) as tables:
            return await work(tables)

    return asyncio.run(session())


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Tables]:
    """The tables, made where they are missing.

    Raises:
        Outage: they do not answer.
        Fault: their address cannot be read.
    """
    from admin.tables import Tables
    from shared.tables.service import open_service
    from shared.upstream.identity import default_credential

    keyless = not target.connection_string
    credential = default_credential(target.environment.get("AZURE_CLIENT_ID")) if keyless else None
    try:
        tables = Tables(open_service(target.connection_string, target.uri, credential))
    except ValueError as error:
        raise Fault(_unreadable(target)) from error
    try:
        await tables.create_tables()
        yield tables
    except StoreUnavailable as error:
        raise Outage(f"The tables do not answer: {why(error)}.") from error
    finally:
        await tables.close()
        if credential is not None:
            await credential.close()


def _unreadable(target: Target) -> str:
    if target.connection_string:
        return f"{TABLES} is not a connection string of a storage account."
    return f"{TABLES_URI} is not an address, such as https://ACCOUNT.table.core.windows.net."


_CODES = {
    "AuthorizationPermissionMismatch": f"you lack the role {ROLE} there (a new one works after some minutes)",
    "AuthorizationFailure": "the storage account's firewall does not let this machine in",
    "AuthenticationFailed": "the account key or the signature is wrong, or this machine's clock is",
    "InvalidAuthenticationInfo": "your sign-in is not good there (is it of another tenant?)",
    "KeyBasedAuthenticationNotPermitted": f"it takes no keys; name it in {TABLES_URI} instead",
}


def why(error: StoreUnavailable) -> str:  # noqa: PLR0911 - one line for each
    """The cause in a few words, and what mends it."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ServiceRequestError,
        ServiceRequestTimeoutError,
        ServiceResponseError,
        ServiceResponseTimeoutError,
    )

    from shared.tables.columns import UNREADABLE

    cause = error.__cause__
    code = getattr(cause, "error_code", None) or ""
    code = str(getattr(code, "value", code))  # azure-data-tables has an enumeration of those that it knows
    match cause:
        case HttpResponseError(status_code=None | 0) if isinstance(cause, ClientAuthenticationError):
            return "you are not signed in to Azure (`az login` or `azd auth login` does it)"
        case HttpResponseError(status_code=status):
            told = _CODES.get(code) or (_CODES["AuthorizationPermissionMismatch"] if status == 403 else None)
            return told or f"they say {status} {code}".rstrip()
        case TimeoutError() | ServiceRequestTimeoutError() | ServiceResponseTimeoutError():
            return "they took too long"
        case ServiceResponseError():
            return "they ended the connection"
        case ServiceRequestError():
            return "nothing is to be reached at their address (is it right, and the network there?)"
        case _ if isinstance(cause, UNREADABLE):
            return f"a row in them cannot be read ({type(cause).__name__}: {cause})"
        case _:
            return type(cause).__name__ if cause else "others change the same all the time"
