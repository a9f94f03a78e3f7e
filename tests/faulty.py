"""A proxy on loopback that fails a share of the requests to the HTTP server behind it.

Which ones follows from the seed, the request and how often it was made before, not from the order
in which threads ask: a request that is made again may pass.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Kind = Literal["500", "503", "reset", "cut", "late", "stall", "slow", "lost"]
CODES = {"500": "InternalError", "503": "SlowDown"}
#: How long a slow answer waits, in seconds.
SLOW_S = 0.3


@dataclass
class Fault:
    """What goes wrong, for which share of the requests that match; it may be set while it runs.

    `kind` is a status, `reset` a connection reset before the answer, `cut` within it, `late` an
    error in the body of a 200, `lost` a request that is done and never answered, `stall` no byte
    until the proxy ends, `slow` an answer some time later. `most` ends it after so many.
    """

    kind: Kind
    share: float = 1.0
    matches: Callable[[str, str], bool] = lambda _method, _path: True
    most: int | None = None
    seed: int = 0
    hits: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is to fail."""
        if not self.matches(method, path):
            return False
        with self.lock:
            name = f"{method} {path}"
            self.seen[name] += 1
            drawn = hashlib.sha256(f"{self.seed} {name} {self.seen[name]}".encode()).digest()
            left = self.most is None or self.hits < self.most
            struck = left and int.from_bytes(drawn[:4], "big") < self.share * 2**32
            self.hits += struck
            return struck


class Faulty(ThreadingHTTPServer):
    """A proxy in front of a server on loopback; nothing goes wrong until `fault` is set."""

    daemon_threads = True

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.fault: Fault | None = None
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Clients that went away are what is tried here."""


class Handler(BaseHTTPRequestHandler):
    """One connection: every request is handed on, or fails as the proxy's fault says."""

    protocol_version = "HTTP/1.1"
    server: Faulty

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def any_method(self) -> None:
        """Hand a request on, or fail it."""
        fault = self.server.fault
        struck = fault.kind if fault and fault.strikes(self.command, self.path) else None
        if struck == "stall":  # not even the request's body is read
            self.server.ended.wait()
            self.close_connection = True
            return
        body = self._body()
        if struck in ("500", "503", "late"):
            code = CODES.get(struck, "InternalError")
            said = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>"
            status = 200 if struck == "late" else int(struck)
            self._answer(status, [("Content-Type", "application/xml")], said.encode())
        elif struck == "reset":
            self._break()
        else:
            if struck == "slow":
                self.server.ended.wait(SLOW_S)
            self._hand_on(body, struck)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = any_method  # noqa: N815 - as http.server asks

    def _hand_on(self, body: bytes, struck: Kind | None) -> None:
        status, headers, answer = self._asked(body)
        if struck == "lost" or (struck == "cut" and len(answer) < 2):
            self._break()
        elif struck == "cut":
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[: len(answer) // 2])
            self._break()
        else:
            self._answer(status, headers, answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the server behind answers."""
        server = http.client.HTTPConnection("127.0.0.1", self.server.target_port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
        headers["Content-Length"] = str(len(body))
        server.request(self.command, self.path, body, headers)
        answer = server.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
        server.close()
        return found

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        told = dict(headers).get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", told or str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def _break(self) -> None:
        """Reset the connection: what is under way is lost."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


@contextmanager
def faulty(target_port: int) -> Iterator[Faulty]:
    """A proxy that runs while the block does."""
    with Faulty(target_port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            proxy.shutdown()
            thread.join()
