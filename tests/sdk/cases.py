"""What is tried: who calls, how, and what the provider does."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

from upstream import CUT, HANG, NOTHING, RESET, Answer

CORPUS = Path(__file__).parent.parent / "data" / "responses.jsonl"
PROVIDERS = ("openai", "anthropic")
# Where a provider tells the number of a request.
REQUEST_ID = {"openai": "x-request-id", "anthropic": "request-id"}


@dataclass(frozen=True)
class Case:
    name: str
    provider: str
    # What is called: see `calls.py`.
    call: str
    # One after the other; the last is repeated.
    answers: tuple
    # The SDK's own retries.
    retries: int = 0
    # Seconds until the caller gives up, or events of a stream until it closes it.
    gives_up: float | None = None
    closes_after: int | None = None
    # How the credential is sent: as the SDK does, or as an older one.
    is_old: bool = False
    is_async: bool = False
    # What is known to differ: see `run.py`.
    rule: str = "alike"


def all_cases():
    cases = [*corpus()]
    for provider in PROVIDERS:
        cases += statuses(provider)
        cases += heads(provider)
        cases += answers(provider)
        cases += breaks(provider)
        cases += aborts(provider)
        cases += retries(provider)
    cases += [
        Case("openai-models", "openai", "models", (ok("openai", MODELS),)),
        Case("openai-embeddings", "openai", "embeddings", (ok("openai", EMBEDDINGS),)),
        Case("anthropic-models", "anthropic", "models", (ok("anthropic", ANTHROPIC_MODELS),)),
        Case("anthropic-count-tokens", "anthropic", "count", (ok("anthropic", {"input_tokens": 7}),)),
    ]
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), "a name stands for two cases"
    return cases


def corpus():
    """Every response of the two providers that was documented or reported."""
    for line in CORPUS.read_text().splitlines():
        case = json.loads(line)
        if case["provider"] not in PROVIDERS:
            continue
        headers = []
        for name, value in case["headers"].items():
            values = value if isinstance(value, list) else [value]
            # How it was framed there says nothing of how it is here.
            if name not in ("content-length", "transfer-encoding", "connection", "content-encoding"):
                headers += [(name, value) for value in values]
        events = case.get("sse")
        text = events if events is not None else case.get("body") or ""
        pieces = (text.encode(),) if text else ()
        call = call_of(case["provider"], events)
        answer = Answer(case["status"], tuple(headers), pieces, is_chunked=events is not None)
        rule = rule_of(case["status"], case["expect"]["verdict"])
        yield Case(f"corpus-{case['id']}", case["provider"], call, (answer,), rule=rule)


def call_of(provider, events):
    if events is None:
        return "plain"
    is_responses = provider == "openai" and "response." in events
    return "responses" if is_responses else "stream"


def rule_of(status, verdict):
    return "key" if status == 401 or verdict == "key_rejected" else "alike"


def headers(provider, *more, kind="application/json"):
    return (
        ("date", "Fri, 20 Nov 2026 12:00:00 GMT"),
        ("content-type", kind),
        (REQUEST_ID[provider], f"req_{provider}_1"),
        *more,
    )


def ok(provider, value):
    return Answer(200, headers(provider), (json.dumps(value).encode(),))


def error(provider, status, *more):
    """A failure in the provider's own words."""
    if provider == "anthropic":
        value = {
            "type": "error",
            "error": {"type": f"type_{status}", "message": f"It is {status}: café"},
            "request_id": "req_anthropic_1",
        }
    else:
        value = {
            "error": {
                "message": f"It is {status}: café",
                "type": f"type_{status}",
                "param": "some.param",
                "code": f"code_{status}",
            }
        }
    return Answer(status, headers(provider, *more), (json.dumps(value).encode(),))


STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 410, 411, 413, 415, 418, 422, 424, 425, 428)
STATUSES += (429, 431, 451, 498, 499, 500, 501, 502, 503, 504, 505, 507, 520, 522, 529, 599)


def statuses(provider):
    for status in STATUSES:
        yield Case(
            f"{provider}-{status}",
            provider,
            "plain",
            (error(provider, status),),
            rule=rule_of(status, None),
        )
        yield Case(
            f"{provider}-{status}-of-a-stream",
            provider,
            "stream",
            (error(provider, status),),
            rule=rule_of(status, None),
        )


