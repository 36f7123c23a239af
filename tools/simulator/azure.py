"""Azure's responses: its headers, and its errors word for word where they are known."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from .journal import NOTHING, Headers, Usage
from .wire import Chunk, Response

_JSON, STREAM = "application/json", "text/event-stream; charset=utf-8"
_SAFE = {"filtered": False, "severity": "safe"}
SAFE = {"hate": _SAFE, "self_harm": _SAFE, "sexual": _SAFE, "violence": _SAFE}
NO_JAILBREAK = {"filtered": False, "detected": False}
FILTERED = {**SAFE, "violence": {"filtered": True, "severity": "medium"}}

_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("BadRequest", "The request body is malformed."),
    401: (
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid "
        "key for an active subscription and use a correct regional API endpoint for your resource.",
    ),
    403: ("403", "Access denied due to Virtual Network/Firewall rules."),
    404: (
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last "
        "5 minutes, please wait a moment and try again.",
    ),
    408: ("Timeout", "The operation was timeout."),
    429: (
        "429",
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded call rate "
        "limit of your current OpenAI S0 pricing tier. Please retry later. Please go here: "
        "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.",
    ),
    500: ("InternalServerError", "The server had an error while processing your request. Sorry about that!"),
    503: (
        "ServiceUnavailable",
        "The service is temporarily unable to process your request. Please try again later.",
    ),
    504: ("GatewayTimeout", "The operation was timeout."),
}

_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>Microsoft-Azure-Application-Gateway/v2</center>\r\n</body>\r\n</html>\r\n"
)

CONTENT_FILTER = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
    "modify your prompt and retry. To learn more about our content filtering policies please read our "
    "documentation: https://go.microsoft.com/fwlink/?linkid=2198766"
)


class Refused(Exception):
    """A check of the request failed; `response` is Azure's error."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def compact(value: Any) -> bytes:
    """JSON as Azure writes it: no spaces, UTF-8 unescaped. A lone surrogate becomes '?'."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def event(value: Any) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def typed_event(value: dict[str, Any]) -> bytes:
    """With the `event:` line that Responses and images have."""
    return f"event: {value['type']}\n".encode() + event(value)


def whole(
    status: int, chunk: Chunk, content_type: str = _JSON, headers: Headers = (), work: Usage = NOTHING
) -> Response:
    every = (("content-type", content_type), *_common_headers(), *headers)
    return Response(status, every, (chunk,), length=len(chunk.data), work=work)


def stream(chunks: tuple[Chunk, ...], headers: Headers = (), work: Usage = NOTHING) -> Response:
    """`work` is what is billed before the first chunk."""
    return Response(200, (("content-type", STREAM), *_common_headers(), *headers), chunks, work=work)


def _common_headers() -> Headers:
    return (
        ("apim-request-id", str(uuid.uuid4())),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("x-content-type-options", "nosniff"),
        ("x-ms-region", "East US 2"),
    )


def model_headers(deployment: str) -> Headers:
    """On successful responses only. The limits are those of a deployment that is hardly used."""
    return (
        ("x-request-id", str(uuid.uuid4())),
        ("x-ms-deployment-name", deployment),
        ("x-ms-rai-invoked", "true"),
        ("azureml-model-session", "d20241120-simulated"),
        ("x-ratelimit-limit-requests", "1000"),
        ("x-ratelimit-limit-tokens", "1000000"),
        ("x-ratelimit-remaining-requests", "999"),
        ("x-ratelimit-remaining-tokens", "999000"),
    )


def error(status: int, headers: Headers = ()) -> Response:
    """Azure's error with that status. A 502 is the HTML page of the gateway in front, as in reality."""
    if status == 502:
        return whole(502, Chunk(_BAD_GATEWAY), "text/html", headers)
    return gateway_error(status, *_ERRORS.get(status, (str(status), f"Simulated status {status}.")), headers)


def gateway_error(status: int, code: str, message: str, headers: Headers = ()) -> Response:
    """An error in the short form of Azure's gateway."""
    return whole(status, Chunk(compact({"error": {"code": code, "message": message}})), headers=headers)


def invalid_request(
    message: str, param: str | None = None, code: str | None = None, status: int = 400
) -> Response:
    """An error in the form of the model itself, as OpenAI writes it."""
    body = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return whole(status, Chunk(compact({"error": body})))


def not_supported(operation: str, model: str) -> Response:
    message = (
        f"The {operation} operation does not work with the specified model, {model}. Please choose different "
        "model and try again. You can learn more about which models can be used with each operation here: "
        "https://go.microsoft.com/fwlink/?linkid=2197993."
    )
    return gateway_error(400, "OperationNotSupported", message)


def too_long(limit: int, tokens: int) -> Response:
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} "
        "tokens. Please reduce the length of the messages."
    )
    return invalid_request(message, "messages", "context_length_exceeded")


def filtered_prompt() -> Response:
    result = {**FILTERED, "jailbreak": NO_JAILBREAK}
    body = {
        "message": CONTENT_FILTER,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": result},
    }
    return whole(400, Chunk(compact({"error": body})))
