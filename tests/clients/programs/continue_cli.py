# npm: @continuedev/cli@1.5.47
import tempfile
from pathlib import Path

from steps import KEY, MODEL, QUESTION, URL, command, package, run

CONFIG = f"""
name: event
version: 1.0.0
schema: v1
models:
  - name: event
    provider: openai
    model: {MODEL}
    apiBase: {URL}
    apiKey: {KEY}
    roles: [chat]
"""


def chat():
    home = tempfile.mkdtemp()
    Path(home, "config.yaml").write_text(CONFIG)
    words = ["--config", f"{home}/config.yaml", "-p", QUESTION]
    variables = {"CONTINUE_GLOBAL_DIR": home, "CONTINUE_TELEMETRY_ENABLED": "0"}
    return command("node", str(package("@continuedev/cli/dist/cn.js")), *words, **variables)


run(chat, stream=chat)