def heads(provider):
    """Headers and bodies of failures that SDKs look at."""
    for name, status, more in (
        ("hint-seconds", 429, [("retry-after", "1")]),
        ("hint-fraction", 429, [("retry-after", "0.25")]),
        ("hint-ms", 429, [("retry-after-ms", "30"), ("retry-after", "1")]),
        ("hint-date-past", 503, [("retry-after", "Fri, 29 Sep 2023 16:26:57 GMT")]),
        ("hint-hour", 429, [("retry-after", "3600")]),
        ("hint-hour-503", 503, [("retry-after", "3600")]),
        ("hint-zero", 503, [("retry-after", "0")]),
        ("should-retry-false", 500, [("x-should-retry", "false")]),
        ("should-retry-true", 400, [("x-should-retry", "true")]),
        ("repeated-header", 400, [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-a", "1"), ("X-A", "2")]),
        ("odd-casing", 400, [("X-Odd-CASE", "Kept As It Is"), ("Server", "Scripted")]),
        ("keep-alive", 400, [("connection", "keep-alive"), ("keep-alive", "timeout=5")]),
    ):
        yield Case(f"{provider}-{name}", provider, "plain", (error(provider, status, *more),))
    html = b"<html><body><h1>Forbidden</h1></body></html>\r\n"
    for status in (403, 429, 502, 504):
        page = Answer(status, headers(provider, kind="text/html"), (html,))
        yield Case(f"{provider}-{status}-html", provider, "plain", (page,))
    for status in (400, 404, 500, 503):
        nothing = Answer(status, headers(provider))
        yield Case(f"{provider}-{status}-empty", provider, "plain", (nothing,))
    plain = error(provider, 400).pieces[0]
    packed = Answer(400, headers(provider, ("content-encoding", "gzip")), (gzip.compress(plain, mtime=0),))
    yield Case(f"{provider}-400-gzip", provider, "plain", (packed,))
    torn = Answer(500, headers(provider), (plain[:20],))
    yield Case(f"{provider}-500-torn-json", provider, "plain", (torn,))
    trailing = Answer(400, headers(provider), (plain + b"\n\n  ",))
    yield Case(f"{provider}-400-trailing-bytes", provider, "plain", (trailing,))
    pieces = tuple(plain[nth : nth + 7] for nth in range(0, len(plain), 7))
    chunked = Answer(400, headers(provider), pieces, is_chunked=True)
    yield Case(f"{provider}-400-chunked", provider, "plain", (chunked,))
    large = json.dumps({"error": {"type": "t", "message": "x" * 300_000}}).encode()
    yield Case(f"{provider}-400-large", provider, "plain", (Answer(400, headers(provider), (large,)),))


def answers(provider):
    """What went well."""
    plain = {"openai": COMPLETION, "anthropic": MESSAGE}[provider]
    for is_async in (False, True):
        name = f"{provider}-async" if is_async else provider
        for is_old in (False, True) if provider == "anthropic" else (False,):
            named = f"{name}-old" if is_old else name
            common = {"provider": provider, "is_async": is_async, "is_old": is_old}
            yield Case(f"{named}-plain", call="plain", answers=(ok(provider, plain),), **common)
            yield Case(f"{named}-stream", call="stream", answers=(streamed(provider),), **common)
    packed = gzip.compress(json.dumps(plain).encode(), mtime=0)
    packed = Answer(200, headers(provider, ("content-encoding", "gzip")), (packed,))
    yield Case(f"{provider}-plain-gzip", provider, "plain", (packed,))
    unread = Answer(200, headers(provider), (b"this is no JSON",))
    yield Case(f"{provider}-plain-no-json", provider, "plain", (unread,))
    text = Answer(200, headers(provider, kind="text/plain"), (b"a page",))
    yield Case(f"{provider}-plain-text", provider, "plain", (text,))
    yield Case(f"{provider}-large", provider, "large", (ok(provider, plain),))
    whole = b"".join(events(provider))
    for size in (1, 7):
        pieces = tuple(whole[nth : nth + size] for nth in range(0, len(whole), size))
        answer = Answer(200, headers(provider, kind="text/event-stream"), pieces, is_chunked=True)
        yield Case(f"{provider}-stream-by-{size}", provider, "stream", (answer,))
    crlf = tuple(piece.replace(b"\n", b"\r\n") for piece in events(provider))
    answer = Answer(200, headers(provider, kind="text/event-stream"), crlf, is_chunked=True)
    yield Case(f"{provider}-stream-crlf", provider, "stream", (answer,))


def breaks(provider):
    """Answers that break off: never a clean end."""
    parts = events(provider)
    kind = headers(provider, kind="text/event-stream")
    half = json.dumps({"openai": COMPLETION, "anthropic": MESSAGE}[provider]).encode()[:60]
    for is_async in (False, True):
        name = f"{provider}-async" if is_async else provider
        common = {"provider": provider, "is_async": is_async}
        for how, end in (("cut", CUT), ("reset", RESET)):
            common["rule"] = "reset" if end == RESET else "alike"
            for kept in (0, 1, 3, len(parts)):
                for pause in (0.0, 0.03):
                    if pause and kept < 2:
                        continue
                    answer = Answer(200, kind, parts[:kept], end, True, pause)
                    paused = "-paused" if pause else ""
                    yield Case(f"{name}-stream-{how}-after-{kept}{paused}", call="stream", answers=(answer,), **common)
            torn = Answer(200, kind, (*parts[:2], parts[2][:9]), end, True)
            yield Case(f"{name}-stream-{how}-within-an-event", call="stream", answers=(torn,), **common)
            sized = Answer(200, kind, parts[:3], end)
            yield Case(f"{name}-stream-{how}-sized", call="stream", answers=(sized,), **common)
            for chunked in (False, True):
                answer = Answer(200, headers(provider), (half,), end, chunked)
                framed = "chunked" if chunked else "sized"
                yield Case(f"{name}-plain-{how}-{framed}", call="plain", answers=(answer,), **common)
            # The body of a failure is broken as well.
            broken = error(provider, 400)
            broken = Answer(400, broken.headers, (broken.pieces[0][:30],), end)
            yield Case(f"{name}-400-{how}", call="plain", answers=(broken,), **common)
        common["rule"] = "no answer"
        nothing = Answer(end=NOTHING)
        yield Case(f"{name}-no-answer", call="plain", answers=(nothing,), **common)
        yield Case(f"{name}-no-answer-stream", call="stream", answers=(nothing,), **common)


def aborts(provider):
    """Calls that their callers abort."""
    parts = events(provider)
    kind = headers(provider, kind="text/event-stream")
    silent = Answer(delay=None)
    hangs = Answer(200, kind, parts[:2], HANG, True)
    endless = Answer(200, kind, (*parts[:2], *[parts[3]] * 2_000), HANG, True, 0.01)
    half = Answer(200, headers(provider), (b'{"id": ',), HANG)
    for is_async in (False, True):
        name = f"{provider}-async" if is_async else provider
        common = {"provider": provider, "is_async": is_async}
        yield Case(f"{name}-gives-up-plain", call="plain", answers=(silent,), gives_up=3.0, **common)
        yield Case(f"{name}-gives-up-within", call="plain", answers=(half,), gives_up=3.0, **common)
        yield Case(f"{name}-gives-up-stream", call="stream", answers=(silent,), gives_up=3.0, **common)
        yield Case(f"{name}-gives-up-mid-stream", call="stream", answers=(hangs,), gives_up=3.0, **common)
        yield Case(f"{name}-closes-stream", call="stream", answers=(hangs,), closes_after=1, **common)
        yield Case(f"{name}-closes-busy-stream", call="stream", answers=(endless,), closes_after=3, **common)


def retries(provider):
    """With the SDK's own retries. The relay's come on top; what is seen in the end is the same."""
    plain = {"openai": COMPLETION, "anthropic": MESSAGE}[provider]
    good = ok(provider, plain)
    soon = ("retry-after-ms", "20")
    for status in (408, 409, 429, 500, 502, 503, 504, 529):
        bad = error(provider, status, soon)
        for count in (1, 2):
            yield Case(f"{provider}-retries-{status}-{count}", provider, "plain", (*[bad] * count, good), 2)
        yield Case(f"{provider}-retries-{status}-stream", provider, "stream", (bad, streamed(provider)), 2)
        yield Case(f"{provider}-retries-{status}-always", provider, "plain", (bad,), 2, rule="left alone")
        # Without the SDK's: it sees the failure, or what the relay has made of it.
        yield Case(f"{provider}-hidden-{status}", provider, "plain", (bad, good), rule="hidden")
    no = error(provider, 503, ("x-should-retry", "false"))
    yield Case(f"{provider}-retries-forbidden", provider, "plain", (no, good), 2, rule="hidden")
    for status in (400, 403, 404, 422):
        yield Case(f"{provider}-retries-no-{status}", provider, "plain", (error(provider, status), good), 2)
    nothing = Answer(end=NOTHING)
    yield Case(f"{provider}-retries-no-answer", provider, "plain", (nothing, good), 2)
    broken = Answer(200, headers(provider, kind="text/event-stream"), events(provider)[:3], CUT, True)
    yield Case(f"{provider}-retries-broken-stream", provider, "stream", (broken, streamed(provider)), 2)
    slow = Answer(delay=None)
    yield Case(f"{provider}-retries-gives-up", provider, "plain", (slow, good), 2, gives_up=3.0)


def streamed(provider):
    kind = headers(provider, kind="text/event-stream; charset=utf-8")
    return Answer(200, kind, events(provider), is_chunked=True)


def events(provider):
    if provider == "openai":
        chunks = [chunk({"role": "assistant", "content": ""}), *map(lambda text: chunk({"content": text}), WORDS)]
        chunks += [chunk({}, "stop")]
        return (*[f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks], b"data: [DONE]\n\n")
    start = {**MESSAGE, "content": [], "stop_reason": None}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in WORDS
    ]
    sequence = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    return tuple(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in sequence)


def chunk(delta, finish=None):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


WORDS = ("One", " café", " three")
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Good day, café!"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Good day, café!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "o"}]}
ANTHROPIC_MODELS = {
    "data": [{"id": "m", "type": "model", "display_name": "M", "created_at": "2026-01-01T00:00:00Z"}],
    "has_more": False,
    "first_id": "m",
    "last_id": "m",
}
EMBEDDINGS = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}
