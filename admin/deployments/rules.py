"""Turns options into a deployment, and checks it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from admin.errors import CommandError
from admin.options import option_name
from admin.target import LOCAL_HOSTS
from shared.core.models import API_V1, MANAGED_IDENTITY, Deployment

EXAMPLE = "https://NAME.openai.azure.com"

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[0-9a-fA-F]{32}|[A-Za-z0-9]{50,}")
"""The forms of Azure OpenAI's keys: 32 hexadecimal digits, or 84 letters and digits."""

_VERSION = re.compile(r"v1|\d{4}-\d{2}-\d{2}(-preview)?")
_HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9a-f:]+")
_PASTED_PATH = re.compile(r"/openai(/.*)?(\?.*)?/?$")
"""The path that the portal's "Target URI" adds to the address of the resource."""

_NOT_TOGETHER = (
    ("key_env", "managed_identity"),
    ("prompt_price", "no_price"),
    ("completion_price", "no_price"),
)


def new_deployment(model: str, endpoint: str, deployment: str, taken: Collection[str] = ()) -> Deployment:
    """A deployment with default values, and an id that is not in `taken`."""
    address = _parse_endpoint(endpoint)
    _check_name("model", model)
    _check_name("deployment", deployment)
    return Deployment(model, _free_id(address, deployment, taken), address, deployment)


def _free_id(endpoint: str, deployment: str, taken: Collection[str]) -> str:
    """The endpoint is hashed, because the id is in the app's log, which must not name a host."""
    first = f"{deployment}-{hashlib.sha256(endpoint.lower().encode()).hexdigest()[:8]}"
    number, found = 1, first
    while found in taken:  # a deployment that moved to another endpoint keeps its id
        number += 1
        found = f"{first}-{number}"
    return found


def change_deployment(deployment: Deployment, options: dict[str, Any]) -> Deployment:
    """The deployment with these options. Options that are None or False change nothing.

    Raises:
        CommandError: the options or the result are not valid.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    for one, other in _NOT_TOGETHER:
        if one in given and other in given:
            raise CommandError(f"Use {option_name(one)} or {option_name(other)}, not both.")
    if given.pop("managed_identity", False):
        given["auth"] = MANAGED_IDENTITY
    if "key_env" in given:
        given["auth"] = _check_setting(given.pop("key_env"))
    if "endpoint" in given:
        given["endpoint"] = _parse_endpoint(given["endpoint"])
    if given.pop("no_price", False):
        given |= {"prompt_price": None, "completion_price": None}
    version = given.get("api_version", deployment.api_version)
    if version != deployment.api_version:
        if not _VERSION.fullmatch(version):
            raise CommandError("--api-version must be v1 or a version such as 2024-10-21.")
        given.setdefault("output_field", _default_output_field(version))
    changed = replace(deployment, **given)
    if (changed.prompt_price is None) != (changed.completion_price is None):
        raise CommandError("Use --prompt-price and --completion-price together.")
    return changed


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise CommandError(
            f"{name!r} is not a valid {kind} name. Use 1 to 64 letters, digits, '-', '_' or '.'."
        )


def _check_setting(name: str) -> str:
    from shared.tables.deployment_rows import PRIVATE_SETTINGS

    if not _SETTING.fullmatch(name) or _KEY.fullmatch(name):
        raise CommandError("--key-env must name the setting that holds the key. Do not use the key itself.")
    if name.upper().startswith(PRIVATE_SETTINGS):
        raise CommandError(f"{name} is a setting of the app itself. Use --key-env with another setting.")
    return name


def _parse_endpoint(endpoint: str) -> str:
    """The address without a path that was pasted from the portal, and without a slash at its end."""
    invalid = CommandError(f"--endpoint must be an https address, such as {EXAMPLE}.")
    try:
        address = urlsplit(_PASTED_PATH.sub("", endpoint.strip()).rstrip("/"))
        port = address.port
    except ValueError as error:
        raise invalid from error
    is_secure = address.scheme == "https" or (address.scheme == "http" and address.hostname in LOCAL_HOSTS)
    if not is_secure or not _HOST.fullmatch(address.hostname or "") or port == 0:
        raise invalid
    if address.username or address.password or address.query or address.fragment:
        raise CommandError(f"--endpoint must be only the address of the resource, such as {EXAMPLE}.")
    return address.geturl()


def _default_output_field(api_version: str) -> str:
    """`max_completion_tokens` exists since the versions of autumn 2024."""
    return "max_tokens" if api_version != API_V1 and api_version < "2024-09" else "max_completion_tokens"
