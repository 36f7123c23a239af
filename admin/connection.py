"""The connection to the tables, and what to do when it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)

from admin.errors import CommandError
from admin.tables import Tables
from admin.target import Target
from shared.core.errors import StoreUnavailable
from shared.core.settings import TABLES, TABLES_URI
from shared.tables.service import open_service
from shared.upstream.identity import default_credential

ROLE = "Storage Table Data Contributor"


@asynccontextmanager
async def open_tables(target: Target) -> AsyncIterator[Tables]:
    """The tables of `target`. Missing ones are created. Raises CommandError if they cannot be used."""
    credential = None
    if not target.connection_string:
        credential = default_credential(target.environment.get("AZURE_CLIENT_ID"))
    try:
        tables = Tables(open_service(target.connection_string, target.uri, credential))
    except ValueError as error:
        raise CommandError(_invalid_address(target)) from error
    try:
        await tables.create_tables()
        yield tables
    except StoreUnavailable as error:
        raise CommandError(explain(error, tables.url)) from error
    finally:
        await tables.close()
        if credential is not None:
            await credential.close()


def _invalid_address(target: Target) -> str:
    if target.connection_string:
        return f"{TABLES} is not a valid connection string. Copy it from the storage account."
    return f"{TABLES_URI} is not a valid address. Use https://ACCOUNT.table.core.windows.net."


_BY_CODE = {
    "AuthorizationPermissionMismatch": f"your account lacks the role {ROLE}. "
    "Assign it on the storage account; a new role takes some minutes to work.",
    "AuthorizationFailure": "the storage account's firewall blocks this machine. Add its IP address to "
    "ADMIN_IP_ADDRESSES, or work from inside the network.",
    "AuthenticationFailed": "the account key or the signature is wrong. Check it, and this machine's clock.",
    "InvalidAuthenticationInfo": "the storage account refuses your sign-in. Sign in to its tenant.",
    "KeyBasedAuthenticationNotPermitted": f"the storage account accepts no keys. Set {TABLES_URI} instead.",
}


def explain(error: StoreUnavailable, url: str) -> str:
    """Say why the tables cannot be used, and what to do."""
    return f"Cannot access the tables: {_explain(error.__cause__, url)}"


def _explain(cause: BaseException | None, url: str) -> str:  # noqa: PLR0911 - one for each cause
    code = getattr(cause, "error_code", None) or ""
    code = str(getattr(code, "value", code))  # azure-data-tables has an enumeration for known codes
    match cause:
        case HttpResponseError(status_code=None | 0) if isinstance(cause, ClientAuthenticationError):
            return "you are not signed in to Azure. Run `az login` or `azd auth login`."
        case HttpResponseError(status_code=403):
            return _BY_CODE.get(code, _BY_CODE["AuthorizationPermissionMismatch"])
        case HttpResponseError(status_code=status):
            return _BY_CODE.get(code, f"{url} returned {status} {code}".rstrip() + ". Try again.")
        case TimeoutError() | ServiceRequestTimeoutError() | ServiceResponseTimeoutError():
            return f"{url} did not respond in time. Try again."
        case ServiceResponseError():
            return f"{url} closed the connection. Try again."
        case ServiceRequestError():
            return f"cannot connect to {url}. Check the address and your network."
        case None:
            return "the same row keeps changing. Try again."
        case _:
            return f"{type(cause).__name__}. Try again."
