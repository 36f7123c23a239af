"""Azure's refusals, word for word where they are known."""

from typing import Any

from .plans import Headers, Plan, compact, whole


class Refused(Exception):
    """A check of the request failed; the plan says how Azure tells it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.status)
        self.plan = plan


def gateway_error(status: int, code: str, message: str, headers: Headers = ()) -> Plan:
    """The short shape of Azure's gateway: a code and a message."""
    return whole(status, compact({"error": {"code": code, "message": message}}), headers=headers)


def invalid_request(
    message: str, param: str | None = None, code: str | None = None, status: int = 400
) -> Plan:
    """The model's own shape, as OpenAI writes it."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return whole(status, compact({"error": error}))


def resource_not_found() -> Plan:
    return gateway_error(404, "404", "Resource not found")


def wrong_key() -> Plan:
    message = (
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid "
        "key for an active subscription and use a correct regional API endpoint for your resource."
    )
    return gateway_error(401, "401", message)


def wrong_bearer() -> Plan:
    message = (
        "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com), or have expired."
    )
    return gateway_error(401, "401", message)


def deployment_not_found() -> Plan:
    message = (
        "The API deployment for this resource does not exist. If you created the deployment within the last "
        "5 minutes, please wait a moment and try again."
    )
    return gateway_error(404, "DeploymentNotFound", message)


def unsupported_parameter(param: str, instead: str) -> Plan:
    message = f"Unsupported parameter: '{param}' is not supported with this model. Use '{instead}' instead."
    return invalid_request(message, param, "unsupported_parameter")


def too_long(limit: int, tokens: int) -> Plan:
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in "
        f"{tokens} tokens. Please reduce the length of the messages."
    )
    return invalid_request(message, "messages", "context_length_exceeded")


def rate_limited(headers: Headers) -> Plan:
    message = (
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded call rate "
        "limit of your current OpenAI S0 pricing tier. Please retry later. Please go here: "
        "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."
    )
    return gateway_error(429, "429", message, headers)


def filtered_prompt() -> Plan:
    message = (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
        "Please modify your prompt and retry. To learn more about our content filtering policies please "
        "read our documentation: https://go.microsoft.com/fwlink/?linkid=2198766"
    )
    error = {
        "message": message,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _filter_result()},
    }
    return whole(400, compact({"error": error}))


def _filter_result() -> dict[str, Any]:
    return {
        "hate": {"filtered": False, "severity": "safe"},
        "jailbreak": {"filtered": False, "detected": False},
        "self_harm": {"filtered": False, "severity": "safe"},
        "sexual": {"filtered": False, "severity": "safe"},
        "violence": {"filtered": True, "severity": "medium"},
    }


_FAILURES = {
    403: ("403", "Access denied due to Virtual Network/Firewall rules."),
    408: ("Timeout", "The operation was timeout."),
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


def failure(status: int) -> Plan:
    """Azure's answer with that status. A 502 is the HTML page of the gateway in front, as in life."""
    match status:
        case 401:
            return wrong_key()
        case 404:
            return deployment_not_found()
        case 429:
            return rate_limited(())
        case 502:
            return whole(502, _BAD_GATEWAY, "text/html")
        case _:
            return gateway_error(status, *_FAILURES.get(status, (str(status), f"Simulated status {status}.")))
