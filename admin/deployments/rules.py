"""Turns options into a deployment, and checks it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from admin.errors import CommandError
from admin.options import option_name, split_names
from admin.target import LOCAL_HOSTS
from shared.core.models import (
    API_V1,
    APIS,
    DEFAULT_APIS,
    EMBEDDINGS,
    IMAGES,
    MANAGED_IDENTITY,
    Deployment,
)

EXAMPLE = "https://NAME.openai.azure.com"

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[0-9a-fA-F]{32}|[A-Za-z0-9]{50,}")
"""The forms of Azure OpenAI's keys: 32 hexadecimal digits, or 84 letters and digits."""

_VERSION = re.compile(r"v1|\d{4}-\d{2}-\d{2}(-preview)?")
_PLACEHOLDER = re.compile(
    r".*[<>{}$].*|x{3,}|example|contoso|name|(my|the)?[-_]?(resource|account|endpoint)([-_]?name)?"
    r"|your([-_].*|(azure|openai|resource|account|endpoint|deployment|model|company|app|name).*)?",
    re.IGNORECASE,
)
"""How documents and samples write a name that the reader must replace."""
_EXAMPLE_HOST = re.compile(r"(.*\.)?example(\.(com|net|org|edu))?", re.IGNORECASE)
"""Hosts that are reserved for examples (RFC 2606)."""

_PASTED_PATH = re.compile(r"/openai(/.*)?(\?.*)?/?$")
"""The path that the portal's "Target URI" adds to the address of the resource."""

_SIGNS = {EMBEDDINGS: ("embed", "ada-002"), IMAGES: ("image", "dall-e", "dalle", "flux")}
"""Parts of the names of models."""

_NOT_TOGETHER = (
    ("key_env", "managed_identity"),
    ("prompt_price", "no_price"),
    ("completion_price", "no_price"),
    ("cached_prompt_price", "no_price"),
    ("long_prices", "no_price"),
    ("prompt_price", "free"),
    ("completion_price", "free"),
    ("cached_prompt_price", "free"),
    ("long_prices", "free"),
    ("no_price", "free"),
)
_PRICES = ("prompt_price", "completion_price", "cached_prompt_price", "long_prices")


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


def parse_apis(text: str) -> tuple[str, ...]:
    """Comma-separated names of APIs, in the order of `APIS`. Raises CommandError for any other name."""
    names = {name.lower() for name in split_names(text)}
    if unknown := sorted(names.difference(APIS)):
        raise CommandError(f"--apis {unknown[0]!r} is no API. Use some of: {', '.join(APIS)}.")
    if not names:
        raise CommandError(f"--apis must name an API. Use some of: {', '.join(APIS)}.")
    return tuple(api for api in APIS if api in names)


def apis_by_name(deployment: Deployment) -> tuple[str, ...]:
    """What the deployment probably serves, by the names of its model and its own."""
    name = f"{deployment.model} {deployment.deployment_name}".lower()
    found = [api for api, signs in _SIGNS.items() if any(sign in name for sign in signs)]
    return tuple(found[:1]) or DEFAULT_APIS


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
        given |= dict.fromkeys(_PRICES)
    if given.pop("free", False):
        given |= dict.fromkeys(_PRICES) | {"prompt_price": Decimal(0), "completion_price": Decimal(0)}
    elif zero := next((name for name in ("prompt_price", "completion_price") if given.get(name) == 0), None):
        raise CommandError(
            f"{option_name(zero)} 0 would make calls free in an event with a budget. If they are, use --free."
        )
    if isinstance(given.get("apis"), str):
        given["apis"] = parse_apis(given["apis"])
    version = given.get("api_version", deployment.api_version)
    if version != deployment.api_version:
        if not _VERSION.fullmatch(version):
            raise CommandError("--api-version must be v1 or a version such as 2024-10-21.")
        given.setdefault("output_field", _default_output_field(version))
    changed = replace(deployment, **given)
    _check_prices(changed)
    return changed


def _check_prices(deployment: Deployment) -> None:
    prompt, completion = deployment.prompt_price, deployment.completion_price
    if deployment.has_completions and (prompt is None) != (completion is None):
        raise CommandError("Use --prompt-price and --completion-price together.")
    others = ("cached_prompt_price", "long_prices")
    if prompt is None and (alone := [name for name in others if getattr(deployment, name) is not None]):
        raise CommandError(f"Use {option_name(alone[0])} only together with --prompt-price.")


_COLUMNS = {
    "key_env": {"auth"},
    "managed_identity": {"auth"},
    "no_price": set(_PRICES),
    "free": set(_PRICES),
    "api_version": {"api_version", "output_field"},
}
"""Of the options that do not set just the column of their name."""


def replaced_columns(options: dict[str, Any]) -> set[str]:
    """The columns to which `change_deployment` gives a value that does not depend on their old one."""
    given = [name for name, value in options.items() if value is not None and value is not False]
    return set().union(*(_COLUMNS.get(name, {name}) for name in given))


def _check_name(kind: str, name: str) -> None:
    if _PLACEHOLDER.fullmatch(name):
        raise CommandError(f"{name!r} is a placeholder. Use the name of the {kind}.")
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
    from shared.tables.deployment_rows import HOST

    invalid = CommandError(f"--endpoint must be an https address, such as {EXAMPLE}.")
    try:
        address = urlsplit(_PASTED_PATH.sub("", endpoint.strip()).rstrip("/"))
        port = address.port
    except ValueError as error:
        raise invalid from error
    host = address.hostname or ""
    if _PLACEHOLDER.fullmatch(host.partition(".")[0]) or _EXAMPLE_HOST.fullmatch(host):
        raise CommandError(
            f"--endpoint {endpoint} is a placeholder. Use the address of your Azure OpenAI resource, which "
            "the Azure portal shows under Keys and Endpoint."
        )
    is_secure = address.scheme == "https" or (address.scheme == "http" and address.hostname in LOCAL_HOSTS)
    if not is_secure or not HOST.fullmatch(host) or port == 0:
        raise invalid
    if address.username or address.password or address.query or address.fragment:
        raise CommandError(f"--endpoint must be only the address of the resource, such as {EXAMPLE}.")
    return address.geturl()


def _default_output_field(api_version: str) -> str:
    """`max_completion_tokens` exists since the versions of autumn 2024."""
    return "max_tokens" if api_version != API_V1 and api_version < "2024-09" else "max_completion_tokens"
