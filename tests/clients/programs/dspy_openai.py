# /// script
# dependencies = ["dspy[numpy]==3.4.1"]
# ///
import dspy
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, URL, run

options = {"api_base": URL, "api_key": KEY}
lm = dspy.LM(f"openai/{MODEL}", cache=False, **options)


def chat():
    return lm(QUESTION)[0]


def embeddings():
    return dspy.Embedder(f"openai/{EMBEDDING_MODEL}", caching=False, **options)(["a"]).shape[1]


def other():
    return dspy.LM(f"openai/{MODEL}", model_type="responses", cache=False, **options)(QUESTION)[0]


run(chat, embeddings, other)
