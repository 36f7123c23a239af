#:package Microsoft.SemanticKernel@1.82.0
#:property PublishAot=false

// An answer with Semantic Kernel.
using Microsoft.SemanticKernel;

string endpoint = Environment.GetEnvironmentVariable("EVENT_ENDPOINT") ?? "http://127.0.0.1:7071/v1";
string key = Environment.GetEnvironmentVariable("EVENT_KEY") ?? "hackathon/gloveboxes";

Kernel kernel = Kernel.CreateBuilder()
    .AddOpenAIChatCompletion(modelId: "gpt-4o-mini", endpoint: new Uri(endpoint), apiKey: key)
    .Build();

Console.WriteLine(await kernel.InvokePromptAsync("What is a glove box?"));
