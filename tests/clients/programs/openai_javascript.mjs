// npm: openai@7.59.0
import OpenAI from 'openai';
import { EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL, TOOL_QUESTION, URL, join, run, temperature } from './steps.mjs';

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
const messages = [{ role: 'user', content: QUESTION }];
const complete = async (more) => (await client.chat.completions.create({ model: MODEL, messages, ...more })).choices[0];

async function* deltas() {
  const chunks = await client.chat.completions.create({ model: MODEL, messages, stream: true });
  for await (const chunk of chunks) yield chunk.choices[0]?.delta?.content;
}

await run({
  chat: async () => (await complete()).message.content,
  stream: () => join(deltas()),
  tools: async () => {
    const asked = [{ role: 'user', content: TOOL_QUESTION }];
    const tools = [{ type: 'function', function: TOOL }];
    const { message } = await complete({ messages: asked, tools });
    const [call] = message.tool_calls;
    const content = temperature(JSON.parse(call.function.arguments));
    asked.push(message, { role: 'tool', tool_call_id: call.id, content });
    return (await complete({ messages: asked, tools })).message.content;
  },
  structured: async () => {
    const schema = { name: 'city', schema: TOOL.parameters, strict: true };
    const answer = await complete({ response_format: { type: 'json_schema', json_schema: schema } });
    return JSON.parse(answer.message.content).city;
  },
  embeddings: async () =>
    (await client.embeddings.create({ model: EMBEDDING_MODEL, input: ['a', 'b'] })).data[1].embedding.length,
  other: async () => (await client.responses.stream({ model: MODEL, input: QUESTION }).finalResponse()).output_text,
});
