#:package OpenAI@2.15.0

// A streamed answer with the OpenAI library.
using System.ClientModel;
using System.ClientModel.Primitives;
using OpenAI;
using OpenAI.Chat;

string endpoint = Environment.GetEnvironmentVariable("EVENT_ENDPOINT") ?? "http://127.0.0.1:7071/v1";
string key = Environment.GetEnvironmentVariable("EVENT_KEY") ?? "hackathon/gloveboxes";

OpenAIClientOptions options = new()
{
    Endpoint = new Uri(endpoint),
    // Show a refusal at once. By default, the library waits and tries again, up to three times.
    RetryPolicy = new ClientRetryPolicy(maxRetries: 0),
};
ChatClient client = new("gpt-4o-mini", new ApiKeyCredential(key), options);

await foreach (StreamingChatCompletionUpdate update in client.CompleteChatStreamingAsync("What is a glove box?"))
{
    foreach (ChatMessageContentPart part in update.ContentUpdate)
    {
        Console.Write(part.Text);
    }
}
Console.WriteLine();
