"""A search by meaning. Each text becomes a vector; the nearest vectors have the most similar meaning."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
    api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
)
TEXTS = [
    "A glove box in a laboratory keeps dangerous samples away from people.",
    "A glove compartment in a car holds maps and sunglasses.",
    "Bread rises because yeast makes gas.",
]
QUESTION = "Where can I put my sunglasses in the car?"


def embed(texts: list[str]) -> list[list[float]]:
    response = client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [item.embedding for item in response.data]


[question] = embed([QUESTION])
scores = [sum(a * b for a, b in zip(question, vector, strict=True)) for vector in embed(TEXTS)]
for score, text in sorted(zip(scores, TEXTS, strict=True), reverse=True):
    print(f"{score:.2f}  {text}")
