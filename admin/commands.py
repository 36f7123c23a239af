"""The commands of `manage.py`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from admin import times
from admin.faults import Fault
from admin.target import Target, find, opened
from shared.credentials import is_event_code
from shared.models import API_V1, MANAGED_IDENTITY, Deployment, Event
from shared.request import OUTPUT_FIELDS
from shared.rows import LIMITS
from shared.tables import AlreadyExists, Tables

_MODEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"v1|\d{4}-\d{2}-\d{2}(-preview)?")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

LARGEST_LIMIT = 10**12

T = TypeVar("T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Administers events and deployments.

    Talks to the tables that the environment, .env or local.settings.json name; with nothing set,
    to those of the `python3 dev.py run` that is running here.
    """


@main.group()
def events() -> None:
    """Events: who may call, when, and how much."""


@main.group()
def deployments() -> None:
    """Deployments: which Azure OpenAI deployment serves which model."""


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(LIMITS):
        option = click.option(f"--{name.replace('_', '-')}", type=click.IntRange(0, LARGEST_LIMIT))
        command = option(command)
    return command


@events.command("create")
@click.argument("code")
@click.option("--name", required=True, help="What the event is called.")
@click.option("--starts", required=True, help='Such as "2026-12-01 09:00", in the event\'s time zone.')
@click.option("--ends", required=True, help="Likewise.")
@click.option("--time-zone", default="UTC", show_default=True, help="IANA name, such as Europe/Berlin.")
@click.option("--organizer", default="", help="Whom attendees should ask.")
@click.option("--models", default="", help="Comma-separated; without it, every deployed model.")
@click.option("--default-model", help="For calls that name none; without it, the first of --models.")
@_limits
@_JSON
def create_event(
    code: str, starts: str, ends: str, time_zone: str, models: str, as_json: bool, **rest: Any
) -> None:
    """Create the event CODE. Attendees then call as CODE/THEIR-GITHUB-NAME.

    Example: manage.py events create winter-hack --name "Winter Hack" --starts "2026-12-01 09:00"
    --ends "2026-12-03 18:00" --time-zone Europe/Berlin --models gpt-4o-mini --max-output-tokens 800
    """
    zone = times.zone(time_zone)
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    rest["default_model"] = rest["default_model"] or (names[0] if names else None)
    event = Event(
        code=code.strip().lower(),
        starts_at=times.moment(starts, zone),
        ends_at=times.moment(ends, zone),
        time_zone=zone,
        models=names,
        **rest,
    )
    _check_event(event)
    target = find()
    _run(target, lambda tables: _add_event(tables, event))
    _print(_event_fields(event), as_json, lambda: _handed_out(event, target))


@events.command("list")
@_JSON
def list_events(as_json: bool) -> None:
    """List the events."""
    found = _run(find(), lambda tables: tables.events())
    _print(
        [_event_fields(event) for event in found],
        as_json,
        lambda: "\n".join(map(_event_line, found)) or "None.",
    )


@events.command("show")
@click.argument("code")
@_JSON
def show_event(code: str, as_json: bool) -> None:
    """Show the event CODE."""
    event = _run(find(), lambda tables: _event(tables, code))
    fields = _event_fields(event)
    _print(fields, as_json, lambda: "\n".join(f"{name:20} {value}" for name, value in fields.items()))


@events.command("update")
@click.argument("code")
@click.option("--name")
@click.option("--starts")
@click.option("--ends")
@click.option("--time-zone", help="IANA name, such as Europe/Berlin.")
@click.option("--organizer")
@click.option("--models", help="Comma-separated; empty for every deployed model.")
@click.option("--default-model")
@_limits
@click.option("--no-limit", multiple=True, type=click.Choice([name.replace("_", "-") for name in LIMITS]))
@click.option("--resume", is_flag=True, help="Open it again after `events stop`.")
@_JSON
def update_event(code: str, as_json: bool, **changes: Any) -> None:
    """Change the event CODE while it runs: what you name, and nothing else."""
    updated = _run(find(), lambda tables: _update_event(tables, code, changes))
    told = f"The event {updated.code!r} is changed. It takes effect within the app's PROXY_CACHE_SECONDS."
    _print(_event_fields(updated), as_json, lambda: told)


@events.command("stop")
@click.argument("code")
@_JSON
def stop_event(code: str, as_json: bool) -> None:
    """Close the event CODE now. `events update CODE --resume` opens it again."""
    stopped = _run(
        find(), lambda tables: _change_event(tables, code, lambda event: replace(event, active=False))
    )
    told = f"The event {stopped.code!r} ends within the app's PROXY_CACHE_SECONDS (30, unless set)."
    _print(_event_fields(stopped), as_json, lambda: told)


