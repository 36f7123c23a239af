// Runs the steps that the command line names, and prints one line of JSON for each, as steps.py does.
export const { EVENT_ENDPOINT: URL, EVENT_KEY: KEY, EVENT_MODEL: MODEL } = process.env;
export const EMBEDDING_MODEL = process.env.EVENT_EMBEDDING_MODEL;
export const QUESTION = 'What is a glove box?';
export const TOOL_QUESTION = 'What is the temperature in Oslo?';
export const temperature = ({ city }) => `${city} has seven degrees.`;
export const TOOL = {
  name: 'temperature',
  description: 'The temperature in a city.',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' } },
    required: ['city'],
    additionalProperties: false,
  },
};

export async function join(parts) {
  let text = '';
  for await (const part of parts) text += part ?? '';
  return text;
}

export async function run(steps) {
  for (const step of process.argv.slice(2)) {
    const result = { step };
    const began = performance.now();
    try {
      if (step in steps) result.text = String(await steps[step]());
    } catch (error) {
      result.error = `${error.name}: ${error.message}`;
    }
    if (step in steps) result.seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`\n${JSON.stringify(result)}`);
  }
  process.exit(0);
}
