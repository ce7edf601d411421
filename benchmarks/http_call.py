"""One HTTP call, for setting up and for checking answers."""

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

# Not through a proxy that the environment names: everything here is on loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.content)


def fetch(
    url: str,
    *,
    body: Any = None,
    form: Mapping[str, str] | None = None,
    image: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Reply:
    """GET, or POST of JSON (`body`), a form or a multipart `image`. Raises `OSError`."""
    sent = dict(headers or {})
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    elif form is not None:
        data = urlencode(form).encode()
    elif image is not None:
        boundary = uuid.uuid4().hex
        data = multipart(image, boundary)
        sent["Content-Type"] = f"multipart/form-data; boundary={boundary}"
    request = urllib.request.Request(url, data, sent)
    try:
        with _OPENER.open(request, timeout=timeout_s) as reply:
            return Reply(reply.status, dict(reply.headers), reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, dict(error.headers), error.read())


def multipart(image: bytes, boundary: str) -> bytes:
    """The body of an upload with the one part `image`."""
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="image"; filename="frame.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
