"""`manage.py deployments prices`: compare the prices with those of a list."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

import click

from admin.deployments import text as deployment_text
from admin.deployments.prices import SOURCE_CURRENCY, ListedPrice, PriceList
from admin.options import as_json
from admin.printing import print_list, print_note, print_result
from admin.session import run
from admin.target import find_target
from shared.core.models import Deployment


@click.command("prices", short_help="Compare the prices with those of a list.")
@click.option("--refresh", is_flag=True, help="Get the newest list from GitHub.")
@as_json
def compare_prices(refresh: bool, as_json: bool) -> None:
    """Compare the prices of the deployments with those of the package genai-prices. Nothing is changed."""
    (found, bad), _ = run(find_target(), lambda tables: tables.deployments_and_health())
    for row in bad:
        print_note(row.message)
    found.sort(key=attrgetter("model", "priority", "deployment_name", "endpoint"))
    prices = PriceList(refresh=refresh)
    compared = [_compare(deployment, prices.find(deployment.model)) for deployment in found]
    if as_json or not compared:
        print_result(compared, as_json, lambda: "No deployments. To add one, use `deployments add`.")
        return
    print_list(tuple(compared[0]), [tuple(one.values()) for one in compared])


def _compare(deployment: Deployment, listed: ListedPrice | None) -> dict[str, str]:
    own, found, result = deployment_text.price(deployment), "-", "not in the list"
    if listed is not None:
        completion = listed.completion if deployment.has_completions else None
        found = deployment_text.price(
            replace(
                deployment,
                prompt_price=listed.prompt,
                cached_prompt_price=listed.cached,
                completion_price=completion,
                long_prices=listed.long,
                currency=SOURCE_CURRENCY,
            )
        )
        result = "same" if own == found else "different"
    return {
        "model": deployment.model,
        "deployment": deployment.deployment_name,
        "price": own,
        "listed": found,
        "result": result,
        "source": listed.source if listed else "-",
    }
