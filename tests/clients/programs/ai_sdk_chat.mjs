// npm: ai@6.0.326 @ai-sdk/openai@3.0.141 @ai-sdk/openai-compatible@2.0.92 zod@4.6.7
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { Output, embed, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL, TOOL_QUESTION, URL, join, run, temperature } from './steps.mjs';

const event = createOpenAICompatible({ name: 'event', baseURL: URL, apiKey: KEY, supportsStructuredOutputs: true });
const model = event(MODEL);
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
  embeddings: async () => (await embed({ model: event.embeddingModel(EMBEDDING_MODEL), value: 'a' })).embedding.length,
  other: () => join(parts(createOpenAI({ baseURL: URL, apiKey: KEY }).chat(MODEL))),
});
