# npm: @openai/codex@0.171.0
import tempfile
from pathlib import Path

from steps import KEY, QUESTION, URL, command, package, run

CONFIG = (Path(__file__).parents[3] / "examples" / "codex" / "config.toml").read_text()
OURS = "http://127.0.0.1:7071/v1"
"""The endpoint in the example."""


def codex(question):
    home = tempfile.mkdtemp()
    Path(home, "config.toml").write_text(CONFIG.replace(OURS, URL))
    words = ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", question]
    return command("node", str(package("@openai/codex/bin/codex.js")), *words, CODEX_HOME=home, EVENT_KEY=KEY)


def chat():
    return codex(QUESTION)


def tools():
    """The simulated model calls a tool whose name is in the prompt, here the one that runs a shell command."""
    return codex("echo seven degrees # exec command")


run(chat, tools, stream=chat)
