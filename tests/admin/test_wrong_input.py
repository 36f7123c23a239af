"""Wrong input to `manage.py`: one message, exit status 2, and no change."""

from __future__ import annotations

import pytest

from tests.admin.manage import DATES, manage
from tests.conftest import MODEL
from tests.seeded_tables import Tables
from tools.azurite import Azurite

NEW = ("events", "create", "x", "--name", "n")
EVENTS = {
    "unknown zone": ((*NEW, *DATES[:5], "Mars/Base"), "no time zone 'Mars/Base'"),
    "city as a zone": ((*NEW, *DATES[:5], "Berlin"), "Did you mean Europe/Berlin?"),
    "end before start": ((*NEW, "--starts", "2026-02-02", "--ends", "2026-02-01"), "ends before it starts"),
    "empty code": (("events", "create", "", "--name", "n", *DATES), "'' is not a valid event code"),
    "code with a user": (("events", "check", "hackathon/ann", "--user", "ann"), "Leave out the user"),
    "invalid code": (("events", "create", "a/b", "--name", "n", *DATES), "is not a valid event code"),
    "existing code": (("events", "create", "hackathon", "--name", "n", *DATES), "`events update`"),
    "unknown model": ((*NEW, *DATES, "--models", "gpt-4o-mni"), "Did you mean gpt-4o-mini?"),
    "model in capitals": (
        (*NEW, *DATES, "--models", "GPT-4o"),
        "No deployment serves GPT-4o. Did you mean gpt-4o?",
    ),
    "only a comma as models": ((*NEW, *DATES, "--models", ","), "names no model"),
    "unknown default model": ((*NEW, *DATES, "--default-model", "no-such"), "No deployment serves no-such"),
    "default outside the models": (
        (*NEW, *DATES, "--models", MODEL, "--default-model", "gpt-4o"),
        "is not one of gpt-4o-mini",
    ),
    "word as a date": ((*NEW, "--starts", "soon", "--ends", "2026-02-01"), '"2026-12-01 09:00"'),
    "empty date": ((*NEW, "--starts", "", "--ends", "2026-02-01"), "A date is empty"),
    "event that is over": (
        (*NEW, "--starts", "2025-02-01", "--ends", "2025-02-02"),
        "The event has been over since the end of 2 Feb 2025 (UTC). Change --ends.",
    ),
    "ambiguous date": (
        (*NEW, "--starts", "01/02/2026", "--ends", "2026-03-01"),
        "could be 1 February or 2 January. Write the year first",
    ),
    "negative quota": (
        (*NEW, *DATES, "--requests-per-day", "-1"),
        "'--requests-per-day': -1 is out of range. Use 0 to 1,000,000,000,000.",
    ),
    "quota with a comma": (
        (*NEW, *DATES, "--requests-per-day", "1,000"),
        "'1,000' is not a whole number. Example: 1000.",
    ),
    "budget with a symbol": ((*NEW, *DATES, "--budget", "$200"), "'$200' is not an amount"),
    "absurd budget": ((*NEW, *DATES, "--budget", "1000000000000"), "is out of range. Use 0 to 1,000,000,000"),
    "negative budget": ((*NEW, *DATES, "--budget-per-day", "-0.5"), "is out of range"),
    "budget of 7 decimals": ((*NEW, *DATES, "--budget", "0.0000001"), "more than 6 decimals"),
    "budget without a price": ((*NEW, *DATES, "--budget", "2"), "(gpt-4o) has no price"),
    "budget and hosted tools": (
        (*NEW, *DATES, "--budget", "2", "--tools", "web_search"),
        "cannot allow hosted tools",
    ),
    "unknown currency": ((*NEW, *DATES, "--currency", "$"), "'$' is not a currency"),
    "budget and no limit": (
        ("events", "update", "hackathon", "--budget", "5", "--no-limit", "budget"),
        "Use --budget or --no-limit budget, not both",
    ),
    "absurd quota": ((*NEW, *DATES, "--tokens-per-day", "9" * 30), "--tokens-per-day"),
    "word as a quota": ((*NEW, *DATES, "--requests-total", "many"), "is not a whole number"),
    "output limit of 0": ((*NEW, *DATES, "--max-output-tokens", "0"), "--max-output-tokens"),
    "empty name": (("events", "create", "x", "--name", " ", *DATES), "--name"),
    "name of two lines": (("events", "create", "x", "--name", "a\nb", *DATES), "one line"),
    "unknown event": (("events", "stop", "no-such-event"), "There is no event 'no-such-event'"),
    "no change": (("events", "update", "hackathon"), "Nothing to change"),
    "limit and no limit": (
        ("events", "update", "hackathon", "--tokens-total", "5", "--no-limit", "tokens-total"),
        "not both",
    ),
    "default and no default": (
        ("events", "update", "hackathon", "--default-model", MODEL, "--no-default-model"),
        "not both",
    ),
    "update to an unknown model": (
        ("events", "update", "hackathon", "--models", "gpt-4o-mni"),
        "No deployment serves gpt-4o-mni. Did you mean gpt-4o-mini?",
    ),
    "unknown model with a default model": (
        (*NEW, *DATES, "--models", "gpt-4o-mni", "--default-model", MODEL),
        "No deployment serves gpt-4o-mni. Did you mean gpt-4o-mini?",
    ),
    "update to an unknown default model": (
        ("events", "update", "hackathon", "--default-model", "gpt-4o-mni"),
        "No deployment serves gpt-4o-mni. Did you mean gpt-4o-mini?",
    ),
    "unknown tool": (
        (*NEW, *DATES, "--tools", "web_serch"),
        "--tools 'web_serch' is no hosted tool. Use some of: web_search, code_interpreter,",
    ),
    "own functions as a tool": (
        ("events", "update", "hackathon", "--tools", "mcp,function"),
        "--tools 'function' is not needed: every event allows tools of that type.",
    ),
    "usage of an unknown event": (("usage", "no-such-event"), "There is no event"),
    "two formats": (("usage", "hackathon", "--csv", "--json"), "Use only one of"),
    "usage by colour": (("usage", "hackathon", "--by", "colour"), "'user', 'model', 'hour'"),
    "interval without watch": (("usage", "hackathon", "--every", "5"), "--every needs --watch"),
    "report without a file": (("usage", "hackathon", "--html", ""), "the name of a file"),
    "invalid user": (("events", "check", "hackathon", "--user", "a/b"), "is not a valid user name"),
    "invalid address": (
        ("events", "check", "hackathon", "--user", "ann", "--url", "ftp://x"),
        "is not a valid address",
    ),
    "unknown command": (("events", "crate"), "No such command"),
    "word of the desk as a command": (
        ("events", "extend", "hackathon", "1h"),
        "No such command 'extend'. Use `events update CODE --extend TIME`.",
    ),
    "attendee without a file": (
        ("attendees", "add", "hackathon", "ann"),
        "Use `attendees import CODE FILE`.",
    ),
    "date without quotes": (
        ("events", "create", "--name", "n", "--starts", "2026-12-01", "09:00", "--ends", "2026-12-03"),
        'Put a date with a time in quotes: --starts "2026-12-01 09:00".',
    ),
    "name without quotes": (
        ("events", "create", "x", "Hack", "--name", "Winter", *DATES),
        "Got unexpected extra argument (Hack). Put a value with spaces in quotes.",
    ),
    "models without commas": (
        (*NEW, *DATES, "--models", f"{MODEL} gpt-4o"),
        f"Put commas between models: {MODEL},gpt-4o.",
    ),
    "mistyped code": (("events", "show", "hackaton"), "Did you mean hackathon?"),
    "mistyped code of a report": (("usage", "hakathon"), "Did you mean hackathon?"),
    "key in place of the code": (("events", "show", "hackathon/ann"), "Did you mean hackathon?"),
}

