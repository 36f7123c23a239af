# npm: opencode-ai@1.18.33
import json
import tempfile
from pathlib import Path

from steps import KEY, MODEL, QUESTION, URL, command, package, run

PROGRAM = sorted(package("").glob("opencode-*-*/bin/opencode*"))[0]


def opencode(npm="@ai-sdk/openai-compatible"):
    options = {"baseURL": URL, "apiKey": KEY}
    provider = {"npm": npm, "name": "Event", "options": options, "models": {MODEL: {"name": MODEL}}}
    folder = tempfile.mkdtemp()
    config = {"provider": {"event": provider}, "autoupdate": False, "share": "disabled"}
    Path(folder, "opencode.json").write_text(json.dumps(config))
    words = ["run", "--model", f"event/{MODEL}", QUESTION]
    return command(str(PROGRAM), *words, folder=folder, OPENCODE_DISABLE_MODELS_FETCH="1")


def chat():
    return opencode()


def other():
    return opencode("@ai-sdk/openai")


run(chat, other, stream=chat)
