"""Other proxies, for `--peers`: each as its makers would run it, in an environment of its own.

docs/performance-runs.md says how each is set up, and why.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from admin import environment as environments
from admin.steps import SetupError

from .scenarios import MODEL
from .targets import Program

NGINX_PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
"""Debian keeps nginx where only root looks."""
LITELLM_REQUIREMENTS: Final = Path(__file__).with_name("litellm.txt")
FERROGW_REQUIREMENTS: Final = Path(__file__).with_name("ferrogw.txt")
COMPILED: Final = "ferrogw"
"""The peer that our targets name: a compiled gateway for the same APIs."""

_NGINX_CONFIG: Final = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path temp; proxy_temp_path temp;
  fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;
  keepalive_requests 100000000;
  upstream azure { server 127.0.0.1:%(upstream)d; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:%(port)d backlog=2048;
    location / {
      proxy_pass http://azure;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header api-key key;
      proxy_buffering off;
    }
  }
}
"""
_LITELLM_ENV: Final = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",  # reads no .env
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # does not fetch prices from the internet before it serves
}
_FERROGW_ENV: Final = {
    "LOG_LEVEL": "error",
    "FERRO_MODEL_CATALOG_TIMEOUT": "0",  # does not fetch its list of models from the internet
    "RATE_LIMIT_RPS": "10000000",
    "RATE_LIMIT_BURST": "10000000",
    "GOMAXPROCS": "1",  # one core, as all others
}


class LeftOut(Exception):
    """The peer cannot take part on this machine. The message says why."""


def nginx(path: str = NGINX_PATH) -> Program:
    """A relay in C without any policy. Raises LeftOut."""
    binary = shutil.which("nginx", path=path)
    if sys.platform == "win32" or not binary:
        raise LeftOut("it is not on this machine's PATH, or this is Windows. Install it.")
    run = subprocess.run([binary, "-v"], capture_output=True, text=True, errors="replace", check=False)
    output = (run.stdout + run.stderr).strip()
    if run.returncode != 0:
        raise LeftOut(f"it does not run here. Its last lines:\n{output}")

    def command(home: Path, port: int, upstream: int) -> list[str]:
        config = _NGINX_CONFIG % {"port": port, "upstream": upstream}
        (home / "nginx.conf").write_text(config, encoding="ascii")
        return [str(Path(binary).resolve()), "-e", "stderr", "-p", f"{home}/", "-c", "nginx.conf"]

    return Program(f"nginx {output.rpartition('/')[2].split()[0]}", command, environment())


def litellm() -> Program:
    """LiteLLM's proxy, set up as https://docs.litellm.ai/docs/proxy/prod says. Raises LeftOut."""
    python, version = _installed("litellm", LITELLM_REQUIREMENTS)
    key = f"sk-{secrets.token_hex(32)}"

    def command(home: Path, port: int, upstream: int) -> list[str]:
        """`openai/` is Azure's v1 form too, and somewhat faster than LiteLLM's `azure/`."""
        model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "key"}
        config = {
            "model_list": [{"model_name": MODEL, "litellm_params": model}],
            "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
        }
        (home / "config.yaml").write_text(json.dumps(config), encoding="ascii")  # JSON is YAML too
        options = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
        return [str(python.with_name("litellm")), *options, "--num_workers", "1"]

    return Program(f"LiteLLM {version}", command, environment(LITELLM_MASTER_KEY=key, **_LITELLM_ENV), key)


def ferrogw() -> Program:
    """Ferro Labs' AI Gateway, compiled from Go, with one target and no plugin. Raises LeftOut.

    It serves on all addresses of the machine, and has no option for one. Its key is new in each run.
    """
    python, version = _installed(COMPILED, FERROGW_REQUIREMENTS)
    key = f"fgw_{secrets.token_hex(32)}"

    def command(home: Path, port: int, upstream: int) -> list[str]:
        """It takes its addresses from the environment only."""
        config = {"strategy": {"mode": "single"}, "targets": [{"virtual_key": "openai"}]}
        (home / "config.yaml").write_text(json.dumps(config), encoding="ascii")
        addresses = [f"PORT={port}", f"OPENAI_BASE_URL=http://127.0.0.1:{upstream}/v1"]
        return ["env", *addresses, str(python.with_name(COMPILED)), "serve"]

    settings = {"MASTER_KEY": key, "OPENAI_API_KEY": "key", "GATEWAY_CONFIG": "config.yaml", **_FERROGW_ENV}
    return Program(f"{COMPILED} {version}", command, environment(**settings), key)


def _installed(name: str, requirements: Path) -> tuple[Path, str]:
    """The Python of its environment, and its version. Raises LeftOut."""
    if sys.platform == "win32":
        raise LeftOut("it takes part on Linux and macOS.")
    try:
        python = environments.beside(name, requirements)
    except SetupError as error:
        raise LeftOut(str(error)) from error
    (version,) = re.findall(rf"(?m)^{name}==(\S+)", requirements.read_text(encoding="utf-8"))
    return python, version


def environment(**variables: str) -> dict[str, str]:
    """Nothing of ours but PATH, so no secret reaches a peer. It gets a HOME of its own."""
    return {"PATH": os.environ.get("PATH", os.defpath), **variables}


ALL: Final[Mapping[str, Callable[[], Program]]] = {
    "nginx": nginx,
    COMPILED: ferrogw,
    "LiteLLM": litellm,
}


def found(every: Mapping[str, Callable[[], Program]] = ALL) -> tuple[list[Program], dict[str, str]]:
    """The peers that this machine can run, and why it cannot run the others. They are installed first."""
    peers, left_out = [], {}
    for name, find in every.items():
        try:
            peers.append(find())
        except LeftOut as error:
            left_out[name] = str(error)
    return peers, left_out
