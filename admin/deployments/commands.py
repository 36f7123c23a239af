"""`manage.py deployments`: which Azure OpenAI deployment serves which model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from admin.deployments import rules, trial
from admin.deployments import text as deployment_text
from admin.faults import Fault
from admin.options import CACHE_TIME, Group, Number, as_json, yes
from admin.printing import confirm, listed, note, tell
from admin.session import run
from admin.target import Target, find
from shared.core.models import OUTPUT_FIELDS, Deployment, Health

if TYPE_CHECKING:
    from admin.tables import Tables

PUTS = 5


@click.group(cls=Group, short_help="Which Azure OpenAI deployment serves which model.")
def deployments() -> None:
    """Deployments: which Azure OpenAI deployment serves which model."""


_price = Number(float, 0, 1_000_000)
_OPTIONS = (
    click.option("--key-env", metavar="VAR", help="The app's setting that holds the key."),
    click.option("--managed-identity", is_flag=True, help="Keyless: the app's own identity."),
    click.option("--api-version", metavar="V", help="v1, or a version such as 2024-10-21."),
    click.option("--output-field", type=click.Choice(OUTPUT_FIELDS), help="How it takes an output cap."),
    click.option("--priority", type=Number(int, 0, 1000), metavar="N", help="The lowest serves first."),
    click.option("--weight", type=Number(int, 1, 1000), metavar="N", help="Its share among equals."),
    click.option(
        "--prompt-price", type=_price, metavar="P", help="Of 1,000,000 prompt tokens, in your currency."
    ),
    click.option("--completion-price", type=_price, metavar="P", help="Of 1,000,000 completion tokens."),
)
_no_check = click.option("--no-check", is_flag=True, help="Do not try it first.")


def _described(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what a deployment is like."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@deployments.command("add", short_help="Let an Azure OpenAI deployment serve MODEL.")
@click.argument("model")
@click.option("--endpoint", required=True, metavar="URL", help=f"Such as {rules.EXAMPLE}.")
@click.option("--deployment", required=True, metavar="NAME", help="The deployment's name in Azure.")
@_described
@_no_check
@as_json
def add_deployment(
    model: str, endpoint: str, deployment: str, no_check: bool, as_json: bool, **given: Any
) -> None:
    """Let an Azure OpenAI deployment serve MODEL.

    It is tried with one small call first, and not added where that fails: with the key, if the setting VAR is
    set here too, or with your own Azure sign-in.

    Unless given: the managed identity, API version v1, priority 1, weight 1, no price. But one that is there
    already keeps what it has.

    \b
    Example:
      python3 manage.py deployments add gpt-4o-mini --endpoint https://NAME.openai.azure.com \\
              --deployment gpt-4o-mini --managed-identity --prompt-price 0.15 --completion-price 0.60
    """
    plain = rules.new(model, endpoint, deployment)
    fresh = rules.with_options(plain, given)
    target = find()
    there = _same(run(target, lambda tables: tables.deployments()), fresh)
    added = rules.changed(there or plain, given)
    kept = deployment_text.kept(fresh, there, added) if there else []
    told = "not tried, as you said"
    if not no_check:
        told, found = _tried(added, target, given, "added")
        given |= found
    added = run(target, lambda tables: _put(tables, added, given))
    verb = "is" if added.active else "would be"
    text = f"{model} {verb} served by {added.deployment_name} at {added.endpoint} ({told})."
    tell(asdict(added), as_json, lambda: text)
    if kept:
        note(f"it was there already, and keeps {', '.join(kept)}.")
    if not added.active:
        note(f"it is disabled, and stays so until `deployments enable {model} {added.id}`.")


def _tried(one: Deployment, target: Target, given: dict[str, Any], doing: str) -> tuple[str, dict[str, Any]]:
    """How the trial went, and what it found out, as an option.

    Raises:
        Fault: it does not work.
    """
    may_switch = given["output_field"] is None
    try:
        found = asyncio.run(trial.tried(one, target.environment, may_switch=may_switch))
    except Fault as fault:
        raise Fault(f"Not {doing}: {fault.message}") from fault
    if not found.worked:
        note(f"it was not tried: {found.told}.")
        return "not tried", {}
    return found.told, {"output_field": found.deployment.output_field}


def _same(rows: Iterable[Deployment], wanted: Deployment) -> Deployment | None:
    """The row of the same deployment in Azure that serves the same model, whatever id that has."""

    def names(one: Deployment) -> tuple[str, str, str]:
        return one.model, one.deployment_name, one.endpoint.lower()

    return next((one for one in rows if names(one) == names(wanted)), None)


async def _put(tables: Tables, added: Deployment, given: dict[str, Any]) -> Deployment:
    """Add it; where it is there, also by somebody else's hand just now, change what was given."""
    from shared.tables.service import AlreadyExists

    for _ in range(PUTS):
        rows = await tables.deployments()
        if there := _same(rows, added):
            stored = await tables.change_deployment(there, lambda now: rules.changed(now, given))
            if stored is not None:
                return stored
            continue
        taken = {one.id for one in rows if one.model == added.model}
        fresh = rules.new(added.model, added.endpoint, added.deployment_name, taken)
        fresh = rules.changed(replace(added, id=fresh.id), given)
        with suppress(AlreadyExists):
            await tables.add_deployment(fresh)
            return fresh
    raise Fault("Not added: others add and remove it at the same time.")


