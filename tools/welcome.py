"""The text that `dev.py run` prints when it is ready."""

import sys

from admin.local_runs import Run

CREDENTIAL = "hackathon/gloveboxes"
_BODY = '{"messages": [{"role": "user", "content": "What is a glove box?"}]}'
_STREAM_BODY = '{"stream": true, ' + _BODY[1:]

_READY = """
The proxy is ready at {url} (started in {seconds:.1f} s).

{demo}
Ctrl-C stops it. The tables are kept for the next run.
Manage events and deployments from a second terminal: python3 manage.py --help
"""
_DEMO = """\
Open the page for attendees in a browser:

  {url}/#hackathon

Send a request. The response is simulated:

{chat}

The same request as a stream:

{stream}

Open the organiser's desk: `python3 manage.py events desk hackathon` prints its link.

See how much of the quota is used:

{event}

The key is hackathon/ANY-NAME: each name has its own quota.
"""
_EMPTY = """\
The demo is left out. The events and deployments are those in the tables. To add some, use
`python3 manage.py deployments add` and `python3 manage.py events create` (`--help` shows the options).
"""


def text(run: Run, *, seconds: float, windows: bool = sys.platform == "win32") -> str:
    demo = _demo(run.url, windows=windows) if run.simulator_url else _EMPTY
    return _READY.format(url=run.url, seconds=seconds, demo=demo)


def _demo(url: str, *, windows: bool) -> str:
    if windows:
        chat, stream, curl = _powershell(url), _cmd(url), "curl.exe"
    else:
        chat, stream, curl = _curl(url, _BODY), _curl(url, _STREAM_BODY, "-N "), "curl"
    event = f'  {curl} -H "openai-event-code: {CREDENTIAL}" {url}/v1/event'
    return _DEMO.format(url=url, chat=chat, stream=stream, event=event)


def _curl(url: str, body: str, options: str = "") -> str:
    return f"""\
  curl {options}{url}/v1/chat/completions \\
    -H "openai-event-code: {CREDENTIAL}" \\
    -H "Content-Type: application/json" \\
    -d '{body}'"""


def _powershell(url: str) -> str:
    """Not curl: older versions of PowerShell remove the quotes from the arguments of a program."""
    return f"""\
  (PowerShell)
  Invoke-RestMethod {url}/v1/chat/completions -Method Post -ContentType application/json `
    -Headers @{{"openai-event-code" = "{CREDENTIAL}"}} `
    -Body '{_BODY}'"""


def _cmd(url: str) -> str:
    body = _STREAM_BODY.replace('"', '\\"')
    return f"""\
  (cmd)
  curl -N {url}/v1/chat/completions ^
    -H "openai-event-code: {CREDENTIAL}" ^
    -H "Content-Type: application/json" ^
    -d "{body}\""""
