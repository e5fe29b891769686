"""A relay with something to show: a provider that enforces quotas, one that is down, and callers."""

import http.client
import http.server
import json
import subprocess
import tempfile
import threading
import time

TOKEN = "token-of-the-test-9b1f"
REJECTED = "secret-nobody-knows-77"
DOWN_KEY = "secret-of-the-one-that-is-down"
SPENT_KEY = "secret-of-the-one-that-is-spent"
# What must never be seen in the page.
SECRETS = [TOKEN, REJECTED, DOWN_KEY, SPENT_KEY, "pretend-a1", "pretend-a2", "pretend-b1", "pretend-c1", "pretend-d1"]
# A name that does something wherever names are taken for markup.
MARKUP = "<script>document.title='run'</script><img src=x onerror=\\\"document.title='run'\\\">"

CONFIG = """
caller_token = {{ value = "{token}" }}

[[upstream]]
name = "anthropic"
provider = "anthropic"
base_url = "{provider}"
paths = ["/v1/messages*"]
[[upstream.scope]]
name = "org-a"
key = [{{ alias = "a1", value = "pretend-a1" }}, {{ alias = "a2", value = "pretend-a2" }}]
[[upstream.scope.quota]]
requests_per_minute = 600
input_tokens_per_minute = 400_000
output_tokens_per_minute = 200_000
burst = {{ requests = 10, input_tokens = 6_000, output_tokens = 3_000 }}
[[upstream.scope]]
name = "org-b"
key = [{{ alias = "b1", value = "pretend-b1" }}, {{ alias = "b2-old", value = "{rejected}" }}]
[[upstream.scope.quota]]
requests_per_minute = 600
input_tokens_per_minute = 400_000
output_tokens_per_minute = 200_000
[[upstream.scope]]
name = "org-spent"
base_url = "{down}"
key = [{{ alias = "s1", value = "{spent_key}" }}]

[[upstream]]
name = "self-hosted"
provider = "generic"
base_url = "{down}"
paths = ["/down/*"]
max_wait = "5s"
breaker = {{ shortest_open = "1s" }}
[[upstream.scope]]
name = "rack-1"
key = [{{ alias = "r1", value = "{down_key}" }}]

[[upstream]]
name = "openai"
provider = "openai"
base_url = "{provider}"
paths = ["/v1/chat/*"]
[[upstream.scope]]
name = "org-c"
key = [{{ alias = "c1", value = "pretend-c1" }}]
[[upstream.scope.quota]]
requests_per_minute = 600
output_tokens_per_minute = 200_000
[[upstream.scope]]
name = "{org_d}"
key = [{{ alias = "d1", value = "pretend-d1" }}]
[[upstream.scope.quota]]
requests_per_minute = 600
output_tokens_per_minute = 200_000
"""


class Down(http.server.BaseHTTPRequestHandler):
    """Two providers: GET fails a few times and then says nothing, POST has a quota that is spent."""

    protocol_version = "HTTP/1.1"
    failures = 6
    lock = threading.Lock()

    def do_GET(self):
        with Down.lock:
            Down.failures -= 1
            fails = Down.failures >= 0
        if not fails:
            time.sleep(600)
        self.send_response(500)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"type":"error","error":{"type":"rate_limit_error","message":"spent"}}'
        self.send_response(429)
        self.send_header("retry-after", "300")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Program:
    """A running `relay serve`; `heard` is what it said so far."""

    def __init__(self, program, *arguments):
        command = [program, "serve", "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.heard = ""
        threading.Thread(target=self._listen, daemon=True).start()
        self.host = self.said("listening on http://")

    def _listen(self):
        for line in self.process.stderr:
            self.heard += line

    def said(self, before):
        """The word after `before`."""
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            if before in self.heard and "\n" in self.heard.split(before, 1)[1]:
                return self.heard.split(before, 1)[1].split()[0].rstrip(",")
            time.sleep(0.02)
        raise SystemExit(f"relay did not say {before!r}:\n{self.heard}")

    def end(self):
        self.process.kill()
        self.process.wait()


class Scene:
    def __init__(self, program, org_d="org-d"):
        Down.failures = 6
        self.down = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Down)
        self.down.daemon_threads = True
        threading.Thread(target=self.down.serve_forever, daemon=True).start()
        self.provider = Program(program)
        provider = self.provider.said("pretend provider at http://")
        self.file = tempfile.NamedTemporaryFile("w", suffix=".toml")
        self.file.write(CONFIG.format(
            token=TOKEN, rejected=REJECTED, down_key=DOWN_KEY, spent_key=SPENT_KEY, org_d=org_d,
            provider=f"http://{provider}",
            down=f"http://127.0.0.1:{self.down.server_port}",
        ))
        self.file.flush()
        self.relay = Program(program, "--config", self.file.name)
        self.url = f"http://{self.relay.host}/-/"
        self.ended = threading.Event()

    def load(self, workers):
        """Callers of every upstream."""
        for number in range(workers):
            path = "/v1/messages" if number % 2 else "/v1/chat/completions"
            self._start(self.relay.host, path, TOKEN, number)
        for _ in range(8):
            self._start(self.relay.host, "/down/x", TOKEN, None)

    def _start(self, *caller):
        threading.Thread(target=self._call, args=caller, daemon=True).start()

    def _call(self, host, path, key, number):
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        turn = 0
        while not self.ended.is_set():
            turn += 1
            asks = "GET" if number is None else "POST"
            question = "Say something about rain. " * (1 + (turn + (number or 0)) % 40)
            body = None if number is None else json.dumps({
                "model": "some-model",
                "max_tokens": 60 + 40 * ((number + turn) % 7),
                "messages": [{"role": "user", "content": question}],
            })
            connection = http.client.HTTPConnection(host, timeout=120)
            try:
                connection.request(asks, path, body, headers)
                status = connection.getresponse().status
                if status >= 400:
                    self.ended.wait(0.2)
            except (OSError, http.client.HTTPException):
                self.ended.wait(0.2)
            finally:
                connection.close()

    def end(self):
        self.ended.set()
        self.relay.end()
        self.provider.end()
        self.down.shutdown()
        self.file.close()
