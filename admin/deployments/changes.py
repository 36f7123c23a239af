"""Finds and changes deployments in the tables. Other organisers may change them at the same time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from admin.deployments import rules
from admin.errors import CommandError
from shared.core.models import Deployment

if TYPE_CHECKING:
    from admin.rows import BadRow
    from admin.tables import Tables

TRIES = 5
"""Tries to add a deployment that others add and delete at the same time."""


async def find_deployment(tables: Tables, model: str, name: str) -> Deployment | BadRow:
    """The deployment of that name or id. Raises CommandError if there is none, or more than one."""
    (good, bad), _ = await tables.deployments_and_health()
    of_model = [deployment for deployment in good if deployment.model == model]
    found = [deployment for deployment in of_model if deployment.id == name]
    if not found and (unreadable := next((row for row in bad if row.key == (model, name)), None)):
        return unreadable
    found = found or [deployment for deployment in of_model if deployment.deployment_name == name]
    if not found:
        raise _unknown(model, name)
    if len(found) > 1:
        ids = ", ".join(f"{deployment.id} (at {deployment.endpoint})" for deployment in found)
        raise CommandError(f"{model!r} has several deployments named {name!r}. Use one of these ids: {ids}.")
    return found[0]


async def find_readable(
    tables: Tables, model: str, name: str, replaced: Collection[str]
) -> tuple[Deployment, bool]:
    """As `find_deployment`, and whether the row is bad: then only in the columns `replaced`."""
    found = await find_deployment(tables, model, name)
    if isinstance(found, Deployment):
        return found, False
    return cast("Deployment", found.corrected(replaced)), True


def find_same(rows: Iterable[Deployment], wanted: Deployment) -> Deployment | None:
    """The row for the same model and the same deployment in Azure; its id can differ."""

    def identity(deployment: Deployment) -> tuple[str, str, str]:
        return deployment.model, deployment.deployment_name, deployment.endpoint.lower()

    return next((deployment for deployment in rows if identity(deployment) == identity(wanted)), None)


async def put(tables: Tables, wanted: Deployment, options: dict[str, Any]) -> Deployment:
    """Add the deployment, or apply the options to the existing one."""
    from shared.tables.service import AlreadyExists

    for _ in range(TRIES):
        (rows, bad), _ = await tables.deployments_and_health()
        if existing := find_same(rows, wanted):
            changed = await tables.change_deployment(existing, _applying(options))
            if changed is not None:
                return changed
            continue
        keys = [(deployment.model, deployment.id) for deployment in rows] + [row.key for row in bad]
        taken = {deployment_id for model, deployment_id in keys if model == wanted.model}
        fresh = rules.new_deployment(wanted.model, wanted.endpoint, wanted.deployment_name, taken)
        fresh = rules.change_deployment(replace(wanted, id=fresh.id), options)
        with suppress(AlreadyExists):
            await tables.add_deployment(fresh)
            return fresh
    raise CommandError("Not added: others are changing the same deployment. Try again.")


async def update(tables: Tables, wanted: Deployment, options: dict[str, Any]) -> Deployment:
    """Apply the options. Raises CommandError if another row has the same deployment."""
    same = find_same(await tables.deployments(), wanted)
    if same is not None and same.id != wanted.id:
        raise CommandError(
            f"{same.deployment_name!r} at {same.endpoint} already serves {same.model!r}. "
            f"Change that one: its id is {same.id}."
        )
    return await _change(tables, wanted, _applying(options), rules.replaced_columns(options))


async def switch(tables: Tables, model: str, name: str, *, active: bool) -> Deployment:
    """Enable or disable a deployment. Raises CommandError if it does not exist."""
    deployment, _ = await find_readable(tables, model, name, {"active"})
    return await _change(tables, deployment, lambda now: replace(now, active=active), {"active"})


def _applying(options: dict[str, Any]) -> Callable[[Deployment], Deployment]:
    return lambda deployment: rules.change_deployment(deployment, options)


async def _change(
    tables: Tables,
    deployment: Deployment,
    change: Callable[[Deployment], Deployment],
    replaced: Collection[str],
) -> Deployment:
    changed = await tables.change_deployment(deployment, change, replaced)
    if changed is None:
        raise _unknown(deployment.model, deployment.deployment_name)
    return changed


def _unknown(model: str, name: str) -> CommandError:
    return CommandError(f"{model!r} has no deployment {name!r}. See `manage.py deployments list`.")
