"""The simulated Azure OpenAI bills as the models do, whether or not the usage is reported."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.responses import WireResponse, response_of
from tools.simulator import Answer, Call, CutStream, Deployment, Failure, Simulator, Usage

TEXT = "one two three four five six seven eight"  # a token for each word
MODELS = ("gpt-4o", "gpt-4o-mini", "o4-mini")


@pytest.fixture
async def upstream() -> AsyncIterator[Simulator]:
    deployments = {name: Deployment(billed_as=name) for name in MODELS}
    deployments["slow"] = Deployment(billed_as="o4-mini", tokens_per_second=2000)
    async with Simulator(deployments=deployments) as simulator:
        yield simulator


async def send(upstream: Simulator, body: dict[str, Any] | str) -> WireResponse:
    data = body if isinstance(body, str) else json.dumps(body)
    url = f"{upstream.url}/openai/v1/chat/completions"
    async with aiohttp.ClientSession(headers={"api-key": "sim-key"}) as http:
        return await response_of(http.post(url, data=data))


def chat(content: Any = "Hello world", model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


async def prompt_tokens(upstream: Simulator, body: dict[str, Any] | str) -> int:
    """The prompt tokens of a call, which are billed as they are reported."""
    upstream.reset()
    response = await send(upstream, body)
    assert response.status == 200
    reported: int = json.loads(response.body)["usage"]["prompt_tokens"]
    assert upstream.calls[0].billed.prompt_tokens == reported
    return reported


def picture(width: int, height: int, **more: Any) -> dict[str, Any]:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(9)
    url = f"data:image/png;base64,{base64.b64encode(header).decode()}"
    return {"type": "image_url", "image_url": {"url": url, **more}}


LINKED = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("Hello world", 2), ("1 0 0 1 ", 8), ("1234567890", 4), ("👩‍🚀", 5), ("", 0), ("<|endoftext|>", 7)],
)
async def test_text_costs_its_real_tokens(upstream: Simulator, text: str, tokens: int) -> None:
    assert await prompt_tokens(upstream, chat(text)) == tokens + 1 + 3 + 3  # the role, a message, the prompt


async def test_escaped_text_costs_what_its_characters_cost(upstream: Simulator) -> None:
    escaped = json.dumps(chat("?")).replace("?", "".join(f"\\u{ord(one):04x}" for one in "Hello world"))
    assert await prompt_tokens(upstream, escaped) == await prompt_tokens(upstream, chat("Hello world"))


async def test_tools_cost_their_text(upstream: Simulator) -> None:
    tool = {"type": "function", "function": {"name": "weather", "description": "word " * 100}}
    more = await prompt_tokens(upstream, chat(tools=[tool])) - await prompt_tokens(upstream, chat())
    assert 100 < more < 130


@pytest.mark.parametrize(
    ("part", "gpt_4o", "mini"),  # the first three are OpenAI's own examples
    [
        (picture(1024, 1024, detail="high"), 765, 2833 + 4 * 5667),
        (picture(2048, 4096), 1105, 2833 + 6 * 5667),
        (picture(4096, 8192, detail="low"), 85, 2833),
        (picture(512, 512), 255, 2833 + 5667),
        (picture(2048, 768), 1445, 48_169),
        (picture(0, 0), 1445, 48_169),
        (LINKED, 1445, 48_169),
    ],
)
async def test_picture_costs_what_its_size_costs_on_the_model(
    upstream: Simulator, part: dict[str, Any], gpt_4o: int, mini: int
) -> None:
    without = await prompt_tokens(upstream, chat([]))
    assert await prompt_tokens(upstream, chat([part])) - without == gpt_4o
    assert await prompt_tokens(upstream, chat([part], "gpt-4o-mini")) - without == mini
    escaped = json.dumps(chat([part])).replace("image_url", r"image\u005furl")
    assert await prompt_tokens(upstream, escaped) - without == gpt_4o


async def test_sound_and_files_cost_by_their_bytes(upstream: Simulator) -> None:
    data = base64.b64encode(bytes(30_000)).decode()
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}
    file = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}"}}
    without = await prompt_tokens(upstream, chat([]))
    assert await prompt_tokens(upstream, chat([sound])) - without == 300
    assert await prompt_tokens(upstream, chat([file])) - without == 7500


async def test_prompt_beyond_the_context_is_refused_and_costs_nothing(upstream: Simulator) -> None:
    assert (await send(upstream, chat("1 0 " * 40_000))).error["code"] == "context_length_exceeded"
    assert (await send(upstream, chat([LINKED] * 3, "gpt-4o-mini"))).status == 200  # billed, but not read
    assert [call.billed.total > 128_000 for call in upstream.calls] == [False, True]
    upstream.behave("gpt-4o", Failure(500))
    await send(upstream, chat())
    assert upstream.calls[0].billed == upstream.calls[2].billed == Usage(0, 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "answer", [Answer(report_usage=False), Answer(prompt_tokens=-5, completion_tokens=0)]
)
async def test_wrong_usage_changes_nothing_of_what_is_billed(
    upstream: Simulator, answer: Answer, stream: bool
) -> None:
    upstream.behave("gpt-4o", Answer(text=TEXT), answer)
    await send(upstream, chat(stream=stream))
    assert upstream.calls[0].billed == Usage(9, 8)
    await send(upstream, chat(stream=stream))
    assert upstream.calls[1].billed.prompt_tokens == 9 and upstream.calls[1].billed.completion_tokens > 20


async def test_reasoning_is_billed_and_counts_against_the_output_limit(upstream: Simulator) -> None:
    upstream.always("o4-mini", Answer(text=TEXT, reasoning_tokens=100))
    usage = json.loads((await send(upstream, chat(model="o4-mini"))).body)["usage"]
    assert usage["completion_tokens"] == 108
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 100
    await send(upstream, chat(model="o4-mini", max_completion_tokens=103, n=2))
    assert [call.billed for call in upstream.calls] == [Usage(9, 108), Usage(9, 206)]


async def leave(upstream: Simulator, answer: Answer, stream: bool) -> Call:
    """A call whose client leaves while the model works. Returns it once the simulator has noticed."""
    upstream.always("slow", answer)
    calling = asyncio.create_task(send(upstream, chat(model="slow", stream=stream)))
    await upstream.until(lambda calls: bool(calls) and calls[0].billed.completion_tokens > 0)
    calling.cancel()
    (call,) = await upstream.until(lambda calls: bool(calls) and calls[0].left)
    return call


async def test_whole_response_is_billed_whole_though_its_client_left(upstream: Simulator) -> None:
    call = await leave(upstream, Answer(text=TEXT, reasoning_tokens=4000), stream=False)
    assert call.status is None and call.billed == Usage(9, 4008)


async def test_stream_is_billed_up_to_the_moment_when_its_client_left(upstream: Simulator) -> None:
    call = await leave(upstream, Answer(text=TEXT, reasoning_tokens=20_000), stream=True)
    assert call.status is None and call.billed.prompt_tokens == 9
    assert 0 < call.billed.completion_tokens < 20_000
    await asyncio.sleep(0.1)
    assert upstream.calls == (call,)


async def test_stream_that_is_cut_is_billed_for_its_chunks(upstream: Simulator) -> None:
    upstream.behave("gpt-4o", CutStream(after=5))  # the filter's results, the role and three tokens
    assert (await send(upstream, chat(stream=True))).is_cut
    assert upstream.calls[0].billed == Usage(9, 3)


async def test_character_of_several_tokens_arrives_whole(upstream: Simulator) -> None:
    upstream.behave("gpt-4o", Answer(text="a 👩‍🚀 𒀀", report_usage=False))
    body = (await send(upstream, chat(stream=True))).body.decode()
    assert "👩" in body and "𒀀" in body and "\ufffd" not in body
    call = upstream.calls[0]
    assert call.tokens == call.billed.completion_tokens > body.count('"content":') - 1
