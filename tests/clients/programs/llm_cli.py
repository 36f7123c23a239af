# /// script
# dependencies = ["llm==0.36"]
# ///
import json
import sys
import tempfile
from pathlib import Path

from steps import KEY, MODEL, QUESTION, SCHEMA, TOOL_QUESTION, URL, command, run

HOME = Path(tempfile.mkdtemp())
(HOME / "extra-openai-models.yaml").write_text(
    f"- model_id: event\n  model_name: {MODEL}\n  api_base: {URL}\n  api_key_name: event\n"
    "  supports_tools: true\n  supports_schema: true\n"
)
(HOME / "keys.json").write_text(json.dumps({"event": KEY}))
TOOL = "def temperature(city: str) -> str:\n    return city + ' has seven degrees.'"


def llm(*words):
    return command(sys.executable, "-m", "llm", "prompt", "-m", "event", *words, LLM_USER_PATH=str(HOME))


def chat():
    return llm(QUESTION, "--no-stream")


def stream():
    return llm(QUESTION)


def tools():
    return llm(TOOL_QUESTION, "--functions", TOOL)


def structured():
    return json.loads(llm(QUESTION, "--schema", json.dumps(SCHEMA), "--no-stream"))["city"]


run(chat, stream, tools, structured)
