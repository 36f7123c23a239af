"""What a deployment must be, and how options become one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from admin.faults import Fault
from admin.http import LOCAL
from shared.core.models import API_V1, MANAGED_IDENTITY, Deployment

EXAMPLE = "https://NAME.openai.azure.com"

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[0-9a-fA-F]{32}|[A-Za-z0-9]{50,}")
"""As Azure OpenAI makes them: 32 hexadecimal digits, or 84 letters and digits."""

_VERSION = re.compile(r"v1|\d{4}-\d{2}-\d{2}(-preview)?")
_HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9a-f:]+")
_PASTED_PATH = re.compile(r"/openai(/.*)?(\?.*)?/?$")
"""What the portal's "Target URI" has behind the address of the resource."""


def new(model: str, endpoint: str, deployment: str, taken: Collection[str] = ()) -> Deployment:
    """A deployment with nothing but defaults, and an id that is not `taken` by another of the model.

    Raises:
        Fault: a name or the endpoint cannot be one.
    """
    address = _address(endpoint)
    _check_name("model", model)
    _check_name("deployment", deployment)
    return Deployment(model, _free_id(address, deployment, taken), address, deployment)


def _free_id(endpoint: str, deployment: str, taken: Collection[str]) -> str:
    """The endpoint is hashed: the id stands in the app's log, where no host may."""
    first = f"{deployment}-{hashlib.sha256(endpoint.lower().encode()).hexdigest()[:8]}"
    number, found = 1, first
    while found in taken:  # by one that was there, and whose endpoint was changed
        number += 1
        found = f"{first}-{number}"
    return found


def changed(deployment: Deployment, given: dict[str, Any]) -> Deployment:
    """The deployment with the options that were given; those that are None or False were not.

    Raises:
        Fault: it would be none.
    """
    after = with_options(deployment, given)
    if (after.prompt_price is None) != (after.completion_price is None):
        raise Fault("Give --prompt-price and --completion-price together, or neither.")
    return after


def with_options(deployment: Deployment, given: dict[str, Any]) -> Deployment:
    """Likewise, where one half of the price may still be missing.

    Raises:
        Fault: an option is wrong by itself.
    """
    named = {name: value for name, value in given.items() if value is not None and value is not False}
    for one, other in _EXCLUDING:
        if one in named and other in named:
            raise Fault(f"Give {_option(one)} or {_option(other)}, not both.")
    if named.pop("managed_identity", False):
        named["auth"] = MANAGED_IDENTITY
    if "key_env" in named:
        named["auth"] = _setting(named.pop("key_env"))
    if "endpoint" in named:
        named["endpoint"] = _address(named["endpoint"])
    if named.pop("no_price", False):
        named |= {"prompt_price": None, "completion_price": None}
    version = named.get("api_version", deployment.api_version)
    if version != deployment.api_version:
        if not _VERSION.fullmatch(version):
            raise Fault("--api-version is v1 or a date such as 2024-10-21.")
        named.setdefault("output_field", _output_field(version))
    return replace(deployment, **named)


_EXCLUDING = (
    ("key_env", "managed_identity"),
    ("prompt_price", "no_price"),
    ("completion_price", "no_price"),
)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Fault(f"{name!r} cannot be a {what}'s name: 1 to 64 letters, digits, '-', '_' or '.'.")


def _setting(name: str) -> str:
    from shared.tables.deployment_rows import PRIVATE_SETTINGS

    if not _SETTING.fullmatch(name) or _KEY.fullmatch(name):
        raise Fault("--key-env takes the name of the setting that holds the key, never the key itself.")
    if name.upper().startswith(PRIVATE_SETTINGS):
        raise Fault(f"{name} is a setting of the app's own, and no key: name another in --key-env.")
    return name


def _address(endpoint: str) -> str:
    """The endpoint as it is kept: without what the portal shows behind it, and without a slash at its end."""
    fault = Fault(f"--endpoint must be an https address, such as {EXAMPLE}.")
    try:
        address = urlsplit(_PASTED_PATH.sub("", endpoint.strip()).rstrip("/"))
        port = address.port
    except ValueError as error:
        raise fault from error
    scheme_is_right = address.scheme == "https" or (address.scheme == "http" and address.hostname in LOCAL)
    if not scheme_is_right or not _HOST.fullmatch(address.hostname or "") or port == 0:
        raise fault
    if address.username or address.password or address.query or address.fragment:
        raise Fault(f"--endpoint is the address of the resource alone, such as {EXAMPLE}.")
    return address.geturl()


def _output_field(api_version: str) -> str:
    """`max_completion_tokens` came with the versions of autumn 2024."""
    return "max_tokens" if api_version != API_V1 and api_version < "2024-09" else "max_completion_tokens"
