"""The simulated model's sentences: they quote the prompt, or a tool, and say that they are simulated."""

_MOST_LETTERS = 200


def answer(prompt: str) -> str:
    question = _short(prompt)
    quoted = f"You asked: “{question}”" if question else "Your last message has no text."
    return (
        f"This is a simulated answer; no model has read your message. {quoted} Your event code is valid, and "
        "the request went all the way through the proxy and back. At your event, a real model answers here."
    )


def after_tool(result: str) -> str:
    return (
        f"This is a simulated answer; no model has read your message. Your tool returned: “{_short(result)}”"
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"
