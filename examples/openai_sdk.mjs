// A streamed chat completion with the JavaScript SDK.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.EVENT_ENDPOINT ?? "http://127.0.0.1:7071/v1",
  apiKey: process.env.EVENT_KEY ?? "hackathon/gloveboxes",
});
const stream = await client.chat.completions.create({
  model: "gpt-4o-mini",
  messages: [{ role: "user", content: "What is a glove box?" }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
console.log();
