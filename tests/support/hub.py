"""A model hub on loopback: the routes of huggingface.co that `huggingface_hub` asks."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub:
    """Serves the files of one repository, and remembers what was asked for."""

    def __init__(self, repo_id: str, files: Mapping[str, bytes]) -> None:
        self.repo_id = repo_id
        self.files = dict(files)
        digest = hashlib.sha1(b"".join(self.files.values()), usedforsecurity=False)
        self.revision = digest.hexdigest()
        self.requests: list[tuple[str, str]] = []
        """Method and path, without the query, of each request."""
        self.breaks_after: int | None = None
        """Bytes of a file after which the connection breaks, once."""
        self.url = ""

    @property
    def downloaded(self) -> set[str]:
        """Names of the files whose contents were asked for."""
        return {path.rsplit("/", 1)[1] for method, path in self.requests if "/resolve/" in path}

    def describe(self) -> dict[str, Any]:
        """The answer of `/api/models/{id}`."""
        return {
            "_id": "0",
            "id": self.repo_id,
            "modelId": self.repo_id,
            "sha": self.revision,
            "private": False,
            "tags": [],
            "downloads": 0,
            "siblings": [{"rfilename": name} for name in self.files],
        }

    def list_tree(self) -> list[dict[str, Any]]:
        """The answer of `/api/models/{id}/tree/{revision}`."""
        return [
            {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
            for name, data in self.files.items()
        ]


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _make_handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_args: object) -> None:
            pass

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            info = f"/api/models/{hub.repo_id}"
            if path in (info, f"{info}/revision/main", f"{info}/revision/{hub.revision}"):
                self._send_json(hub.describe())
            elif path in (f"{info}/tree/main", f"{info}/tree/{hub.revision}"):
                self._send_json(hub.list_tree())
            elif path.startswith(f"/{hub.repo_id}/resolve/"):
                _, name = path.removeprefix(f"/{hub.repo_id}/resolve/").split("/", 1)
                self._send_file(name)
            else:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def _send_json(self, content: object) -> None:
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _send_file(self, name: str) -> None:
            data = hub.files.get(name)
            if data is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            headers = {
                "ETag": f'"{_etag(data)}"',
                "X-Repo-Commit": hub.revision,
                "Accept-Ranges": "bytes",
            }
            asked = self.headers.get("Range", "")
            if asked.startswith("bytes="):
                start = int(asked.removeprefix("bytes=").partition("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self._send(206, data[start:], headers)
            else:
                self._send(200, data, headers)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            limit = hub.breaks_after
            if limit is not None and len(body) > limit:
                body = body[:limit]
                self.close_connection = True
            self.wfile.write(body)

    return Handler


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port of loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mute_server() -> Iterator[str]:
    """The URL of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    """The URL of a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"
