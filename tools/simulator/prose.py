"""What the simulated model answers: a few sentences that quote the prompt and say that they are simulated."""

_MOST_LETTERS = 200


def answer(prompt: str) -> str:
    question = " ".join(prompt.split())
    if len(question) > _MOST_LETTERS:
        question = f"{question[:_MOST_LETTERS]}…"
    quoted = f"You asked: “{question}”" if question else "Your last message has no text."
    return (
        f"This is a simulated answer; no model has read your message. {quoted} Your event code is valid, and "
        "the request went all the way through the proxy and back. At your event, a real model answers here."
    )
