"""The open loop against a small server of its own, over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.load import drive, http_post, rotate

REFUSAL = b'{"detail": "Try again.", "code": "queue_full"}'
Handler = dict[bytes, bytes]


def answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def server(answers: Handler) -> AsyncIterator[int]:
    """Answers by path; an empty answer breaks the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                await reader.readexactly(length)
                found = answers[head.split()[1]]
                if not found:
                    return
                # In two pieces, as networks do it.
                writer.write(found[:20])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(found[20:])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield running.sockets[0].getsockname()[1]


async def test_every_request_is_counted_under_what_became_of_it() -> None:
    answers = {
        b"/good": answer("200 OK", b'{"category": "a"}'),
        b"/wrong": answer("200 OK", b'{"category": "b"}'),
        b"/full": answer("503 Service Unavailable", REFUSAL, "Retry-After: 1"),
        b"/rude": answer("503 Service Unavailable", b"no"),
        b"/broken": b"",
    }
    requests = [http_post(path.decode(), {}, b"{}") for path in answers]
    async with server(answers) as port:
        result = await drive(
            port,
            rotate(requests),
            per_s=500,
            seconds=0.5,
            max_connections=50,
            check=lambda _index, body: b'"a"' in body,
            patience_s=5,
        )

    assert result.unsent == 0
    assert result.sent == result.due
    assert result.due >= 5
    assert sum(result.statuses.values()) + result.unanswered == result.sent
    # Each kind is every fifth request.
    shares = (
        result.statuses[200] / 2,
        result.statuses[503] / 2,
        result.unanswered,
        result.wrong,
        result.unexplained,
    )
    assert max(shares) - min(shares) <= 1
    assert len(result.accepted_ms) == result.statuses[200]
    assert len(result.refused_ms) == result.refused == result.statuses[503]
    told = json.loads(json.dumps(result.summary()))
    assert told["statuses"] == {"200": result.statuses[200], "503": result.statuses[503]}


async def test_the_times_of_the_first_moment_are_kept_apart() -> None:
    answers = {b"/full": answer("503 Service Unavailable", REFUSAL, "Retry-After: 1")}
    async with server(answers) as port:
        result = await drive(
            port,
            rotate([http_post("/full", {}, b"")]),
            per_s=500,
            seconds=0.4,
            max_connections=20,
            settling_s=0.2,
        )
    assert result.settling_refused_ms
    assert result.refused_ms
    assert len(result.settling_refused_ms) + len(result.refused_ms) == result.statuses[503]


async def test_what_is_never_answered_is_told_and_not_waited_for() -> None:
    # The announced body never comes.
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    async with server({b"/": half}) as port:
        result = await drive(
            port,
            rotate([http_post("/", {}, b"")]),
            per_s=1000,
            seconds=0.2,
            max_connections=3,
            patience_s=0.1,
        )

    assert result.unanswered == result.sent == 3
    assert result.unsent == result.due - 3
