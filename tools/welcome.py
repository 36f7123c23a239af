"""What `dev.py run` prints when it serves: an address, a credential, and commands to paste."""

import sys

from admin.local_runs import Run

CREDENTIAL = "hackathon/gloveboxes"
_ASK = '{"messages": [{"role": "user", "content": "Say hello in five languages."}]}'
_ASK_FOR_A_STREAM = '{"stream": true, ' + _ASK[1:]

_DEMO = """\
Everybody may call the demo event as hackathon/YOUR-GITHUB-NAME. Try it:

{chat}

The same as a stream, and then what has been used:

{stream}

{event}

An attendee's page, for a browser: {url}/#hackathon
"""
_EMPTY = """\
It has no events and deployments of its own. See `python3 manage.py deployments add --help`
and `python3 manage.py events create --help`.
"""


def text(run: Run, *, seconds: float, windows: bool = sys.platform == "win32") -> str:
    told = _demo(run.url, windows=windows) if run.simulator_url else _EMPTY
    return (
        f"\nThe proxy is at {run.url} (started in {seconds:.1f} s).\n\n{told}\n"
        "`python3 manage.py --help` administers it, from another terminal. Ctrl-C ends it; tables are kept.\n"
    )


def _demo(url: str, *, windows: bool) -> str:
    if windows:
        event = _curl_event("curl.exe", url)
        return _DEMO.format(url=url, chat=_invoke(url), stream=_curl_in_cmd(url), event=event)
    chat, stream = _curl(url, _ASK), _curl(url, _ASK_FOR_A_STREAM, "-N ")
    return _DEMO.format(url=url, chat=chat, stream=stream, event=_curl_event("curl", url))


def _curl(url: str, body: str, options: str = "") -> str:
    return f"""\
  curl {options}{url}/v1/chat/completions \\
    -H "openai-event-code: {CREDENTIAL}" \\
    -H "content-type: application/json" \\
    -d '{body}'"""


def _curl_event(program: str, url: str) -> str:
    return f'  {program} -H "openai-event-code: {CREDENTIAL}" {url}/v1/event'


def _invoke(url: str) -> str:
    """For every PowerShell: the older ones spoil the quotes of what they give to a program such as curl."""
    return f"""\
  (PowerShell)
  Invoke-RestMethod {url}/v1/chat/completions -Method Post -ContentType application/json `
    -Headers @{{"openai-event-code" = "{CREDENTIAL}"}} `
    -Body '{_ASK}'"""


def _curl_in_cmd(url: str) -> str:
    body = _ASK_FOR_A_STREAM.replace('"', '\\"')
    return f"""\
  (cmd)
  curl -N {url}/v1/chat/completions ^
    -H "openai-event-code: {CREDENTIAL}" ^
    -H "content-type: application/json" ^
    -d "{body}\""""
