"""nginx, of this machine or from Debian's packages: a relay in C that decides nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from admin.steps import SetupError, step
from tools.processes import ROOT

from .peer import LeftOut, Peer

FOLDER: Final = ROOT / ".local" / "nginx"
PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
"""Debian keeps it where only root looks."""

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
_CONFIG: Final = """\
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


def found(path: str = PATH, folder: Path = FOLDER) -> Peer:
    """That of `path`, else the one in `folder`, where it is unpacked on first use. Raises LeftOut."""
    if sys.platform == "win32":
        raise LeftOut("on Windows it is not the program that it is elsewhere.")
    on_path = shutil.which("nginx", path=path)
    program = Path(on_path) if on_path else _from_debian(path, folder)
    return Peer(
        name=f"nginx {_version(program)}",
        policy="one process, connections kept alive on both sides, `proxy_buffering off`, no access log. It "
        "put the key in, and had no policy: whoever asks is served, and nothing is counted.",
        command=lambda home, port, upstream: _command(program, home, port, upstream),
    )


def _command(program: Path, home: Path, port: int, upstream: int) -> list[str]:
    (home / "nginx.conf").write_text(_CONFIG % {"port": port, "upstream": upstream}, encoding="ascii")
    return [str(program.resolve()), "-e", "stderr", "-p", f"{home}/", "-c", "nginx.conf"]


def _from_debian(path: str, folder: Path) -> Path:
    program = folder / "usr" / "sbin" / "nginx"
    if program.exists():
        return program
    apt_get, dpkg_deb = shutil.which("apt-get", path=path), shutil.which("dpkg-deb", path=path)
    if not (apt_get and dpkg_deb):
        raise LeftOut(
            "it is not on this machine's PATH, and there is no apt-get that could fetch it: install it."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    what = f"fetching nginx from the system's packages, for {folder} alone"
    try:
        step(what, ["sh", "-c", _FETCH, "sh", str(folder), apt_get, dpkg_deb], "apt-get could not fetch it.")
    except SetupError as error:
        raise LeftOut(str(error)) from error
    if not program.exists():
        shutil.rmtree(folder)
        raise LeftOut("the system's package `nginx` does not hold the program: install it.")
    return program


def _version(program: Path) -> str:
    asked = subprocess.run([program, "-v"], capture_output=True, text=True, errors="replace", check=False)
    said = (asked.stdout + asked.stderr).strip()
    if asked.returncode != 0:
        raise LeftOut(f"it does not run here. What it said last:\n{said}")
    return said.rpartition("/")[2].split()[0]
