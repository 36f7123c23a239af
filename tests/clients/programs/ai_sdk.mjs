// npm: ai@7.0.173 @ai-sdk/openai@4.0.118 @ai-sdk/azure@4.0.85 zod@4.6.7
import { createAzure } from '@ai-sdk/azure';
import { createOpenAI } from '@ai-sdk/openai';
import { Output, embed, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL, TOOL_QUESTION, URL, join, run, temperature } from './steps.mjs';

const openai = createOpenAI({ baseURL: URL, apiKey: KEY });
const azure = createAzure({ baseURL: `${URL}/openai`, apiKey: KEY });
const model = openai(MODEL);
const City = z.object({ city: z.string() });

async function* parts(chosen) {
  for await (const part of streamText({ model: chosen, prompt: QUESTION, onError() {} }).fullStream) {
    if (part.type === 'error') throw part.error;
    if (part.type === 'text-delta') yield part.text;
  }
}

await run({
  chat: async () => (await generateText({ model, prompt: QUESTION })).text,
  stream: () => join(parts(model)),
  tools: async () => {
    const tools = { temperature: tool({ description: TOOL.description, inputSchema: City, execute: temperature }) };
    return (await generateText({ model, prompt: TOOL_QUESTION, tools, stopWhen: stepCountIs(3) })).text;
  },
  structured: async () =>
    (await generateText({ model, prompt: QUESTION, output: Output.object({ schema: City }) })).output.city,
  embeddings: async () => (await embed({ model: openai.embedding(EMBEDDING_MODEL), value: 'a' })).embedding.length,
  other: async () => {
    const { embedding } = await embed({ model: azure.embedding(EMBEDDING_MODEL), value: 'a' });
    return [await join(parts(azure(MODEL))), await join(parts(azure.chat(MODEL))), embedding.length];
  },
});
