#:package Azure.AI.OpenAI@2.1.0

// An answer with the Azure OpenAI library.
using System.ClientModel.Primitives;
using Azure;
using Azure.AI.OpenAI;
using OpenAI.Chat;

string endpoint = Environment.GetEnvironmentVariable("EVENT_ENDPOINT") ?? "http://127.0.0.1:7071/v1";
string key = Environment.GetEnvironmentVariable("EVENT_KEY") ?? "hackathon/gloveboxes";

AzureOpenAIClientOptions options = new()
{
    // Show a refusal at once. By default, the library waits and tries again, up to three times.
    RetryPolicy = new ClientRetryPolicy(maxRetries: 0),
    // A reasoning model can take longer than the default of 100 seconds.
    NetworkTimeout = TimeSpan.FromMinutes(4),
};
AzureOpenAIClient azure = new(new Uri(endpoint), new AzureKeyCredential(key), options);
ChatClient client = azure.GetChatClient("gpt-4o-mini");

ChatCompletion completion = await client.CompleteChatAsync("What is a glove box?");
Console.WriteLine(completion.Content[0].Text);