@events.command("delete")
@click.argument("code")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_event(code: str, yes: bool) -> None:
    """Remove the event CODE. Its quota rows stay."""
    target = find()
    event = _run(target, lambda tables: _event(tables, code))
    if not yes:
        click.confirm(f"Remove the event {event.name!r} for good?", abort=True)
    _run(target, lambda tables: tables.delete_event(event.code))
    click.echo(f"The event {event.code!r} is removed.")


@deployments.command("add")
@click.argument("model")
@click.option("--endpoint", required=True, help="Such as https://NAME.openai.azure.com.")
@click.option("--deployment", required=True, help="The deployment's name in Azure.")
@click.option("--key-env", metavar="VAR", help="The app's setting that holds the key.")
@click.option("--managed-identity", is_flag=True, help="Keyless: the app's own identity. The default.")
@click.option("--api-version", default=API_V1, show_default=True, help="v1, or a version such as 2024-10-21.")
@click.option("--output-field", type=click.Choice(OUTPUT_FIELDS), help="How it takes an output cap.")
@click.option("--priority", type=click.IntRange(0, 1000), default=1, show_default=True, help="Lowest first.")
@click.option("--weight", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--no-check", is_flag=True, help="Do not try it. (Trying it is not built yet.)")
@_JSON
def add_deployment(
    model: str, endpoint: str, deployment: str, key_env: str | None, as_json: bool, **rest: Any
) -> None:
    """Let an Azure OpenAI deployment serve MODEL; the same again replaces it.

    Example: manage.py deployments add gpt-4o-mini --endpoint https://NAME.openai.azure.com
    --deployment gpt-4o-mini --managed-identity
    """
    if key_env and rest["managed_identity"]:
        raise Fault("Give --key-env or --managed-identity, not both.")
    added = Deployment(
        model=model,
        id=_deployment_id(endpoint, deployment),
        endpoint=endpoint.rstrip("/"),
        deployment_name=deployment,
        api_version=rest["api_version"],
        auth=key_env or MANAGED_IDENTITY,
        priority=rest["priority"],
        weight=rest["weight"],
        output_field=rest["output_field"] or _output_field(rest["api_version"]),
    )
    _check_deployment(added)
    _run(find(), lambda tables: tables.put_deployment(added))
    _print(asdict(added), as_json, lambda: f"{model} is served by {deployment} at {added.endpoint}.")


@deployments.command("list")
@_JSON
def list_deployments(as_json: bool) -> None:
    """List the deployments."""
    found = _run(find(), lambda tables: tables.deployments())
    lines = (
        f"{one.model:24} {one.deployment_name:24} {one.endpoint}  priority {one.priority}" for one in found
    )
    _print([asdict(one) for one in found], as_json, lambda: "\n".join(lines) or "None.")


@deployments.command("disable")
@click.argument("model")
@click.argument("deployment")
def disable_deployment(model: str, deployment: str) -> None:
    """Send nothing more to DEPLOYMENT of MODEL."""
    _run(find(), lambda tables: _switch(tables, model, deployment, active=False))
    click.echo(f"{deployment} no longer serves {model}.")


@deployments.command("enable")
@click.argument("model")
@click.argument("deployment")
def enable_deployment(model: str, deployment: str) -> None:
    """Let DEPLOYMENT serve MODEL again."""
    _run(find(), lambda tables: _switch(tables, model, deployment, active=True))
    click.echo(f"{deployment} serves {model} again.")


@deployments.command("delete")
@click.argument("model")
@click.argument("deployment")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_deployment(model: str, deployment: str, yes: bool) -> None:
    """Remove DEPLOYMENT of MODEL from the tables; in Azure it stays."""
    target = find()
    found = _run(target, lambda tables: _deployments(tables, model, deployment))
    if not yes:
        click.confirm(f"Remove {deployment} of {model}?", abort=True)
    for one in found:
        _run(target, partial(_delete_deployment, deployment=one))
    click.echo(f"{deployment} no longer serves {model}.")


def _run(target: Target, work: Callable[[Tables], Coroutine[Any, Any, T]]) -> T:
    async def session() -> T:
        async with opened(target) as tables:
            return await work(tables)

    return asyncio.run(session())


async def _add_event(tables: Tables, event: Event) -> None:
    served = {deployment.model for deployment in await tables.deployments()}
    if missing := [name for name in event.models if name not in served]:
        raise Fault(
            f"No deployment serves {', '.join(missing)}. Add one first, with `manage.py deployments add`."
        )
    try:
        await tables.add_event(event)
    except AlreadyExists:
        raise Fault(f"There is an event {event.code!r} already: change it with `events update`.") from None


async def _event(tables: Tables, code: str) -> Event:
    event = await tables.event(code.strip().lower()) if is_event_code(code.strip().lower()) else None
    if event is None:
        raise Fault(f"There is no event {code!r}. `manage.py events list` shows those that there are.")
    return event


async def _change_event(tables: Tables, code: str, change: Callable[[Event], Event]) -> Event:
    event = change(await _event(tables, code))
    await tables.put_event(event)
    return event


async def _update_event(tables: Tables, code: str, changes: dict[str, Any]) -> Event:
    served = {deployment.model for deployment in await tables.deployments()}

    def change(event: Event) -> Event:
        updated = _updated(event, changes)
        _check_event(updated)
        _check_models(set(updated.models) - set(event.models), served)
        return updated

    return await _change_event(tables, code, change)


def _updated(event: Event, changes: dict[str, Any]) -> Event:
    given = {name: value for name, value in changes.items() if value is not None}
    starts, ends, models = (given.pop(name, None) for name in ("starts", "ends", "models"))
    zone = times.zone(given.pop("time_zone", event.time_zone.key))
    given |= {name.replace("-", "_"): None for name in given.pop("no_limit")}
    given["active"] = given.pop("resume") or event.active
    if models is not None:
        given["models"] = tuple(name.strip() for name in models.split(",") if name.strip())
    if starts is not None:
        given["starts_at"] = times.moment(starts, zone)
    if ends is not None:
        given["ends_at"] = times.moment(ends, zone)
    return replace(event, time_zone=zone, **given)


async def _deployments(tables: Tables, model: str, name: str) -> list[Deployment]:
    found = [one for one in await tables.deployments() if (one.model, one.deployment_name) == (model, name)]
    if not found:
        raise Fault(f"No deployment {name!r} serves {model!r}. `manage.py deployments list` shows them.")
    return found


async def _switch(tables: Tables, model: str, name: str, *, active: bool) -> None:
    for one in await _deployments(tables, model, name):
        await tables.put_deployment(replace(one, active=active))


async def _delete_deployment(tables: Tables, deployment: Deployment) -> None:
    await tables.delete_deployment(deployment)


def _check_models(asked: Iterable[str], served: set[str]) -> None:
    if missing := [name for name in asked if name not in served]:
        raise Fault(f"No deployment serves {', '.join(missing)}: first `manage.py deployments add` one.")


def _check_event(event: Event) -> None:
    if not is_event_code(event.code):
        raise Fault(f"{event.code!r} cannot be an event code: 1 to 64 letters, digits, '-', '_' or '.'.")
    if event.ends_at <= event.starts_at:
        raise Fault("The event ends before it starts.")
    if event.models and event.default_model not in event.models:
        raise Fault(f"The default model {event.default_model!r} is not one of --models.")
    if event.max_output_tokens == 0:
        raise Fault("--max-output-tokens must be at least 1.")


def _check_deployment(deployment: Deployment) -> None:
    address = urlsplit(deployment.endpoint)
    local = address.hostname in {"127.0.0.1", "localhost"}
    if not address.hostname or (address.scheme != "https" and not (local and address.scheme == "http")):
        raise Fault("--endpoint must be an https address, such as https://NAME.openai.azure.com.")
    if not _MODEL.fullmatch(deployment.model) or not _MODEL.fullmatch(deployment.deployment_name):
        raise Fault("A model or deployment name has 1 to 64 letters, digits, '-', '_' or '.'.")
    if not _VERSION.fullmatch(deployment.api_version):
        raise Fault("--api-version is v1 or a date such as 2024-10-21.")
    if deployment.auth != MANAGED_IDENTITY and not _SETTING.fullmatch(deployment.auth):
        raise Fault("--key-env takes the name of the setting that holds the key, never the key itself.")


def _deployment_id(endpoint: str, deployment: str) -> str:
    """Always the same. The endpoint is hashed: the id stands in the app's log, where no host may."""
    return f"{deployment}-{hashlib.sha256(endpoint.rstrip('/').lower().encode()).hexdigest()[:8]}"


def _output_field(api_version: str) -> str:
    """`max_completion_tokens` came with the versions of autumn 2024."""
    return "max_tokens" if api_version != API_V1 and api_version < "2024-09" else "max_completion_tokens"


def _event_fields(event: Event) -> dict[str, Any]:
    zone = {"time_zone": event.time_zone.key}
    times_ = {"starts_at": event.starts_at.isoformat(), "ends_at": event.ends_at.isoformat()}
    return {**{name: getattr(event, name) for name in event.__slots__}, **zone, **times_}


def _event_line(event: Event) -> str:
    starts, ends = (f"{at:%Y-%m-%d %H:%M}" for at in (event.starts_at, event.ends_at))
    return f"{event.code:24} {starts} to {ends} UTC  {event.name}"


def _handed_out(event: Event, target: Target) -> str:
    url = target.url or "https://YOUR-APP.azurewebsites.net"
    return (
        f"The event {event.name!r} is there. Hand out:\n\n"
        f"  Endpoint   {url}/v1\n"
        f"  API key    {event.code}/YOUR-GITHUB-NAME\n"
    )


def _print(fields: Any, as_json: bool, text: Callable[[], str]) -> None:
    click.echo(json.dumps(fields) if as_json else text())
