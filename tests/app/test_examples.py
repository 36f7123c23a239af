"""The examples for attendees work as they are."""

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from shared.core.models import EMBEDDINGS
from tests import browser
from tests.conftest import CREDENTIAL, EVENT, QUESTION, USER, Stage
from tests.responses import response_of

pytestmark = pytest.mark.one_python

EXAMPLES = Path(__file__).parents[2] / "examples"
SEARCH = "embeddings_search.py"
PYTHON = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != SEARCH)
PROGRAMS = sorted(
    str(path.relative_to(EXAMPLES))
    for path in EXAMPLES.rglob("*.*")
    if path.is_file() and path.suffix != ".md"
)
EMBEDDING_MODEL = "text-embedding-3-small"
ENDINGS = ["/v1", "/v1/"]
"""The endpoint that `manage.py events create` prints ends in the first. Some people add the slash."""


@pytest.fixture
async def key(stage: Stage) -> str:
    """A credential of an event with all models of the examples."""
    row = {"model": EMBEDDING_MODEL, "id": EMBEDDING_MODEL, "deployment_name": EMBEDDING_MODEL}
    await stage.add_deployment(**row, apis=(EMBEDDINGS,))
    return f"{await stage.add_event(models=(*EVENT.models, EMBEDDING_MODEL))}/{USER}"


async def _output(endpoint: str, key: str, *command: str) -> str:
    variables = {"EVENT_ENDPOINT": endpoint, "EVENT_KEY": key}
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize(
    ("name", "ending"),
    [*((name, "/v1") for name in PYTHON), ("openai_sdk.py", "/v1/"), ("azure_openai_sdk.py", "/v1/")],
)
async def test_python_example_prints_an_answer(stage: Stage, key: str, name: str, ending: str) -> None:
    output = await _output(stage.url + ending, key, sys.executable, str(EXAMPLES / name))
    assert "glove" in output.lower()
    assert {call.status for call in stage.simulator.calls} == {200}


async def test_search_example_prints_the_nearest_text_first(stage: Stage, key: str) -> None:
    output = await _output(f"{stage.url}/v1/", key, sys.executable, str(EXAMPLES / SEARCH))
    assert "sunglasses" in output.splitlines()[0]


async def test_httpx_example_prints_our_message_when_the_quota_is_used_up(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=0)
    command = (sys.executable, str(EXAMPLES / "httpx_call.py"))
    with pytest.raises(AssertionError, match=r"^Your daily limit is 0 requests\."):
        await _output(f"{stage.url}/v1", f"{code}/{USER}", *command)


@pytest.mark.skipif(
    not shutil.which("curl") or sys.platform == "win32", reason="needs curl and a POSIX shell"
)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_curl_example_prints_a_response(stage: Stage, key: str, ending: str) -> None:
    assert '"chat.completion"' in await _output(stage.url + ending, key, "sh", str(EXAMPLES / "curl.sh"))


async def test_vscode_example_has_an_address_that_serves_its_model(stage: Stage) -> None:
    [provider] = json.loads((EXAMPLES / "vscode" / "chatLanguageModels.json").read_text(encoding="utf-8"))
    [model] = provider["models"]
    path = model["url"].removeprefix("http://127.0.0.1:7071")
    assert (await response_of(stage.post(path, json=QUESTION | {"model": model["id"]}))).status == 200


async def test_browser_example_prints_an_answer_or_our_message(stage: Stage, tmp_path: Path) -> None:
    async def ask_until(expected: str, key: str, page: browser.Page) -> None:
        values = {"endpoint": f"{stage.url}/v1", "key": key}
        await page.evaluate(
            f"for (const [name, value] of Object.entries({json.dumps(values)}))"
            "  document.forms[0].elements[name].value = value;"
            "document.forms[0].requestSubmit()"
        )
        while expected not in await page.evaluate("document.querySelector('#answer').textContent"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async with browser.opened(tmp_path) as page, asyncio.timeout(60):
        await page.open((EXAMPLES / "browser.html").as_uri())
        await ask_until("glove", CREDENTIAL, page)
        await ask_until("organiser", "no-such-event/ann", page)


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_has_v1_in_its_own_endpoint_and_adds_none_to_another(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert re.findall(r"[^\s\"'}-]*/v1", text) == ["http://127.0.0.1:7071/v1"]


def test_readme_of_the_examples_has_an_endpoint_that_ends_in_v1() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"EVENT_ENDPOINT=(\S+)", text) == ["https://THE-APP.azurewebsites.net/v1"]
