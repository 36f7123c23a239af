"""`manage.py deployments`: which Azure OpenAI deployment serves which model."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from math import isnan
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from admin import trial
from admin.faults import Fault
from admin.http import LOCAL
from admin.options import Group, as_json, yes
from admin.printing import confirm, note, show, table, tell
from admin.session import run
from admin.target import find
from shared.models import API_V1, MANAGED_IDENTITY, Deployment, Health

if TYPE_CHECKING:
    from shared.tables import Tables

OUTPUT_FIELDS = ("max_completion_tokens", "max_tokens")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"v1|\d{4}-\d{2}-\d{2}(-preview)?")
_PASTED_PATH = re.compile(r"/openai(/v1)?/?$")


@click.group(cls=Group, short_help="Which Azure OpenAI deployment serves which model.")
def deployments() -> None:
    """Deployments: which Azure OpenAI deployment serves which model."""


_price = click.FloatRange(0, 1_000_000)


@deployments.command("add")
@click.argument("model")
@click.option("--endpoint", required=True, help="Such as https://NAME.openai.azure.com.")
@click.option("--deployment", required=True, help="The deployment's name in Azure.")
@click.option("--key-env", metavar="VAR", help="The app's setting that holds the key.")
@click.option("--managed-identity", is_flag=True, help="Keyless: the app's own identity. The default.")
@click.option("--api-version", default=API_V1, show_default=True, help="v1, or a version such as 2024-10-21.")
@click.option("--output-field", type=click.Choice(OUTPUT_FIELDS), help="How it takes an output cap.")
@click.option("--priority", type=click.IntRange(0, 1000), default=1, show_default=True, help="Lowest first.")
@click.option("--weight", type=click.IntRange(1, 1000), default=1, show_default=True, help="Among equals.")
@click.option(
    "--prompt-price", type=_price, metavar="P", help="Of 1,000,000 prompt tokens, in your currency."
)
@click.option("--completion-price", type=_price, metavar="P", help="Of 1,000,000 completion tokens.")
@click.option("--no-check", is_flag=True, help="Do not try it before it is added.")
@as_json
def add_deployment(model: str, key_env: str | None, as_json: bool, **rest: Any) -> None:
    """Let an Azure OpenAI deployment serve MODEL; the same again replaces it.

    It is tried with one small call first, and not added where that fails: with the key, if the setting VAR is
    set here too, or with your own Azure sign-in.

    Example: manage.py deployments add gpt-4o-mini --endpoint https://NAME.openai.azure.com
    --deployment gpt-4o-mini --managed-identity
    """
    if key_env is not None and rest["managed_identity"]:
        raise Fault("Give --key-env or --managed-identity, not both.")
    prices = rest["prompt_price"], rest["completion_price"]
    if None in prices and prices != (None, None):
        raise Fault("Give --prompt-price and --completion-price together, or neither.")
    if any(price is not None and isnan(price) for price in prices):
        raise Fault("--prompt-price and --completion-price are numbers.")
    added = _described(model, key_env, **rest)
    check(added)
    target = find()
    told = "not tried, as you said"
    if not rest["no_check"]:
        may_switch = rest["output_field"] is None
        added, worked, told = asyncio.run(trial.tried(added, target.environment, may_switch=may_switch))
        if not worked:
            note(f"it was not tried: {told}.")
            told = "not tried"
    added = run(target, lambda tables: _put(tables, added))
    tell(
        asdict(added),
        as_json,
        lambda: f"{model} is served by {added.deployment_name} at {added.endpoint} ({told}).",
    )


async def _put(tables: Tables, added: Deployment) -> Deployment:
    """In place of the row of the same deployment, whatever id that has."""
    same = (added.model, added.endpoint.lower(), added.deployment_name)
    for one in await tables.deployments():
        if (one.model, one.endpoint.lower(), one.deployment_name) == same:
            added = replace(added, id=one.id)
    await tables.put_deployment(added)
    return added


def _described(model: str, key_env: str | None, *, endpoint: str, deployment: str, **rest: Any) -> Deployment:
    address = _PASTED_PATH.sub("", endpoint.strip()).rstrip("/")
    fields = ("api_version", "priority", "weight", "prompt_price", "completion_price")
    return Deployment(
        model=model,
        id=_deployment_id(address, deployment),
        endpoint=address,
        deployment_name=deployment,
        auth=MANAGED_IDENTITY if key_env is None else key_env,
        output_field=rest["output_field"] or _output_field(rest["api_version"]),
        **{name: rest[name] for name in fields},
    )


@deployments.command("list")
@as_json
def list_deployments(as_json: bool) -> None:
    """List the deployments, with how the app last saw each."""
    found, health = run(find(), _read_all)
    found.sort(key=lambda one: (one.model, one.priority, one.deployment_name, one.endpoint))
    if as_json or not found:
        told = [asdict(one) | {"health": _health_fields(health.get((one.model, one.id)))} for one in found]
        tell(told, as_json, lambda: "None.")
        return
    columns = ("model", "deployment", "endpoint", "prio", "weight", "auth", "price", "active", "last seen")
    rows = [_line(one, health.get((one.model, one.id)), datetime.now(UTC)) for one in found]
    show(table(columns, rows, numbers=("prio", "weight")))


async def _read_all(tables: Tables) -> tuple[list[Deployment], dict[tuple[str, str], Health]]:
    return await tables.deployments(), await tables.health()


def _line(one: Deployment, health: Health | None, now: datetime) -> tuple[str, ...]:
    priced = one.prompt_price is not None and one.completion_price is not None
    price = f"{one.prompt_price:g} / {one.completion_price:g}" if priced else "-"
    auth = one.auth if one.auth == MANAGED_IDENTITY else f"key in {one.auth}"
    fixed = (one.model, one.deployment_name, one.endpoint, str(one.priority), str(one.weight))
    return (*fixed, auth, price, "yes" if one.active else "no", _health_text(health, now))


def _health_text(health: Health | None, now: datetime) -> str:
    if health is None:
        return "not yet"
    cooling = health.cooling_until is not None and health.cooling_until > now
    return f"{health.status}, {_ago(health.seen_at, now)}" + (", cooling down" if cooling else "")


def _ago(at: datetime, now: datetime) -> str:
    seconds = max(0, int((now - at).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _health_fields(health: Health | None) -> dict[str, str | None] | None:
    if health is None:
        return None
    until = health.cooling_until.isoformat() if health.cooling_until else None
    return {"seen_at": health.seen_at.isoformat(), "status": health.status, "cooling_until": until}


@deployments.command("disable")
@click.argument("model")
@click.argument("deployment")
@as_json
def disable_deployment(model: str, deployment: str, as_json: bool) -> None:
    """Send nothing more to DEPLOYMENT of MODEL."""
    _switch(model, deployment, as_json, active=False)


@deployments.command("enable")
@click.argument("model")
@click.argument("deployment")
@as_json
def enable_deployment(model: str, deployment: str, as_json: bool) -> None:
    """Let DEPLOYMENT serve MODEL again."""
    _switch(model, deployment, as_json, active=True)


def _switch(model: str, name: str, as_json: bool, *, active: bool) -> None:
    async def switch(tables: Tables) -> Deployment:
        one = await _one(tables, model, name)
        await tables.switch_deployment(one, active=active)
        return replace(one, active=active)

    one = run(find(), switch)
    told = "serves {} again" if active else "no longer serves {}"
    text = (
        f"{one.deployment_name} at {one.endpoint} {told.format(model)}, within the app's PROXY_CACHE_SECONDS."
    )
    tell(asdict(one), as_json, lambda: text)


@deployments.command("delete")
@click.argument("model")
@click.argument("deployment")
@yes
@as_json
def delete_deployment(model: str, deployment: str, yes: bool, as_json: bool) -> None:
    """Remove DEPLOYMENT of MODEL from the tables; in Azure it stays."""
    target = find()
    one = run(target, lambda tables: _one(tables, model, deployment))
    confirm(f"Remove {one.deployment_name} at {one.endpoint} from {model}?", yes)
    run(target, lambda tables: tables.delete_deployment(one))
    told = f"{one.deployment_name} at {one.endpoint} no longer serves {model}; in Azure it is still there."
    tell(asdict(one), as_json, lambda: told)


async def _one(tables: Tables, model: str, name: str) -> Deployment:
    """The one deployment of that name, or id."""
    there = [one for one in await tables.deployments() if one.model == model]
    found = [one for one in there if one.id == name] or [one for one in there if one.deployment_name == name]
    if not found:
        raise Fault(f"No deployment {name!r} serves {model!r}. `manage.py deployments list` shows them.")
    if len(found) > 1:
        ids = ", ".join(f"{one.id} (at {one.endpoint})" for one in found)
        raise Fault(f"{name!r} of {model!r} is at several endpoints. Name one of them by its id: {ids}.")
    return found[0]


def check(deployment: Deployment) -> None:
    """Raises Fault where it cannot be a deployment."""
    from shared.rows import PRIVATE_SETTINGS

    _check_endpoint(deployment.endpoint)
    if not _NAME.fullmatch(deployment.model) or not _NAME.fullmatch(deployment.deployment_name):
        raise Fault("A model or deployment name has 1 to 64 letters, digits, '-', '_' or '.'.")
    if not _VERSION.fullmatch(deployment.api_version):
        raise Fault("--api-version is v1 or a date such as 2024-10-21.")
    if deployment.auth != MANAGED_IDENTITY and not _SETTING.fullmatch(deployment.auth):
        raise Fault("--key-env takes the name of the setting that holds the key, never the key itself.")
    if deployment.auth.upper().startswith(PRIVATE_SETTINGS):
        raise Fault(
            f"{deployment.auth} is a setting of the app's own, and no key: name another in --key-env."
        )


def _check_endpoint(endpoint: str) -> None:
    example = "--endpoint must be an https address, such as https://NAME.openai.azure.com."
    try:
        address = urlsplit(endpoint)
        port = address.port
    except ValueError as error:
        raise Fault(example) from error
    scheme_is_right = address.scheme == "https" or (address.scheme == "http" and address.hostname in LOCAL)
    if not address.hostname or not scheme_is_right or port == 0:
        raise Fault(example)
    if address.username or address.password or address.query or address.fragment:
        raise Fault("--endpoint is the address of the resource alone, such as https://NAME.openai.azure.com.")


def _deployment_id(endpoint: str, deployment: str) -> str:
    """Always the same. The endpoint is hashed: the id stands in the app's log, where no host may."""
    return f"{deployment}-{hashlib.sha256(endpoint.rstrip('/').lower().encode()).hexdigest()[:8]}"


def _output_field(api_version: str) -> str:
    """`max_completion_tokens` came with the versions of autumn 2024."""
    return "max_tokens" if api_version != API_V1 and api_version < "2024-09" else "max_completion_tokens"
