"""A web service on a free port of this machine, for tests."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[bytes], tuple[int, Any]]
"""Of a request's body: status and JSON value, or octets as they are."""


class WebService:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service.requests.append((dict(self.headers), body))
                status, value = service.answer(body)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", service.url)
                self.end_headers()
                octets = value if isinstance(value, bytes) else json.dumps(value).encode()
                with suppress(ConnectionError):  # the client has given up
                    self.wfile.write(octets)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
