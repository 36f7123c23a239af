// A streamed answer and a tool, with the Vercel AI SDK.
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

const openai = createOpenAI({
  baseURL: process.env.EVENT_ENDPOINT ?? 'http://127.0.0.1:7071/v1',
  apiKey: process.env.EVENT_KEY ?? 'hackathon/gloveboxes',
});
const model = openai('gpt-4o-mini');

const { textStream } = streamText({ model, prompt: 'What is a glove box?' });
for await (const text of textStream) process.stdout.write(text);
console.log();

const countGloves = tool({
  description: 'Count the gloves in a box.',
  inputSchema: z.object({ box: z.string() }),
  execute: ({ box }) => `The ${box} box holds 2 gloves.`,
});
const { text } = await generateText({
  model,
  prompt: 'Count the gloves in the blue box.',
  tools: { countGloves },
  stopWhen: stepCountIs(3),
});
console.log(text);
