#:package Microsoft.Agents.AI@1.28.0
#:package Microsoft.Extensions.AI.OpenAI@10.11.0
#:property PublishAot=false

// An agent with a tool, with Microsoft Agent Framework.
using System.ClientModel;
using System.ClientModel.Primitives;
using System.ComponentModel;
using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using OpenAI;

string endpoint = Environment.GetEnvironmentVariable("EVENT_ENDPOINT") ?? "http://127.0.0.1:7071/v1";
string key = Environment.GetEnvironmentVariable("EVENT_KEY") ?? "hackathon/gloveboxes";

OpenAIClientOptions options = new()
{
    Endpoint = new Uri(endpoint),
    // Show a refusal at once. By default, the library waits and tries again, up to three times.
    RetryPolicy = new ClientRetryPolicy(maxRetries: 0),
};
OpenAIClient openAI = new(new ApiKeyCredential(key), options);

[Description("Count the gloves in a box.")]
static string CountGloves(string box) => $"The {box} box holds 2 gloves.";

ChatClientAgent agent = new(
    openAI.GetChatClient("gpt-4o-mini").AsIChatClient(),
    instructions: "Answer in one sentence.",
    tools: [AIFunctionFactory.Create(CountGloves, "count_gloves")]);

await foreach (var update in agent.RunStreamingAsync("Count the gloves in the blue box."))
{
    Console.Write(update.Text);
}
Console.WriteLine();
