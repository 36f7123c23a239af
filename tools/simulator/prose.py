"""What the simulated model says: a few sentences on the prompt's topic, the same for the same prompt."""

import hashlib
import re

_STOPWORDS = frozenset(
    """
    a about again all also am an and any are as at be because been but by can could did do does doing for
    from get give had has have he her here hers him his how i if in into is it its just know let like make
    me more my need no not of on one or our out please say she should so some tell than that the their them
    then there these they thing this to up us use using very was we were what when where which who why will
    with would write you your explain describe show help want think sentence sentences word words short poem
    haiku code function script python program snippet verse limerick
    """.split()  # noqa: SIM905 a hundred quotes would not read better
)

_GREETING = re.compile(r"^\W*(hi|hello|hey|good (morning|afternoon|evening)|hola|bonjour)\b", re.IGNORECASE)
_CODE = re.compile(r"\b(code|function|script|python|program|snippet)\b", re.IGNORECASE)
_POEM = re.compile(r"\b(haiku|poem|verse|limerick)\b", re.IGNORECASE)

_HELLO = (
    "Hello! I am a simulated model, so I know very little, but I answer at once and cost nothing. Your "
    "request came all the way here and back, which means that your event code works. What will you build "
    "first?",
    "Hi there! Everything is connected: your event code was accepted, and these words are being streamed "
    "back to you. I am only a simulation, so ask me anything, and expect charm rather than truth.",
)

_HAIKU = (
    "{Topic} at dawn —\none small request travels far,\nand words come back home.",
    "{Topic}, then a pause.\nThe cursor blinks, the stream wakes:\ntoken by token.",
)

_SNIPPET = """Here is a small start on {topic}:

```python
def answer(question: str) -> str:
    \"\"\"Say something about {topic}.\"\"\"
    words = question.split()
    return f"You asked about {topic} in {{len(words)}} words."


print(answer("What is {topic}?"))
```

Run it, change one line, and run it again: that is how most good hacks begin."""

_ANSWERS = (
    "{Topic} is a good place to start. Begin with the smallest version that works, show it to one person, "
    "and keep the part that makes them smile. Then measure {last}, because what you can count, you can "
    "improve.",
    "There are three things worth knowing about {topic}. It is older than it looks, it is simpler than it "
    "sounds, and nobody agrees on the details. If you only have an afternoon, look at {last} first — the "
    "rest will follow.",
    "Think of {topic} as a conversation. Somebody asks, somebody answers, and what matters is what was "
    "understood. Try it with a real example, write down what surprised you, and come back to {last} "
    "tomorrow.",
    "People often make {topic} sound harder than it is. Draw it on paper, name each part, and ask what "
    "would happen if {last} were not there. What is left in the picture is usually the answer, naïve as "
    "that seems.",
)

_EMPTY = (
    "You did not give me much to go on, so here is a thought of my own: the best demos are short, the best "
    "prompts are specific, and the best teams sleep. Ask me about something you love.",
)


def answer(prompt: str, variant: int = 0) -> str:
    """A few sentences for the prompt; another variant may be worded otherwise."""
    topic = _topic(prompt)
    if _GREETING.search(prompt):
        return _choose(_HELLO, prompt, variant)
    if not topic:
        return _choose(_EMPTY, prompt, variant)
    return _choose(_templates(prompt), prompt, variant).format(
        topic=" ".join(topic), Topic=" ".join(topic).capitalize(), last=topic[-1]
    )


def _templates(prompt: str) -> tuple[str, ...]:
    if _POEM.search(prompt):
        return _HAIKU
    return (_SNIPPET,) if _CODE.search(prompt) else _ANSWERS


def _topic(prompt: str) -> list[str]:
    words = (word.lower() for word in re.findall(r"[^\W_][\w'-]*", prompt))
    chosen = dict.fromkeys(word[:40] for word in words if word not in _STOPWORDS)
    return list(chosen)[:3]


def _choose(texts: tuple[str, ...], prompt: str, variant: int) -> str:
    digest = hashlib.sha256(prompt.encode("utf-8", "replace")).digest()
    return texts[(digest[0] + variant) % len(texts)]
