"""LiteLLM with its own limits: two instances, with Redis for what they share."""

import json
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tools import ports
from tools.attack.stage import KEY, PRICES, TEXT, Stage
from tools.bench import peers
from tools.bench.scenarios import MODEL
from tools.bench.targets import Program, started
from tools.processes import Child
from tools.simulator import Deployment

LIMITS: Final = ("rpm_limit", "tpm_limit", "max_budget")
"""Of a key, in the order of `run.DAY`."""

_INSTANCES: Final = 2
_A_DAY: Final = {"LITELLM_RATE_LIMIT_WINDOW_SIZE": "86400"}
"""In seconds. Without it, the limits of requests and tokens are for a minute."""
_ATTACHED: Final = '"$0" "$@" & read -r _; kill $!'
"""Ends a program when our pipe to its standard input closes."""
_CUSTOM_AUTH: Final = '''\
from litellm.proxy._types import UserAPIKeyAuth

async def user_api_key_auth(request, api_key):
    """A key names its limit and the amount. Others have no limit."""
    _, limit, amount, *_ = api_key.split(".") + ["rpm_limit", "1000"]
    value = int(amount)
    return UserAPIKeyAuth(api_key=api_key, **{limit: value / 1e6 if limit == "max_budget" else value})
'''


def new_key(limit: str, amount: int) -> str:
    """A key that has used nothing. Money is in millionths."""
    return f"sk-bench.{limit}.{amount}.{secrets.token_hex(8)}"


@asynccontextmanager
async def opened(folder: Path, stage: Stage) -> AsyncIterator[tuple[str, Sequence[str]]]:
    """Yields its name and the instances' URLs. Raises LeftOut or ChildError."""
    server = shutil.which("redis-server")
    if not server:
        raise peers.LeftOut(
            "redis-server is not on this machine's PATH. Install it (Debian: `redis-server`)."
        )
    program, port = peers.litellm(), ports.free()
    stage.deployments |= {model: Deployment(billed_as=model) for model in (MODEL, TEXT)}
    options = ["--port", str(port), "--bind", ports.HOST, "--dir", str(folder), "--save", ""]
    async with AsyncExitStack() as stack:
        command = ["sh", "-c", _ATTACHED, server, *options]
        redis = stack.enter_context(Child("redis", command, env=peers.environment()))
        redis.expect("Ready to accept connections", 10)
        mine = _with_limits(program, stage.simulator.url, port)
        targets = [await stack.enter_async_context(started(mine, folder)) for _ in range(_INSTANCES)]
        yield program.name, [f"http://{ports.HOST}:{target.port}" for target in targets]


def _with_limits(program: Program, upstream: str, redis_port: int) -> Program:
    def command(home: Path, port: int, _: int) -> list[str]:
        line, path = program.command(home, port, 0), home / "config.yaml"
        config = json.loads(path.read_text(encoding="ascii"))
        (home / "limits.py").write_text(_CUSTOM_AUTH, encoding="ascii")
        config["model_list"] = [_model(model, upstream) for model in (MODEL, TEXT)]
        config["router_settings"] = {"redis_host": ports.HOST, "redis_port": redis_port}
        config["general_settings"] = {
            "custom_auth": "limits.user_api_key_auth",
            "custom_auth_run_common_checks": True,
            "fail_closed_budget_enforcement": True,
        }
        path.write_text(json.dumps(config), encoding="ascii")
        return line

    redis = {"REDIS_HOST": ports.HOST, "REDIS_PORT": str(redis_port)}
    return replace(program, command=command, env={**program.env, **redis, **_A_DAY})


def _model(name: str, upstream: str) -> dict[str, object]:
    prompt, completion = (float(price) / 1e6 for price in PRICES)
    parameters = {
        "model": f"azure/{name}",
        "api_base": upstream,
        "api_key": KEY,
        "api_version": "2024-10-21",
        "input_cost_per_token": prompt,
        "output_cost_per_token": completion,
    }
    return {"model_name": name, "litellm_params": parameters}
