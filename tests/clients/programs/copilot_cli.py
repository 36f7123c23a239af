# npm: @github/copilot@1.0.102
import tempfile

from steps import KEY, MODEL, QUESTION, URL, command, package, run


def copilot(api):
    variables = {
        "COPILOT_PROVIDER_BASE_URL": URL,
        "COPILOT_PROVIDER_API_KEY": KEY,
        "COPILOT_PROVIDER_WIRE_API": api,
        "COPILOT_MODEL": MODEL,
        "COPILOT_OFFLINE": "true",
        "COPILOT_AUTO_UPDATE": "false",
        "XDG_CONFIG_HOME": tempfile.mkdtemp(),
    }
    return command(
        "node", str(package("@github/copilot/npm-loader.js")), "-p", QUESTION, "--silent", **variables
    )


def chat():
    return copilot("completions")


def other():
    return copilot("responses")


run(chat, other, stream=chat)
