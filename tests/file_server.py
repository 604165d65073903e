"""A server of one file on loopback, which can break off, send too much or send other bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class FileServer:
    """What a server sends.

    ``cuts`` is the number of bytes after which each of the first answers breaks off; ``ranges`` is whether the server
    knows Range; ``endless`` sends zeros without an end, and without a length if ``length`` is False. Answers wait for
    ``ready``.
    """

    content: bytes
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    length: bool = True
    endless: bool = False
    ready: threading.Event = field(default_factory=_set_event)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    sent: int = 0

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        self.asked.append(asked)
        self.ready.wait(60)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start and start >= len(self.content):
            handler.send_error(416)
            return
        rest = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.length:
            handler.send_header("Content-Length", str(10**15 if self.endless else len(rest)))
        handler.end_headers()
        with suppress(OSError):
            while self.endless:
                self.sent += handler.wfile.write(bytes(1 << 16))
            handler.wfile.write(rest[: self.cuts.pop(0) if self.cuts else None])


@contextmanager
def serve(file: FileServer) -> Iterator[FileServer]:
    """Serve the file at ``file.url`` until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        file.url = f"http://127.0.0.1:{server.server_port}/published.bin"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield file
        finally:
            server.shutdown()
            thread.join()
