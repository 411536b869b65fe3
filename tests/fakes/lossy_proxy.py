"""A proxy before a training server that answers the first poll of a sample with 410, as after a restart."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

_DROPPED = {"host", "content-length", "connection", "transfer-encoding", "content-encoding", "accept-encoding"}


_Answer = tuple[int, dict[str, str], bytes]


class LosesFirstPoll:
    """Use as a context. ``url`` is the proxy's."""

    def __init__(self, upstream: str) -> None:
        self.num_lost = 0
        self.num_samples = 0
        self._upstream = upstream
        self._client = httpx2.Client(timeout=60)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LosesFirstPoll:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> _Answer:
        if path.endswith("/asample"):
            self.num_samples += 1
        if path.endswith("/retrieve_future") and not self.num_lost:
            self.num_lost += 1
            return 410, {"content-type": "application/json"}, b'{"detail": "the promise is gone"}'
        answer = self._client.request(method, self._upstream + path, headers=headers, content=body)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _DROPPED}
        return answer.status_code, kept, answer.content

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED}
                status, answer_headers, content = proxy._answer(self.command, self.path, headers, body)
                self.send_response(status)
                for name, value in {
                    **answer_headers,
                    "content-length": str(len(content)),
                    "connection": "close",
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = True

            do_GET = do_POST = _pass_on

            def log_message(self, format: str, *args: Any) -> None:
                return

        return Handler
