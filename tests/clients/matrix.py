"""Real clients against the proxy: `python3 dev.py test --clients`. Each has an environment of its own.

The program of a client is in `programs`. It runs three times: all its steps; one call when the quota of the day is
used up; a stream that breaks. `expected.py` says what differs from client to client.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.steps import SetupError
from shared.core.models import EMBEDDINGS, Deployment
from tests.clients.client import STEPS, TABLE, Client, Run
from tests.clients.expected import CLIENTS, MOST_PATIENCE_SECONDS, Expected
from tests.conftest import MODEL, USER, Stage
from tools import clients
from tools.simulator import CutStream

EMBEDDING_MODEL = "text-embedding-3-small"
QUOTA_MESSAGE = "You have used your 1 request for today."
CUT_MESSAGE = "The answer was cut off and is incomplete."
PATIENCE_SECONDS = 120.0
"""Until then, a person sees what happened. A few clients have more: see `Expected.quota_seconds`."""
STEPS_SECONDS = 240.0


@pytest.fixture(scope="session")
def uv() -> Path:
    return clients.prepare()


@pytest.fixture(scope="session", autouse=True)
async def embedding_deployment(running: Stage) -> None:
    await running.tables.put_deployment(embedding_deployment_of(running))


def embedding_deployment_of(stage: Stage) -> Deployment:
    name, url = EMBEDDING_MODEL, stage.simulator.url
    return Deployment(name, name, url, name, auth="SIMULATOR_KEY", apis=(EMBEDDINGS,))


@pytest.fixture(params=clients.programs(), ids=lambda program: str(program.stem))
def client(request: pytest.FixtureRequest, uv: Path, stage: Stage, tmp_path: Path) -> Client:
    program: Path = request.param
    try:
        command = clients.install(program, uv)
    except SetupError as error:
        TABLE[program.stem] = {"API": "not installed"}
        pytest.skip(f"Cannot install {program.stem}. {error}")
    TABLE[program.stem] = {"packages": ", ".join(clients.packages(program))}
    variables = {
        "EVENT_ENDPOINT": f"{stage.url}/v1",
        "EVENT_MODEL": MODEL,
        "EVENT_EMBEDDING_MODEL": EMBEDDING_MODEL,
        "CLIENT_NODE_MODULES": str(clients.folder_of(program) / "node_modules"),
        "HOME": str(tmp_path),
    }
    return Client(program.stem, command, variables)


@pytest.mark.timeout(STEPS_SECONDS + 2 * MOST_PATIENCE_SECONDS + 60)
async def test_client_works_and_shows_our_messages(stage: Stage, client: Client) -> None:
    expected = CLIENTS.get(client.name, Expected())
    cells = TABLE.setdefault(client.name, {})
    patience = max(PATIENCE_SECONDS, expected.quota_seconds)
    everything = await _everything(stage, client, cells)
    used_up = await _used_up(stage, client, patience)
    cut = await _cut(stage, client, patience)
    cells |= {"quota": used_up.shows(QUOTA_MESSAGE), "cut": cut.shows(CUT_MESSAGE)}
    cells["seconds"] = f"{used_up.seconds:.0f}, {cut.seconds:.0f}"
    wanted = expected.cells(everything.steps)
    faults = [f"{name}: {cells[name]}, not {cell}" for name, cell in wanted.items() if cells[name] != cell]
    if wanted["quota"] == "clear" and used_up.seconds > expected.quota_seconds:
        faults.append(f"it showed after {used_up.seconds:.0f} s that the quota is used up")
    if faults:
        outputs = (run.output.strip() for run in (everything, used_up, cut))
        pytest.fail("\n\n".join(["; ".join(faults), *outputs]), pytrace=False)


async def _everything(stage: Stage, client: Client, cells: dict[str, str]) -> Run:
    code = await _event(stage)
    run = await client.run(*STEPS, key=f"{code}/{USER}", seconds=STEPS_SECONDS)
    first = next(iter(stage.simulator.calls), None)
    cells["API"] = first.path.rpartition("/v1/")[2] if first else "none"
    cells |= {step: run.cell(step) for step in STEPS}
    return run


async def _used_up(stage: Stage, client: Client, patience: float) -> Run:
    code = await _event(stage, requests_per_day=1)
    await stage.chat(code)
    return await client.run("chat", key=f"{code}/{USER}", seconds=patience)


async def _cut(stage: Stage, client: Client, patience: float) -> Run:
    code = await _event(stage)
    stage.simulator.always(MODEL, CutStream(after=6, cut="reset"))
    return await client.run("stream", key=f"{code}/{USER}", seconds=patience)


async def _event(stage: Stage, **changes: object) -> str:
    return await stage.add_event(models=(MODEL, EMBEDDING_MODEL), **changes)
