# /// script
# dependencies = ["aider-chat==0.86.2"]
# ///
import sys

from steps import KEY, MODEL, QUESTION, URL, command, run

OPTIONS = ["--yes-always", "--no-git", "--analytics-disable", "--no-check-update", "--no-show-release-notes"]


def aider(*words):
    model = ["--model", f"openai/{MODEL}", "--openai-api-base", URL, "--openai-api-key", KEY]
    output = command(sys.executable, "-m", "aider", *OPTIONS, *model, "--message", QUESTION, *words)
    return output.partition("\n\n")[2]


def chat():
    return aider("--no-stream")


def stream():
    return aider()


run(chat, stream)
