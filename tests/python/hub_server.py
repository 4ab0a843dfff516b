"""A server on the loopback interface that speaks the protocol of the Hugging Face hub, with its faults.

The API lists a repository; `resolve` answers with the headers that describe a file and sends the client on to another
host for the contents, as the hub does: here 127.0.0.1 is the hub and localhost the other.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repo:
    """A repository: its files, and who may read them."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    """Only the token "granted" may read it."""
    small: set[str] = field(default_factory=set)
    """Files that are in Git itself, not in the large file storage."""


@dataclass
class Request:
    """A request that was made, in the words of HTTP."""

    method: str
    host: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """The server's state, which tests change while it runs."""

    port: int
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the connection ends, for each answer with contents in turn; later ones are whole."""
    content_status: list[int] = field(default_factory=list)
    """Status of answers with contents, once the cuts are used up; then they are answered well."""
    ignores_range: bool = False
    change: Callable[[bytes], bytes] = bytes
    """What becomes of the contents on the way."""
    answer: Callable[[dict[str, Any]], Any] = dict
    """What becomes of the API's answer on the way."""
    before_contents: Callable[[], object] = lambda: None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def contents(self) -> list[Request]:
        """The requests for contents."""
        return [request for request in self.requests if request.path.startswith("/cdn/")]

    def listings(self) -> list[Request]:
        """The requests to the API."""
        return [request for request in self.requests if request.path.startswith("/api/models/")]


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub(0)

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Hub

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        path = self.path.partition("?")[0]
        host = self.headers.get("Host", "")
        self.state.requests.append(Request(self.command, host, path, self.headers.get("Range"), token))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.+)?", path):
            if token == "invalid":
                return self._send(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            self._list(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[3], token)
        elif match := re.fullmatch(r"/cdn/([0-9a-f]+)", path):
            self._contents(match[1])
        else:
            self._send(404, {})
        return None

    def _list(self, name: str) -> None:
        repo = self.state.repos.get(name)
        if repo is None:
            return self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        siblings = [
            {
                "rfilename": file,
                "size": len(data),
                "blobId": _git_sum(data),
                **(
                    {}
                    if file in repo.small
                    else {"lfs": {"sha256": _sha256(data), "size": len(data), "pointerSize": 9}}
                ),
            }
            for file, data in repo.files.items()
        ]
        answer = self.state.answer({"id": name, "sha": repo.commit, "gated": repo.gated, "siblings": siblings})
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return self._send(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, name: str, file: str, token: str | None) -> None:
        repo = self.state.repos.get(name)
        if repo is None or file not in repo.files:
            return self._send(404, {"X-Error-Code": "RepoNotFound" if repo is None else "EntryNotFound"})
        if repo.gated and token != "granted":
            return self._send(401 if token is None else 403, {"X-Error-Code": "GatedRepo"})
        data = repo.files[file]
        etag = _git_sum(data) if file in repo.small else _sha256(data)
        headers = {
            "X-Repo-Commit": repo.commit,
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{etag}"',
            "ETag": f'"{etag[:8]}"',
            "Location": f"http://localhost:{self.state.port}/cdn/{etag}",
        }
        return self._send(302, headers)

    def _contents(self, etag: str) -> None:
        self.state.before_contents()
        files = [data for repo in self.state.repos.values() for data in repo.files.values()]
        data = self.state.change(next(data for data in files if etag in (_sha256(data), _git_sum(data))))
        cut = self.state.cuts.pop(0) if self.state.cuts else None
        if cut is None and self.state.content_status:
            return self._send(self.state.content_status.pop(0), {})
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and not self.state.ignores_range else 0
        body = data[start:]
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        return self._send(206 if start else 200, headers, body, cut)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"", cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_sum(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