ADD = ("deployments", "add", "m", "--deployment", "d", "--endpoint")
URL = "https://x.openai.azure.com"
DEPLOYMENTS = {
    "invalid setting": ((*ADD, URL, "--key-env", "not a setting!"), "Do not use the key itself"),
    "key as a setting": (
        (*ADD, URL, "--key-env", "abcdef0123456789abcdef0123456789"),
        "Do not use the key itself",
    ),
    "setting of the app": ((*ADD, URL, "--key-env", "PROXY_TABLES"), "a setting of the app itself"),
    "empty setting": ((*ADD, URL, "--key-env", ""), "name the setting"),
    "plain http": ((*ADD, "http://x.openai.azure.com"), "https address"),
    "no scheme": ((*ADD, "x.openai.azure.com"), "https address"),
    "host with a space": ((*ADD, "https://my x.openai.azure.com"), "https address"),
    "address with a password": ((*ADD, "https://a:b@x.openai.azure.com"), "only the address of the resource"),
    "key and identity": ((*ADD, URL, "--key-env", "K", "--managed-identity"), "not both"),
    "invalid version": ((*ADD, URL, "--api-version", "latest"), "--api-version"),
    "unknown API": (
        (*ADD, URL, "--apis", "chat,speech"),
        "--apis 'speech' is no API. Use some of: chat, responses, embeddings, images.",
    ),
    "no API": ((*ADD, URL, "--apis", ","), "--apis must name an API. Use some of: chat, responses,"),
    "one price": ((*ADD, URL, "--prompt-price", "1"), "together"),
    "nan as a price": (
        (*ADD, URL, "--prompt-price", "nan", "--completion-price", "1"),
        "'nan' is not an amount. Use only digits and a point. Example: 0.15",
    ),
    "negative price": ((*ADD, URL, "--prompt-price", "-1"), "-1 is out of range. Use 0 to 1,000,000"),
    "huge price": ((*ADD, URL, "--prompt-price", "1e9"), "Use only digits and a point"),
    "price above the highest": ((*ADD, URL, "--prompt-price", "1000001"), "is out of range"),
    "price of 9 decimals": ((*ADD, URL, "--prompt-price", "0.123456789"), "more than 6 decimals. Round it."),
    "price with a symbol": ((*ADD, URL, "--prompt-price", "$2"), "'$2' is not an amount"),
    "price of zero": (
        (*ADD, URL, "--prompt-price", "0", "--completion-price", "1"),
        "would make calls free in an event with a budget. If they are, use --free",
    ),
    "free with a price": ((*ADD, URL, "--prompt-price", "1", "--free"), "--prompt-price or --free, not both"),
    "cached price alone": (
        ("deployments", "update", MODEL, MODEL, "--cached-prompt-price", "1"),
        "--cached-prompt-price only together with --prompt-price",
    ),
    "long prices without a cached price": (
        (*ADD, URL, "--long-prices", "272000:5/22.5"),
        "Use TOKENS:PROMPT/CACHED/COMPLETION, such as 272000:5/0.5/22.5",
    ),
    "currency of four letters": ((*ADD, URL, "--currency", "euro"), "'euro' is not a currency"),
    "price with a comma": (
        (*ADD, URL, "--prompt-price", "0,15", "--completion-price", "1"),
        "'0,15' is not an amount. Use a point and no commas. Example: 0.15",
    ),
    "word as a priority": ((*ADD, URL, "--priority", "high"), "a whole number"),
    "model with a slash": (
        ("deployments", "add", "a/b", "--deployment", "d", "--endpoint", URL),
        "'a/b' is not a valid model name. Use 1 to 64 letters",
    ),
    "empty name": (
        ("deployments", "add", "m", "--deployment", "", "--endpoint", URL),
        "'' is not a valid deployment name",
    ),
    "no change": (("deployments", "update", "m", "d"), "Nothing to change"),
    "update of an unknown one": (("deployments", "update", "m", "d", "--weight", "2"), "deployments list"),
    "update of one price": (("deployments", "update", MODEL, MODEL, "--prompt-price", "1"), "together"),
    "price and no price": (
        ("deployments", "update", MODEL, MODEL, "--completion-price", "1", "--no-price"),
        "--completion-price or --no-price, not both",
    ),
    "unknown deployment": (("deployments", "disable", "m", "no-such"), "deployments list"),
}
PLACEHOLDERS = [
    "https://NAME.openai.azure.com",
    "https://name.openai.azure.com/",
    "https://YOUR-RESOURCE.openai.azure.com",
    "https://your_resource_name.openai.azure.com",
    "https://YourResourceName.openai.azure.com/openai/v1",
    "https://<resource>.openai.azure.com",
    "https://{your-resource}.openai.azure.com",
    "https://$NAME.openai.azure.com",
    "https://RESOURCE-NAME.openai.azure.com",
    "https://my-resource.openai.azure.com",
    "https://xxx.openai.azure.com",
    "https://openai.example.com",
    "https://example.com",
]
DEPLOYMENTS |= {
    f"placeholder {url}": (
        ("deployments", "add", "m", "--deployment", "d", "--no-check", "--endpoint", url),
        "is a placeholder. Use the address of your Azure OpenAI resource",
    )
    for url in PLACEHOLDERS
}
DEPLOYMENTS |= {
    "update to a placeholder": (
        ("deployments", "update", MODEL, MODEL, "--no-check", "--endpoint", PLACEHOLDERS[0]),
        "is a placeholder",
    ),
    "placeholder as the deployment": (
        (*ADD[:4], "YOUR-DEPLOYMENT", "--no-check", "--endpoint", URL),
        "'YOUR-DEPLOYMENT' is a placeholder. Use the name of the deployment",
    ),
}
CASES = [pytest.param(*case, id=f"events: {name}") for name, case in EVENTS.items()]
CASES += [pytest.param(*case, id=f"deployments: {name}") for name, case in DEPLOYMENTS.items()]


@pytest.mark.parametrize(("arguments", "text"), CASES)
async def test_wrong_input_is_an_error_and_changes_nothing(
    tables: Tables, azurite: Azurite, arguments: tuple[str, ...], text: str
) -> None:
    before = await tables.events(), await tables.deployments()
    result = await manage(azurite, *arguments)
    assert (result.status, result.output) == (2, "")
    assert text in result.error
    assert (await tables.events(), await tables.deployments()) == before
