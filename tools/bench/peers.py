"""Other proxies, for `--peers`: each as its makers would run it, in an environment of its own.

docs/decisions/0056 says how each is set, and why.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools import environment
from tools.processes import ROOT
from tools.steps import SetupError, step

from .scenarios import MODEL

NGINX_FOLDER: Final = ROOT / ".local" / "nginx"
NGINX_PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
"""Debian keeps nginx where only root looks."""
LITELLM_REQUIREMENTS: Final = Path(__file__).with_name("litellm.txt")

# Lists and archives of its own: the system's stay as they are, and root is not needed.
_FETCH: Final = """\
set -e
folder=$1 apt_get=$2 dpkg_deb=$3
new=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$new"' EXIT
cd "$new"
mkdir -p state/lists/partial cache/archives/partial tree
set -- -q -o "Dir::State=$new/state" -o "Dir::Cache=$new/cache" -o APT::Sandbox::User=root
"$apt_get" "$@" update
"$apt_get" "$@" download nginx
"$dpkg_deb" -x nginx_*.deb tree
rm -rf "$folder"
mv tree "$folder"
"""
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


class LeftOut(Exception):
    """The peer cannot take part on this machine. The message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    """With its version."""
    command: Callable[[Path, int, int], list[str]]
    """The command line, given an empty folder to run in, the port to serve on and the upstream's port.

    It may write a configuration into the folder. The program's path is absolute.
    """
    env: Mapping[str, str] = field(default_factory=dict)
    """Its whole environment, besides PATH and a HOME."""
    credential: str | None = None
    """The only `api-key` that it takes; None where it takes any."""


def nginx(path: str = NGINX_PATH, folder: Path = NGINX_FOLDER) -> Peer:
    """A relay in C without any policy: from `path`, or from `folder`, where Debian's package is unpacked."""
    if sys.platform == "win32":
        raise LeftOut("on Windows it is not the program that it is elsewhere.")
    on_path = shutil.which("nginx", path=path)
    binary = Path(on_path) if on_path else _nginx_from_debian(path, folder)
    run = subprocess.run([binary, "-v"], capture_output=True, text=True, errors="replace", check=False)
    output = (run.stdout + run.stderr).strip()
    if run.returncode != 0:
        raise LeftOut(f"it does not run here. Its last lines:\n{output}")

    def command(home: Path, port: int, upstream: int) -> list[str]:
        config = _NGINX_CONFIG % {"port": port, "upstream": upstream}
        (home / "nginx.conf").write_text(config, encoding="ascii")
        return [str(binary.resolve()), "-e", "stderr", "-p", f"{home}/", "-c", "nginx.conf"]

    return Peer(f"nginx {output.rpartition('/')[2].split()[0]}", command)


def _nginx_from_debian(path: str, folder: Path) -> Path:
    binary = folder / "usr" / "sbin" / "nginx"
    if binary.exists():
        return binary
    apt_get, dpkg_deb = shutil.which("apt-get", path=path), shutil.which("dpkg-deb", path=path)
    if not (apt_get and dpkg_deb):
        raise LeftOut("it is not on this machine's PATH, and there is no apt-get to fetch it. Install it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    title = f"fetching nginx from the system's packages, for {folder} alone"
    try:
        step(title, ["sh", "-c", _FETCH, "sh", str(folder), apt_get, dpkg_deb], "apt-get could not fetch it.")
    except SetupError as error:
        raise LeftOut(str(error)) from error
    if not binary.exists():
        shutil.rmtree(folder)
        raise LeftOut("the system's package `nginx` does not hold the program. Install it.")
    return binary


def litellm() -> Peer:
    """LiteLLM's proxy as its page for production has it: https://docs.litellm.ai/docs/proxy/prod."""
    if sys.platform == "win32":
        raise LeftOut("its makers run it on Linux and macOS.")
    try:
        python = environment.beside("litellm", LITELLM_REQUIREMENTS)
    except SetupError as error:
        raise LeftOut(str(error)) from error
    (version,) = re.findall(r"(?m)^litellm==(\S+)", LITELLM_REQUIREMENTS.read_text(encoding="utf-8"))
    key = f"sk-{secrets.token_hex(32)}"

    def command(home: Path, port: int, upstream: int) -> list[str]:
        """`openai/` is Azure's v1 form too, and somewhat faster than LiteLLM's `azure/`."""
        model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "key"}
        config = {
            "model_list": [{"model_name": MODEL, "litellm_params": model}],
            "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
        }
        (home / "config.yaml").write_text(json.dumps(config), encoding="ascii")  # JSON is YAML too
        options = [
            "--config",
            "config.yaml",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--num_workers",
            "1",
        ]
        return [str(python.with_name("litellm")), *options]

    return Peer(f"LiteLLM {version}", command, {**_LITELLM_ENV, "LITELLM_MASTER_KEY": key}, key)


ALL: Final[Mapping[str, Callable[[], Peer]]] = {"nginx": nginx, "LiteLLM": litellm}


def found(every: Mapping[str, Callable[[], Peer]] = ALL) -> tuple[list[Peer], dict[str, str]]:
    """The peers that this machine can run, and why it cannot run the others. Missing ones are fetched."""
    peers, left_out = [], {}
    for name, find in every.items():
        try:
            peers.append(find())
        except LeftOut as error:
            left_out[name] = str(error)
    return peers, left_out
