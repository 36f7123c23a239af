// npm: @langchain/openai@1.6.0 @langchain/core@1.4.0 zod@4.6.7
import { HumanMessage, ToolMessage } from '@langchain/core/messages';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { z } from 'zod';
import { EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL, TOOL_QUESTION, URL, join, run, temperature } from './steps.mjs';

const options = { apiKey: KEY, configuration: { baseURL: URL } };
const llm = new ChatOpenAI({ model: MODEL, ...options });

async function* deltas() {
  for await (const chunk of await llm.stream(QUESTION)) yield chunk.text;
}

await run({
  chat: async () => (await llm.invoke(QUESTION)).text,
  stream: () => join(deltas()),
  tools: async () => {
    const bound = llm.bindTools([{ type: 'function', function: TOOL }]);
    const asked = new HumanMessage(TOOL_QUESTION);
    const called = await bound.invoke([asked]);
    const [{ args, id }] = called.tool_calls;
    return (await bound.invoke([asked, called, new ToolMessage({ content: temperature(args), tool_call_id: id })])).text;
  },
  structured: async () =>
    (await llm.withStructuredOutput(z.object({ city: z.string() }), { name: 'city' }).invoke(QUESTION)).city,
  embeddings: async () =>
    (await new OpenAIEmbeddings({ model: EMBEDDING_MODEL, ...options }).embedQuery('a')).length,
  other: async () => (await new ChatOpenAI({ model: MODEL, useResponsesApi: true, ...options }).invoke(QUESTION)).text,
});
