"""Two turns with the Responses API. The second continues the first."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
    api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
)
first = client.responses.create(model="gpt-4o-mini", input="What is a glove box?")
print(first.output_text)

second = client.responses.create(
    model="gpt-4o-mini",
    input="Who invented the glove box?",
    previous_response_id=first.id,
)
print(second.output_text)
