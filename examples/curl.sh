#!/bin/sh
# A chat completion with curl. Without a model, the default of the event is used.
endpoint="${EVENT_ENDPOINT:-http://127.0.0.1:7071/v1}"
curl --fail-with-body --silent --show-error \
  "${endpoint%/}/chat/completions" \
  -H "openai-event-code: ${EVENT_KEY:-hackathon/gloveboxes}" \
  -H "Content-Type: application/json" \
  -d '{
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "What is a glove box?"}]
  }'
