#:package Microsoft.Extensions.AI@10.11.0
#:package Microsoft.Extensions.AI.OpenAI@10.11.0
#:property PublishAot=false

// A tool that the model calls, with Microsoft.Extensions.AI.
using System.ClientModel;
using System.ClientModel.Primitives;
using System.ComponentModel;
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
IChatClient client = new ChatClientBuilder(openAI.GetChatClient("gpt-4o-mini").AsIChatClient())
    .UseFunctionInvocation()
    .Build();

[Description("Count the gloves in a box.")]
static string CountGloves(string box) => $"The {box} box holds 2 gloves.";

ChatOptions withTool = new() { Tools = [AIFunctionFactory.Create(CountGloves, "count_gloves")] };
ChatResponse response = await client.GetResponseAsync("Count the gloves in the blue box.", withTool);
Console.WriteLine(response.Text);
