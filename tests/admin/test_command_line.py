"""What all commands of `manage.py` share: help, `--debug`, and errors about the tables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from admin.errors import CommandError
from admin.target import find_target
from tests.admin.manage import ROOT, UNREACHABLE, json_response, manage, run_program, serve_bytes
from tools.azurite import Azurite


async def test_debug_shows_the_traceback_wherever_it_is_given(azurite: Azurite) -> None:
    for arguments in (("--debug", "events", "stop", "unknown"), ("events", "stop", "unknown", "--debug")):
        result = await run_program(azurite, *arguments)
        assert (result.status, result.output) == (2, "")
        assert result.errors.startswith("Traceback") and "There is no event 'unknown'" in result.errors


async def test_unreachable_tables_are_an_error() -> None:
    result = await manage(UNREACHABLE, "events", "list")
    assert result.status == 2
    assert result.error.startswith("Error: Cannot access the tables: cannot connect to http://127.0.0.1:9/a.")


async def test_a_missing_sign_in_is_an_error() -> None:
    settings = {"AZURE_TOKEN_CREDENTIALS": "AzureCliCredential", "PATH": ""}
    uri = "https://127.0.0.1:9"
    result = await manage(None, "events", "list", PROXY_TABLES__tableServiceUri=uri, **settings)
    assert result.status == 2
    assert "Cannot access the tables: you are not signed in to Azure" in result.error


async def test_an_invalid_connection_string_is_an_error() -> None:
    result = await manage("nonsense", "events", "list")
    assert result.status == 2 and "connection string" in result.error


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"Values": null}', '{"Values": []}'])
def test_invalid_local_settings_are_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "local.settings.json").write_text(content)
    with pytest.raises(CommandError, match=r"local\.settings\.json must be a JSON object"):
        find_target(tmp_path)


AZURE_REFUSALS = {
    "AuthorizationPermissionMismatch": (403, "role Storage Table Data Contributor"),
    "AuthorizationFailure": (403, "firewall"),
    "AuthenticationFailed": (403, "account key"),
    "KeyBasedAuthenticationNotPermitted": (403, "PROXY_TABLES__tableServiceUri"),
    "AccountIsDisabled": (403, "role Storage Table Data Contributor"),
    "InternalError": (500, "500 InternalError"),
}


@pytest.mark.parametrize(("code", "status", "text"), [(code, *rest) for code, rest in AZURE_REFUSALS.items()])
async def test_a_refusal_of_azure_is_explained(code: str, status: int, text: str) -> None:
    body = {"odata.error": {"code": code, "message": {"lang": "en", "value": "No."}}}
    async with serve_bytes(json_response(status, body, f"x-ms-error-code: {code}")) as url:
        result = await manage(UNREACHABLE.replace("http://127.0.0.1:9", url), "events", "list")
    assert result.status == 2
    assert "Cannot access the tables" in result.error and text in result.error


def test_help_loads_no_large_library() -> None:
    program = (
        "import sys, admin.commands\n"
        "large = ('azure', 'aiohttp', 'rich', 'jinja2', 'vl_convert', 'dateutil', 'xkcdpass')\n"
        "print([name for name in large if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["events", "deployments", "usage", "events create", "deployments update"])
async def test_every_command_has_help(command: str) -> None:
    result = await run_program(None, *command.split(), "--help")
    assert result.status == 0 and "Usage: manage.py" in result.output and "--debug" in result.output


@pytest.mark.parametrize("command", ["create", "update"])
async def test_help_says_that_all_answers_of_a_request_share_the_output_limit(command: str) -> None:
    """`test_a_higher_limit_is_lowered_in_the_field_that_the_client_used` shows that it is true."""
    output = (await manage(None, "events", command, "--help")).output.rpartition("--max-output-tokens")[2]
    text = " ".join(output.split())
    assert text.startswith("N Maximum output of one request in tokens, all its answers (n) together.")


def test_the_commands_are_not_deployed() -> None:
    """`requirements.txt` has only what the app needs, and the app imports nothing from `admin`."""

    def packages(file: str) -> set[str]:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        return {line.partition("==")[0].lower() for line in lines if "==" in line}

    assert packages("requirements-admin.txt") and packages("requirements.txt")
    assert packages("requirements-admin.txt") & packages("requirements.txt") == set()
    sources = [ROOT / "function_app.py", *(ROOT / "shared").rglob("*.py")]
    assert not [path.name for path in sources if re.search(r"(from|import) admin", path.read_text("utf-8"))]
