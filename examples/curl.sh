#!/bin/sh
# A chat completion with curl. It names no model: the event has a default.
curl --fail-with-body --silent --show-error \
  "${EVENT_ENDPOINT:-http://127.0.0.1:7071}/api/v1/chat/completions" \
  -H "openai-event-code: ${EVENT_KEY:-hackathon/gloveboxes}" \
  -H "Content-Type: application/json" \
  -d '{
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "What is a glove box?"}]
  }'
