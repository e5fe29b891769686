"""The official SDKs see through `relay serve` what they see of the provider itself.

    python run.py RELAY [--only PART] [--jobs N] [--verbose]

Each case is run twice against the same scripted provider, directly and through the relay, and
everything that the caller sees is compared: the answer or every event of the stream, or the exception's type, code, body,
status, message and causes; all headers but those of the connection. So is what the provider sees: each call's method, path,
headers and body, and whether its caller went away.

The rules by which both are compared:

- alike: nothing differs. The provider may have got more calls through the relay, which tries again
  by itself what a provider has refused.
- hidden: the relay may have tried again what the SDK was told not to, so that the caller sees the
  answer that it would have seen by trying again.
- no answer: a connection that ends before an answer's head is a 502 in the provider's form; a gateway has
  no connection of the provider's to break. SDKs try both again.
- key: the pool's key is refused, which is not the caller's mistake, and the provider's words may repeat a part of it.
  It is a 503 of the relay's own in the provider's form, and `x-should-retry: false`.
- reset: a connection that the provider resets is closed in the middle. Where the SDK lets the error
  of its HTTP client through it has another name; it is no clean end.
- left alone: alike, but a provider that has refused all attempts of several calls in a row is not called
  for a while: the relay says so itself in the provider's form, a 429 where the scope rests and a
  503 where the breaker is open, both with `retry-after`.

The relay adds a `date` to an answer that has none (RFC 9110 6.6.1), which is not compared.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Nothing here goes anywhere else, and nobody's settings have a say.
for name in list(os.environ):
    if name.upper().startswith(("OPENAI_", "ANTHROPIC_")) or name.upper().endswith("_PROXY"):
        del os.environ[name]

import anthropic
import openai
from calls import observe
from cases import PROVIDERS, all_cases
from upstream import Upstream

CALLERS_KEY = "callers-own-key"
POOLS_KEY = "key-of-the-pool"
# What a gateway says for itself (RFC 9110 7.6), and the encoding in which the relay can read.
OF_HOP = ("host", "connection", "via", "accept-encoding", "accept", "x-stainless-read-timeout")
CREDENTIALS = ("authorization", "x-api-key")


def main():
    options = parsed()
    cases = [case for case in all_cases() if options.only in case.name]
    upstream = Upstream({case.name: case.answers for case in cases})
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        relays = {
            provider: Relay(options.relay, Path(folder) / f"{provider}.toml", provider, cases, upstream)
            for provider in PROVIDERS
        }
        try:
            with ThreadPoolExecutor(options.jobs) as pool:
                results = list(pool.map(lambda case: tried(case, relays[case.provider], upstream, options), cases))
        finally:
            for relay in relays.values():
                relay.stop()
    return closing(cases, results, time.monotonic() - began)


def parsed():
    parser = argparse.ArgumentParser(description="SDKs through the relay and without it.")
    parser.add_argument("relay", help="the program")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--jobs", type=int, default=8, help="cases at a time")
    parser.add_argument("--verbose", action="store_true", help="print what was seen")
    return parser.parse_args()


class Relay:
    """`relay serve` with an upstream of its own for each case, so that none knows of another."""

    def __init__(self, program, path, provider, cases, upstream):
        lines = []
        for case in cases:
            if case.provider != provider:
                continue
            lines += [
                f"""[[upstream]]