@deployments.command("update", short_help="Change DEPLOYMENT of MODEL: what you name, and nothing else.")
@click.argument("model")
@click.argument("deployment")
@click.option("--endpoint", metavar="URL", help=f"Such as {rules.EXAMPLE}.")
@_described
@click.option("--no-price", is_flag=True, help="Take its prices away.")
@_no_check
@as_json
def update_deployment(model: str, deployment: str, no_check: bool, as_json: bool, **given: Any) -> None:
    """Change DEPLOYMENT of MODEL while it serves: what you name, and nothing else.

    Others may change it at the same time: what they change stays. Where its endpoint, key or API version
    changes, it is tried first, and not changed where that fails.

    \b
    Example:
      python3 manage.py deployments update gpt-4o-mini gpt-4o-mini --prompt-price 0.15 --completion-price 0.60
    """
    if all(value is None or value is False for value in given.values()):
        raise Fault("There is nothing to change: name an option, such as --weight or --endpoint.")
    target = find()
    before = run(target, lambda tables: _one(tables, model, deployment))
    wanted = rules.changed(before, given)
    how = ""
    if not no_check and (wanted.target, wanted.output_field) != (before.target, before.output_field):
        told, found = _tried(wanted, target, given, "changed")
        how, given = f" ({told})", given | found
    after = run(target, lambda tables: _update(tables, wanted, given))
    tell(asdict(after), as_json, lambda: _updated(before, after, how))


def _updated(before: Deployment, after: Deployment, how: str) -> str:
    name = f"{after.deployment_name!r} of {after.model!r}"
    if not (told := deployment_text.differences(before, after)):
        return f"The deployment {name} was so already: nothing is changed."
    return f"The deployment {name} now has {', '.join(told)}{how}. It takes effect within {CACHE_TIME}."


async def _update(tables: Tables, wanted: Deployment, given: dict[str, Any]) -> Deployment:
    there = _same(await tables.deployments(), wanted)
    if there is not None and there.id != wanted.id:
        raise Fault(
            f"{there.deployment_name!r} at {there.endpoint} serves {there.model!r} already, as {there.id}."
        )
    return await _changed(tables, wanted, lambda now: rules.changed(now, given))


async def _changed(tables: Tables, one: Deployment, change: Callable[[Deployment], Deployment]) -> Deployment:
    return await tables.change_deployment(one, change) or _missing(one.model, one.deployment_name)


@deployments.command("list")
@as_json
def list_deployments(as_json: bool) -> None:
    """List the deployments, with how the app last saw each.

    That is ok, a status such as 429, or a word such as unreachable; "no call yet" until the first call since
    it was added, or got another endpoint or key.
    """
    found, health = run(find(), _read_all)
    found.sort(key=lambda one: (one.model, one.priority, one.deployment_name, one.endpoint))
    seen = [(one, health.get((one.model, one.id))) for one in found]
    if as_json or not found:
        tell([deployment_text.fields(*one) for one in seen], as_json, lambda: "None.")
        return
    now = datetime.now(UTC)
    rows = [deployment_text.line(*one, now) for one in seen]
    listed(deployment_text.COLUMNS, rows, numbers=deployment_text.NUMBERS)


async def _read_all(tables: Tables) -> tuple[list[Deployment], dict[tuple[str, str], Health]]:
    return await tables.deployments(), await tables.health()


def _switch(name: str, told: str, *, active: bool, about: str) -> None:
    """`disable` or `enable`: one command, two ways."""

    @deployments.command(name, help=about)
    @click.argument("model")
    @click.argument("deployment")
    @as_json
    def switch_deployment(model: str, deployment: str, as_json: bool) -> None:
        async def switch(tables: Tables) -> tuple[Deployment, bool]:
            one = await _one(tables, model, deployment)
            one = await _changed(tables, one, lambda now: replace(now, active=active))
            return one, await _is_served(tables, model)

        one, is_served = run(find(), switch)
        text = f"{one.deployment_name} at {one.endpoint} {told.format(model)}, within {CACHE_TIME}."
        tell(asdict(one), as_json, lambda: text)
        _note_unserved(model, is_served)


_switch("disable", "no longer serves {}", active=False, about="Send nothing more to DEPLOYMENT of MODEL.")
_switch("enable", "serves {} again", active=True, about="Let DEPLOYMENT serve MODEL again.")


async def _is_served(tables: Tables, model: str) -> bool:
    return any(one.model == model and one.active for one in await tables.deployments())


def _note_unserved(model: str, is_served: bool) -> None:
    if not is_served:
        note(f"nothing else serves {model}: attendees who ask for it are refused.")


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

    async def delete(tables: Tables) -> bool:
        await tables.delete_deployment(one)
        return await _is_served(tables, model)

    is_served = run(target, delete)
    told = f"{one.deployment_name} at {one.endpoint} no longer serves {model}; in Azure it is still there."
    tell(asdict(one), as_json, lambda: told)
    _note_unserved(model, is_served)


def _missing(model: str, name: str) -> Deployment:
    raise Fault(f"No deployment {name!r} serves {model!r}. `manage.py deployments list` shows them.")


async def _one(tables: Tables, model: str, name: str) -> Deployment:
    """The one deployment of that name, or id."""
    there = [one for one in await tables.deployments() if one.model == model]
    found = [one for one in there if one.id == name] or [one for one in there if one.deployment_name == name]
    if not found:
        return _missing(model, name)
    if len(found) > 1:
        ids = ", ".join(f"{one.id} (at {one.endpoint})" for one in found)
        raise Fault(f"{name!r} of {model!r} is at several endpoints. Name one of them by its id: {ids}.")
    return found[0]
