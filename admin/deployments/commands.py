"""`manage.py deployments`: add, change and list Azure OpenAI deployments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import click

from admin.deployments import changes, prices, rules
from admin.deployments import text as deployment_text
from admin.deployments.comparison import compare_prices
from admin.deployments.consequences import of_model, of_prices
from admin.errors import CommandError
from admin.money import CURRENCY, LONG_PRICES, PRICE
from admin.options import Group, Number, as_json, yes
from admin.printing import confirm, print_list, print_note, print_result
from admin.session import run
from admin.target import Target, find_target, takes_effect
from shared.core.models import APIS, OUTPUT_FIELDS, Deployment

if TYPE_CHECKING:
    from admin.tables import Tables

_PRIORITY, _WEIGHT = Number(int, 0, 1000), Number(int, 1, 1000)


@click.group(cls=Group, short_help="Add, change and list Azure OpenAI deployments.")
def deployments() -> None:
    """Add, change and list Azure OpenAI deployments. Each serves requests for one model."""


_OPTIONS = (
    click.option("--key-env", metavar="VAR", help="The app's setting that holds the key."),
    click.option("--managed-identity", is_flag=True, help="Use no key, but the app's identity in Azure."),
    click.option("--api-version", metavar="V", help="v1, or a version such as 2024-10-21."),
    click.option("--apis", metavar="A,B", help=f"What it serves: {', '.join(APIS)}. Default: found out."),
    click.option("--output-field", type=click.Choice(OUTPUT_FIELDS), help="The field for the output limit."),
    click.option("--priority", type=_PRIORITY, metavar="N", help="Lower numbers are used first."),
    click.option("--weight", type=_WEIGHT, metavar="N", help="Share among deployments of the same priority."),
    click.option("--prompt-price", type=PRICE, metavar="P", help="Price of 1,000,000 prompt tokens."),
    click.option(
        "--cached-prompt-price",
        type=PRICE,
        metavar="P",
        help="Price of 1,000,000 prompt tokens from the model's cache. Default: the prompt price.",
    ),
    click.option("--completion-price", type=PRICE, metavar="P", help="Price of 1,000,000 completion tokens."),
    click.option(
        "--long-prices",
        type=LONG_PRICES,
        metavar="N:P/C/O",
        help="Prices of calls with more than N prompt tokens: prompt, cached prompt and completion.",
    ),
    click.option("--currency", type=CURRENCY, metavar="CODE", help="Currency of the prices. Default: USD."),
    click.option("--free", is_flag=True, help="Calls cost nothing."),
)
_no_check = click.option("--no-check", is_flag=True, help="Do not send a test request.")


def _properties(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for the properties of a deployment."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@deployments.command("add", short_help="Add an Azure OpenAI deployment for MODEL.")
@click.argument("model")
@click.option(
    "--endpoint", required=True, metavar="URL", help=f"Address of the resource, such as {rules.EXAMPLE}."
)
@click.option("--deployment", required=True, metavar="NAME", help="Name of the deployment in Azure.")
@_properties
@_no_check
@as_json
def add_deployment(
    model: str, endpoint: str, deployment: str, no_check: bool, as_json: bool, **options: Any
) -> None:
    """Add an Azure OpenAI deployment for MODEL.

    The command first sends small test requests, and adds nothing if they fail. They also show which APIs the
    deployment serves. They use the key, if the setting VAR is also set here, or your own Azure sign-in.

    Defaults of a new deployment: managed identity, API version v1, priority 1, weight 1. Prices that you do
    not name are those of the package genai-prices for this MODEL, in USD. If the deployment was added before,
    everything that you do not name stays as it is.

    \b
    Example:
      python3 manage.py deployments add gpt-4o-mini --endpoint https://NAME.openai.azure.com \\
              --deployment gpt-4o-mini --managed-identity
    """
    default = rules.new_deployment(model, endpoint, deployment)
    target = find_target()
    existing = changes.find_same(run(target, lambda tables: tables.deployments()), default)
    is_known = existing is not None or options["apis"] is not None
    before = existing or replace(default, apis=rules.apis_by_name(default))
    options, notes = prices.with_listed_prices(before, options)
    wanted, test = rules.change_deployment(before, options), ""
    if not no_check:
        test, options = _test(
            wanted, target, options, "added", notes, _tested_apis(wanted, options, is_known)
        )
    if not (is_known or options["apis"]):
        options |= {"apis": ",".join(wanted.apis)}
    added, closed = run(target, _with_notes(lambda tables: changes.put(tables, wanted, options)))
    verb = "Updated" if existing else "Added"
    text = f"{verb} deployment {added.deployment_name!r} at {added.endpoint} for model {model!r}.{test}"
    if existing and (kept := deployment_text.kept_properties(default, existing, wanted)):
        notes.append(f"The deployment was added before. It keeps {', '.join(kept)}.")
    if not added.active:
        enable = f"deployments enable {model} {added.id}"
        notes.append(f"The deployment is disabled. To enable it, use `{enable}`.")
    print_result(deployment_text.properties(added), as_json, lambda: text, notes + closed)


def _with_notes(
    change: Callable[[Tables], Awaitable[Deployment]],
) -> Callable[[Tables], Coroutine[Any, Any, tuple[Deployment, list[str]]]]:
    async def changed(tables: Tables) -> tuple[Deployment, list[str]]:
        deployment = await change(tables)
        return deployment, await of_prices(tables, deployment)

    return changed


def _test(
    deployment: Deployment,
    target: Target,
    options: dict[str, Any],
    verb: str,
    notes: list[str],
    apis: tuple[str, ...] | None,
) -> tuple[str, dict[str, Any]]:
    """The result of the test requests as a sentence, and the options with the output field that works.

    Without `apis` to test, the options also get those that the deployment serves. If nothing can be tested
    here, a note is added to `notes`.

    Raises:
        CommandError: the deployment does not work.
    """
    from admin.deployments import trial

    may_switch = options["output_field"] is None
    try:
        result = asyncio.run(
            trial.try_deployment(deployment, target.environment, apis=apis, may_switch=may_switch)
        )
    except CommandError as error:
        raise CommandError(f"Not {verb}: {error.message}") from error
    except trial.NotTested as reason:
        notes.append(f"The deployment was not tested: {reason}")
        return "", options
    found = {"output_field": result.output_field} | ({} if apis else {"apis": ",".join(result.apis)})
    return f" Tested: {result.text}.", options | found


def _tested_apis(wanted: Deployment, options: dict[str, Any], is_known: bool) -> tuple[str, ...] | None:
    """The APIs to test: those that the command names, or else the first known one. None: find them out."""
    if options["apis"] is not None:
        return wanted.apis
    return wanted.apis[:1] if is_known else None


@deployments.command("update", short_help="Change a deployment, also while it is used.")
@click.argument("model")
@click.argument("deployment")
@click.option("--endpoint", metavar="URL", help=f"Address of the resource, such as {rules.EXAMPLE}.")
@_properties
@click.option("--no-price", is_flag=True, help="Remove the prices.")
@_no_check
@as_json
def update_deployment(model: str, deployment: str, no_check: bool, as_json: bool, **options: Any) -> None:
    """Change a deployment, also while it is used. Everything that you do not name stays as it is.

    DEPLOYMENT is its name in Azure, or its id. If the endpoint, key, API version or APIs change, the command
    first sends small test requests, and changes nothing if they fail.

    \b
    Example:
      python3 manage.py deployments update gpt-4o-mini gpt-4o-mini --prompt-price 0.15 --completion-price 0.60
    """
    if all(value is None or value is False for value in options.values()):
        raise CommandError("Nothing to change. Use an option, such as --weight or --endpoint.")
    target = find_target()
    replaced = rules.replaced_columns(options)
    before, is_bad = run(target, lambda tables: changes.find_readable(tables, model, deployment, replaced))
    wanted = rules.change_deployment(before, options)
    test, notes = "", list[str]()
    tested = attrgetter("target", "output_field", "apis")
    if not no_check and tested(wanted) != tested(before):
        test, options = _test(wanted, target, options, "changed", notes, _tested_apis(wanted, options, True))
    after, closed = run(target, _with_notes(lambda tables: changes.update(tables, wanted, options)))
    text = _update_text(before, after, test, is_bad)
    print_result(deployment_text.properties(after), as_json, lambda: text, notes + closed)


def _update_text(before: Deployment, after: Deployment, test: str, is_bad: bool) -> str:
    """With `is_bad`, `before` is not what was in the row."""
    name = f"eployment {after.deployment_name!r} of model {after.model!r}"
    if is_bad:
        return f"Corrected d{name}.{test} {takes_effect()}"
    if not (differences := deployment_text.differences(before, after)):
        return f"D{name} is unchanged."
    return f"Updated d{name}: {', '.join(differences)}.{test} {takes_effect()}"


@deployments.command("list")
@as_json
def list_deployments(as_json: bool) -> None:
    """List the deployments, with the result of their last requests.

    "last seen" is ok, a status such as 429, or a word such as unreachable. It is "not used yet" until the
    first request after the deployment was added, or got a new endpoint or key.
    """
    (found, bad), health = run(find_target(), lambda tables: tables.deployments_and_health())
    for row in bad:
        print_note(row.message)
    found.sort(key=attrgetter("model", "priority", "deployment_name", "endpoint"))
    listed = [(deployment, health.get((deployment.model, deployment.id))) for deployment in found]
    if as_json or not (found or bad):
        fields = [deployment_text.to_fields(*item) for item in listed]
        print_result(fields, as_json, lambda: "No deployments. To add one, use `deployments add`.")
        return
    now = datetime.now(UTC)
    rows = [deployment_text.row(*item, now) for item in listed]
    print_list(deployment_text.COLUMNS, rows, numbers=deployment_text.NUMBERS)


deployments.add_command(compare_prices)


@deployments.command("disable")
@click.argument("model")
@click.argument("deployment")
@as_json
def disable_deployment(model: str, deployment: str, as_json: bool) -> None:
    """Send no more requests to a deployment."""
    _switch(model, deployment, as_json, active=False)


@deployments.command("enable")
@click.argument("model")
@click.argument("deployment")
@as_json
def enable_deployment(model: str, deployment: str, as_json: bool) -> None:
    """Use a disabled deployment again."""
    _switch(model, deployment, as_json, active=True)


def _switch(model: str, deployment: str, as_json: bool, *, active: bool) -> None:
    async def switch(tables: Tables) -> tuple[Deployment, list[str]]:
        changed = await changes.switch(tables, model, deployment, active=active)
        return changed, await of_model(tables, model) + await of_prices(tables, changed)

    changed, notes = run(find_target(), switch)
    verb = "Enabled" if active else "Disabled"
    name = f"{changed.deployment_name!r} at {changed.endpoint}"
    text = f"{verb} deployment {name} for model {model!r}. {takes_effect()}"
    print_result(deployment_text.properties(changed), as_json, lambda: text, notes)


@deployments.command("delete")
@click.argument("model")
@click.argument("deployment")
@yes
@as_json
def delete_deployment(model: str, deployment: str, yes: bool, as_json: bool) -> None:
    """Remove a deployment from the proxy. It stays in Azure."""
    target = find_target()
    found = run(target, lambda tables: changes.find_deployment(tables, model, deployment))
    if isinstance(found, Deployment):
        name, found_id, fields = (
            f"{found.deployment_name!r} at {found.endpoint}",
            found.id,
            deployment_text.properties(found),
        )
    else:
        name, found_id, fields = repr(found.key[1]), found.key[1], found.fields
    confirm(f"Delete deployment {name} for model {model!r}?", yes)

    async def delete(tables: Tables) -> list[str]:
        await tables.delete_deployment(model, found_id)
        return await of_model(tables, model)

    notes = run(target, delete)
    text = f"Deleted deployment {name} for model {model!r}. It stays in Azure."
    print_result(fields, as_json, lambda: text, notes)
