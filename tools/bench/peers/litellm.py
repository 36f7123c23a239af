"""LiteLLM's proxy, as its makers' page for production has it: https://docs.litellm.ai/docs/proxy/prod."""

import json
import re
import secrets
import sys
from pathlib import Path
from typing import Final

from admin import environment
from admin.steps import SetupError

from ..requests import MODEL
from .peer import LeftOut, Peer

_REQUIREMENTS: Final = Path(__file__).with_name("litellm.txt")
_ENV: Final = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",  # reads no .env
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # asks nobody on the internet for prices before it serves
}


def found() -> Peer:
    """Installs it where it is not there yet. Raises LeftOut."""
    if sys.platform == "win32":
        raise LeftOut("its makers run it on Linux and macOS.")
    try:
        python = environment.beside("litellm", _REQUIREMENTS)
    except SetupError as error:
        raise LeftOut(str(error)) from error
    key = f"sk-{secrets.token_hex(32)}"
    return Peer(
        name=f"LiteLLM {_version()}",
        policy="its proxy with one worker and one model, set as its makers' page for production has it: log "
        "level ERROR, `LITELLM_MODE=PRODUCTION`, a request timeout. It checked the master key, without which "
        "it does not start, parsed and wrote anew every answer, and worked out its cost. It had no database, "
        "so it knew no users and no quotas and kept no usage; and no Redis, cache, callbacks or look-ups on "
        "the internet.",
        command=lambda home, port, upstream: _command(python, home, port, upstream),
        env={**_ENV, "LITELLM_MASTER_KEY": key},
        credential=key,
    )


def _command(python: Path, home: Path, port: int, upstream: int) -> list[str]:
    """As the form of OpenAI, which Azure's v1 is too: somewhat faster than LiteLLM's `azure/`."""
    called = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "key"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": called}],
        "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
    }
    (home / "config.yaml").write_text(json.dumps(config), encoding="ascii")  # JSON is YAML too
    options = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return [str(python.with_name("litellm")), *options]


def _version() -> str:
    pinned = re.search(r"(?m)^litellm==(\S+)", _REQUIREMENTS.read_text(encoding="utf-8"))
    assert pinned  # noqa: S101 - it is our own file
    return pinned[1]
