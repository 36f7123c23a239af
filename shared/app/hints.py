"""What to use instead of a path or a method that the proxy does not serve."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import MethodNotAllowed, NotFound, ProxyError, WebSocketNotSupported
from ..functions.http import Request
from .paths import MAIN_PATHS, MOST_SEGMENTS, find

_CHAT = "'/v1/chat/completions'"
_KEEP = "Keep the messages in your own program, or use 'previous_response_id' with '/v1/responses'."
_INLINE = "Send the content in the request: text in a message, an image as a data URL."
_INSTEAD = {
    "completions": f"Use {_CHAT} with 'messages': ChatOpenAI in LangChain, is_chat_model=True in LlamaIndex, "
    "client.chat.completions in the openai package.",
    "engines": f"Use {_CHAT}, and name the model in the body.",
    "messages": f"Anthropic's API is not available. Set your client to an OpenAI-compatible API, at {_CHAT}.",
    "audio": f"Convert speech in your own program or browser, and send the text to {_CHAT}.",
    "realtime": f'Use {_CHAT} with "stream": true.',
    "moderations": f"Use {_CHAT}: Azure OpenAI filters its content and says so in the response.",
    "files": _INLINE,
    "uploads": _INLINE,
    "vector_stores": "Search in your own program, with vectors from '/v1/embeddings'.",
    "conversations": _KEEP,
    "assistants": "Use '/v1/responses', or an agent framework that uses it.",
    "threads": _KEEP,
    "batches": f"Send the requests one by one to {_CHAT}.",
    "fine_tuning": "No model can be trained here. Put instructions and examples into your messages.",
}
"""By the first segment of a path, after its prefix and its deployment."""
_NOT_IDS = {
    "compact": "Send the part of the conversation that matters in 'input'.",
    "input_tokens": "Send the request: 'usage' in the response has its tokens.",
}
"""Calls of the Responses API whose path looks like that of a stored response."""
_PREFIXES = {"", "api", "v1", "openai"}
_SHOWN = 200
"""The most characters of a path in a message: some clients hide a longer one."""


def refusal(req: Request) -> ProxyError:
    """The refusal of a request whose path, or whose method of this path, has no handler."""
    path = req.path[:_SHOWN]
    segments = req.path.strip("/").split("/")
    topic = _topic(segments)
    if topic == "responses" and req.headers.get(b"upgrade", b"").lower() == b"websocket":
        return WebSocketNotSupported(f"{path!r} does not accept WebSockets. Use HTTP.")
    if topic == "responses" and (advice := _NOT_IDS.get(segments[-1].lower())):
        return NotFound(f"{path!r} is not available here. {advice}")
    if found := find(req.path):
        allowed = ", ".join(found.handlers)
        return MethodNotAllowed(f"{path!r} does not accept {req.method}. Use {allowed}.", allowed)
    advice = _base_url(req.path) or _shorter(segments) or _INSTEAD.get(topic) or _served()
    return NotFound(f"{path!r} is not available here. {advice}")


def _topic(segments: Sequence[str]) -> str:
    """What the path is about: its first segment after the prefix and the deployment."""
    rest = [name for name in map(str.lower, segments) if name not in _PREFIXES]
    if rest[:1] == ["deployments"]:
        del rest[:2]
    return rest[0] if rest else ""


def _base_url(path: str) -> str | None:
    """For the path of a base URL, which people open in a browser."""
    call = f"{path.rstrip('/')}/chat/completions"
    if path == "/" or not find(call):
        return None
    return f"It is the base URL for an SDK. In a browser, open '/'. Without an SDK, use {call[:_SHOWN]!r}."


def _shorter(segments: Sequence[str]) -> str | None:
    """For a path that ends like one that is served: the client's base URL is too long."""
    for start in range(max(1, len(segments) - MOST_SEGMENTS), len(segments)):
        end = "/".join(segments[start:])
        if end not in {"healthz", "readyz"} and find(f"/{end}"):
            break
    else:
        return None
    api = end[:_SHOWN].removeprefix("api/").removeprefix("v1/")
    if api.startswith("openai/deployments/"):
        base = "For AzureOpenAI, set azure_endpoint to the address of this server, with nothing after it"
    else:
        base = "In an SDK, set base_url to the address of this server and /v1, with nothing after it"
    return f"Use {'/v1/' + api!r}. {base}."


def _served() -> str:
    *others, last = map(repr, MAIN_PATHS)
    return f"The proxy serves {', '.join(others)} and {last}."
