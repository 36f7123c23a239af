// npm: @openai/agents@0.20.0 zod@4.6.7
import { Agent, OpenAIChatCompletionsModel, run as ask, setDefaultOpenAIClient, setTracingDisabled, tool } from '@openai/agents';
import OpenAI from 'openai';
import { z } from 'zod';
import { KEY, MODEL, QUESTION, TOOL, TOOL_QUESTION, URL, join, run, temperature } from './steps.mjs';

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
setDefaultOpenAIClient(client);
setTracingDisabled(true);
const City = z.object({ city: z.string() });
const agent = (more) => new Agent({ name: 'a', model: MODEL, ...more });
const answer = async (asked, question = QUESTION) => (await ask(asked, question)).finalOutput;

await run({
  chat: () => answer(agent()),
  stream: async () => {
    const result = await ask(agent(), QUESTION, { stream: true });
    const text = await join(result.toTextStream());
    await result.completed;
    return text;
  },
  tools: () => {
    const parameters = z.object({ city: z.string() });
    const called = tool({ ...TOOL, parameters, execute: temperature });
    return answer(agent({ tools: [called] }), TOOL_QUESTION);
  },
  structured: async () => (await answer(agent({ outputType: City }))).city,
  other: () => answer(agent({ model: new OpenAIChatCompletionsModel(client, MODEL) })),
});
