"""A provider that answers by a script, byte for byte, and writes down what it saw.

The embedded provider answers as a healthy one does; here it is about the others: any status, body
and header, and answers that break off in every way that a connection can.
"""

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

# How an answer ends.
WHOLE = "whole"
# The connection is closed in the middle of the body.
CUT = "cut"
# The same, with a reset.
RESET = "reset"
# Nothing more comes, until the caller goes away.
HANG = "hang"
# There is no answer: the connection is closed before its head.
NOTHING = "nothing"

PATIENCE = 30.0


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: tuple = ()
    # Pieces of the body; each is sent on its own.
    pieces: tuple = ()
    end: str = WHOLE
    is_chunked: bool = False
    # Between two pieces.
    pause: float = 0.0
    # Before the head; None for ever.
    delay: float | None = 0.0


@dataclass
class Seen:
    """One call, as it arrived."""

    method: str
    path: str
    headers: list
    body: bytes
    # Whether the caller went away before the answer's end.
    is_aborted: bool = False
    # Set when all is known of it.
    done: threading.Event = field(default_factory=threading.Event)


class Upstream:
    """Serves on a free port of this machine. The path's first part names the script, up to
    a `~`."""

    def __init__(self, scripts):
        self._scripts = scripts
        self._seen = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self, script):
        """The calls of one script since they were last taken, once each is done with."""
        with self._lock:
            calls = self._seen.pop(script, [])
        for call in calls:
            if not call.done.wait(PATIENCE):
                raise TimeoutError(f"{script}: a call is still open after {PATIENCE:g} s")
        return calls

    def begun(self, script):
        with self._lock:
            return len(self._seen.get(script, []))

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")
        try:
            while (call := read_call(reader)) is not None:
                script = call.path.split("/")[1].split("~")[0]
                with self._lock:
                    calls = self._seen.setdefault(script, [])
                    calls.append(call)
                    nth = len(calls)
                answers = self._scripts[script]
                try:
                    if not answer(connection, call, answers[min(nth, len(answers)) - 1]):
                        break
                finally:
                    call.done.set()
        except OSError:
            pass
        finally:
            # A file made of a socket keeps it open.
            reader.close()
            connection.close()


def read_call(reader):
    line = reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split()
    headers = []
    while (line := reader.readline().strip()) != b"":
        name, value = line.decode("latin-1").split(":", 1)
        headers.append((name.lower(), value.strip()))
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    return Seen(method, path, headers, reader.read(length))


def answer(connection, call, script):
    """Whether the connection can be used for another call."""
    try:
        if not stays(connection, script.delay):
            call.is_aborted = True
            return False
        if script.end == NOTHING:
            return False
        connection.sendall(head(script))
        for nth, piece in enumerate(script.pieces):
            if nth > 0 and not stays(connection, script.pause):
                call.is_aborted = True
                return False
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if script.is_chunked else piece)
        if script.end == HANG:
            call.is_aborted = not stays(connection, None)
            return False
        if script.end == RESET:
            # What was sent has to be read first: a reset throws away what was not.
            time.sleep(0.3)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if script.end == CUT:
            return False
        if script.is_chunked:
            connection.sendall(b"0\r\n\r\n")
        return True
    except (BrokenPipeError, ConnectionResetError):
        call.is_aborted = True
        return False


def head(script):
    lines = [f"HTTP/1.1 {script.status} Scripted"]
    lines += [f"{name}: {value}" for name, value in script.headers]
    if script.is_chunked:
        lines.append("transfer-encoding: chunked")
    elif script.status not in (204, 304):
        missing = 1_000 if script.end != WHOLE else 0
        lines.append(f"content-length: {sum(map(len, script.pieces)) + missing}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def stays(connection, seconds):
    """Waits so long, or for ever; whether the caller is still there."""
    if seconds == 0:
        return True
    end = None if seconds is None else time.monotonic() + seconds
    limit = PATIENCE if end is None else max(end - time.monotonic(), 0)
    readable, _, _ = select.select([connection], [], [], limit)
    if not readable:
        return True
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except ConnectionResetError:
        return False
