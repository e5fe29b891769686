"""One call through an SDK, and everything that its caller gets to see."""

import asyncio
import inspect

import anthropic
import openai
from anthropic import omit

MESSAGES = [{"role": "user", "content": "Hello, café!"}]
LARGE = [{"role": "user", "content": "many words " * 100_000}]
OLD_VERSION = "2023-06-01"
# Longer than anything here takes.
PATIENCE = 60.0


def observe(case, url, key):
    if case.is_async:
        return asyncio.run(observe_async(case, url, key))
    seen = {"events": []}
    with client(case, url, key) as sdk:
        try:
            if case.call in ("stream", "responses"):
                with begin(sdk, case) as response:
                    seen.update(head(response))
                    with response.parse() as stream:
                        for event in stream:
                            seen["events"].append(dumped(event))
                            if len(seen["events"]) == case.closes_after:
                                break
                seen["outcome"] = "ended"
            else:
                response = begin(sdk, case)
                seen.update(head(response))
                seen["answer"] = dumped(response.parse())
                seen["outcome"] = "answered"
        except Exception as error:
            seen.update(failure(error))
    return seen


async def observe_async(case, url, key):
    seen = {"events": []}
    async with client(case, url, key) as sdk:
        try:
            if case.call == "stream":
                async with begin(sdk, case) as response:
                    seen.update(head(response))
                    async with await soon(response.parse()) as stream:
                        async for event in stream:
                            seen["events"].append(dumped(event))
                            if len(seen["events"]) == case.closes_after:
                                break
                seen["outcome"] = "ended"
            else:
                response = await begin(sdk, case)
                seen.update(head(response))
                seen["answer"] = dumped(await soon(response.parse()))
                seen["outcome"] = "answered"
        except Exception as error:
            seen.update(failure(error))
    return seen


async def soon(value):
    """What some kinds of responses have and others are waited for."""
    return await value if inspect.isawaitable(value) else value


def client(case, url, key):
    module = {"openai": openai, "anthropic": anthropic}[case.provider]
    common = {
        "api_key": key,
        "max_retries": case.retries,
        "timeout": case.gives_up or PATIENCE,
    }
    if case.is_old:
        # What older releases sent.
        common["default_headers"] = {
            "anthropic-version": OLD_VERSION,
            "x-api-key": key,
            "authorization": omit,
        }
    if case.provider == "openai":
        url += "/v1"
        return (module.AsyncOpenAI if case.is_async else module.OpenAI)(base_url=url, **common)
    return (module.AsyncAnthropic if case.is_async else module.Anthropic)(base_url=url, **common)


def begin(sdk, case):
    """The call, with its response as the SDK shows it to who asks for more than the answer."""
    match case.provider, case.call:
        case "openai", "models":
            return sdk.models.with_raw_response.list()
        case "openai", "embeddings":
            return sdk.embeddings.with_raw_response.create(model="m", input="word", encoding_format="float")
        case "openai", "responses":
            return sdk.responses.with_streaming_response.create(model="m", input="Hello!", stream=True)
        case "openai", "stream":
            chat = sdk.chat.completions.with_streaming_response
            return chat.create(model="m", messages=MESSAGES, stream=True)
        case "openai", _:
            messages = LARGE if case.call == "large" else MESSAGES
            return sdk.chat.completions.with_raw_response.create(model="m", messages=messages)
        case _, "models":
            return sdk.models.with_raw_response.list()
        case _, "count":
            return sdk.messages.with_raw_response.count_tokens(model="m", messages=MESSAGES)
        case _, "stream":
            chat = sdk.messages.with_streaming_response
            return chat.create(model="m", max_tokens=9, messages=MESSAGES, stream=True)
        case _:
            messages = LARGE if case.call == "large" else MESSAGES
            return sdk.messages.with_raw_response.create(model="m", max_tokens=9, messages=messages)




# What belongs to one connection.
OF_CONNECTION = ("connection", "keep-alive", "transfer-encoding")


def head(response):
    return {
        "status": response.status_code,
        "headers": shown(response.headers),
        "request id": response.request_id,
    }


def shown(headers):
    return sorted((name, value) for name, value in headers.multi_items() if name not in OF_CONNECTION)


def failure(error):
    """An exception as programs tell it apart."""
    seen = {
        "outcome": "raised",
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": str(error),
        "code": getattr(error, "code", None),
        "kind": getattr(error, "type", None),
        "param": getattr(error, "param", None),
        "body": getattr(error, "body", None),
        "request id": getattr(error, "request_id", None),
    }
    response = getattr(error, "response", None)
    if response is not None:
        seen["status"] = response.status_code
        seen["headers"] = shown(response.headers)
    seen["causes"] = causes(error)
    return seen


def causes(error):
    names = []
    while error.__cause__ is not None:
        error = error.__cause__
        names.append(type(error).__qualname__)
    return names


def dumped(value):
    return value if isinstance(value, str) else value.model_dump(mode="json", warnings=False)