name = "{case.name}~{nth}"
provider = "{provider}"
base_url = "http://127.0.0.1:{upstream.port}"
paths = ["/{case.name}~{nth}/*"]
timeouts = {{ total = "{TOTAL}" }}
[[upstream.scope]]
name = "scope"
key = [{{ alias = "a", value = "{POOLS_KEY}" }}]
quota = [{{ requests_per_minute = 60000 }}]
"""
                for nth in range(TRIES)
            ]
        self.url = None
        self._program = None
        if not lines:
            return
        path.write_text("".join(lines))
        path.chmod(0o600)
        self._program = subprocess.Popen(
            [program, "serve", "--listen", "127.0.0.1:0", "--config", path],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = []
        for line in self._program.stderr:
            said.append(line)
            if "listening on " in line:
                self.url = line.split("listening on ")[1].split()[0]
                break
        else:
            sys.exit("the relay did not start:\n" + "".join(said))
        # It would wait for its reader once the pipe is full.
        threading.Thread(target=self._program.stderr.read, daemon=True).start()

    def stop(self):
        if self._program is not None:
            self._program.terminate()
            self._program.wait()


# What the relay would have to wait for beyond it is not begun: no case takes long.
TOTAL = "6s"
# An attempt that began shortly before that is cut off, which is a 504 and says nothing of the provider's answer:
# the case is tried again, as if for the first time.
TRIES = 4


# Seconds after which a case is said to take long.
SLOW = 10


def tried(case, relay, upstream, options):
    """What differs, as lines."""
    began = time.monotonic()
    direct = observe(case, f"http://127.0.0.1:{upstream.port}/{case.name}", CALLERS_KEY)
    direct_calls = upstream.take(case.name)
    for nth in range(TRIES):
        relayed = observe(case, f"{relay.url}/{case.name}~{nth}", CALLERS_KEY)
        relayed_calls = upstream.take(case.name)
        if dict(relayed.get("headers", ())).get("x-relay-error") != "timed_out":
            break
    if time.monotonic() - began > SLOW:
        print(f"{case.name}: {time.monotonic() - began:.0f} s, {len(relayed_calls)} calls through the relay", flush=True)
    if options.verbose:
        print(json.dumps({"case": case.name, "direct": direct, "relayed": relayed}, indent=1))
    lines = [*RULES[case.rule](case, direct, relayed), *calls_differ(direct_calls, relayed_calls)]
    for line in lines:
        print(f"{case.name}: {line}", flush=True)
    return lines


def alike(case, direct, relayed):
    return differ(direct, relayed)


def differ(direct, relayed, *but):
    keys = [key for key in {**direct, **relayed} if key not in but]
    if "headers" in direct and "date" not in dict(direct["headers"]):
        others = [pair for pair in relayed.get("headers", ()) if pair[0] != "date"]
        relayed = {**relayed, "headers": others}
    return [
        f"{key}: {shortened(direct.get(key))} directly, {shortened(relayed.get(key))} through the relay"
        for key in keys
        if direct.get(key) != relayed.get(key)
    ]


def hidden(case, direct, relayed):
    if relayed["outcome"] == "raised":
        return differ(direct, relayed)
    return []


def no_answer(case, direct, relayed):
    expected = [f"{case.provider}.APIConnectionError", f"{case.provider}.InternalServerError"]
    seen = [direct["type"], relayed["type"]]
    if seen != expected or relayed["status"] != 502:
        return [f"{seen} with {relayed.get('status')} rather than {expected} with 502"]
    return []


def key_refused(case, direct, relayed):
    told = dict(relayed.get("headers", ()))
    if (relayed.get("status"), told.get("x-relay-error"), told.get("x-should-retry")) != (503, "no_key", "false"):
        return [f"{relayed.get('status')} with {told} rather than 503 for want of a key"]
    if direct["outcome"] != relayed["outcome"] or case.provider not in relayed["type"]:
        return [f"{relayed}"]
    return []


def reset(case, direct, relayed):
    """The reset itself becomes an end in the middle, which the SDK's client calls otherwise."""
    if direct["outcome"] != "raised" or relayed["outcome"] != "raised":
        # After the event that ends a stream some SDKs read no further.
        return differ(direct, relayed)
    if direct["type"].startswith(case.provider):
        return differ(direct, relayed, "causes")
    if relayed["type"] != "httpx2.RemoteProtocolError":
        return [f"{relayed['type']} rather than httpx2.RemoteProtocolError"]
    return differ(direct, relayed, "causes", "type", "message")


def left_alone(case, direct, relayed):
    told = dict(relayed.get("headers", ()))
    if "x-relay-error" not in told:
        return differ(direct, relayed)
    expected = {"down": "503", "refused": "429"}.get(told["x-relay-error"])
    if str(relayed["status"]) != expected or "retry-after" not in told:
        return [f"{relayed['type']} with {relayed['status']} and {told}"]
    return []


RULES = {"alike": alike, "hidden": hidden, "no answer": no_answer, "key": key_refused, "reset": reset, "left alone": left_alone}


def calls_differ(direct, relayed):
    """What the provider saw; through the relay it may have been called more often."""
    if not relayed:
        return ["the provider was not called through the relay"]
    lines = []
    if len(relayed) < len(direct):
        lines.append(f"{len(direct)} calls directly, {len(relayed)} through the relay")
    for call, other in zip(direct, relayed):
        lines += differ(described(call, CALLERS_KEY), described(other, POOLS_KEY))
    for call in relayed:
        if any(CALLERS_KEY in value for _, value in call.headers):
            lines.append("the caller's key reached the provider")
    if direct[-1].is_aborted != relayed[-1].is_aborted:
        lines.append(f"aborted: {direct[-1].is_aborted} directly, {relayed[-1].is_aborted} through the relay")
    return lines


def described(call, key):
    headers = [(name, value.replace(key, "KEY")) for name, value in call.headers if name not in OF_HOP]
    # The SDK's number of the attempt is its own.
    headers = [pair for pair in headers if pair[0] != "x-stainless-retry-count"]
    return {"method": call.method, "path": re.sub("~.", "", call.path), "sent headers": sorted(headers), "sent": call.body}


def shortened(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}.."


def closing(cases, results, seconds):
    wrong = sum(1 for lines in results if lines)
    for rule in RULES:
        count = sum(1 for case in cases if case.rule == rule)
        print(f"rule `{rule}`: {count} cases")
    for module in (openai, anthropic):
        count = sum(1 for case in cases if case.provider == module.__name__)
        print(f"{module.__name__} {module.__version__}: {count} cases")
    print(f"{len(cases)} cases, each directly and through the relay: {wrong} differ ({seconds:.0f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
