"""Cameras against a WebSocket server and a probed one of the test's own, over real sockets."""

import asyncio
import json
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from benchmarks.cameras import CameraPlan, film


async def answer_every_second(socket: ServerConnection) -> None:
    number = 0
    async for data in socket:
        number += 1
        if number % 2:
            answer: dict[str, Any] = {"objects": [{"content": data[0]}], "frame": number}
            await socket.send(json.dumps({**answer, "timing": {"inference_ms": 5.0}}))


async def answer_probes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except asyncio.IncompleteReadError:
        writer.close()


async def test_answers_are_matched_with_their_frames(tmp_path: Path) -> None:
    frames = []
    for index in range(3):
        path = tmp_path / f"{index}.jpg"
        path.write_bytes(bytes([index]))
        frames.append(str(path))

    probed = await asyncio.start_server(answer_probes, "127.0.0.1", 0)
    async with probed, serve(answer_every_second, "127.0.0.1", 0) as server:
        result = await film(
            CameraPlan(
                stream_url=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                probe_host="127.0.0.1",
                probe_port=probed.sockets[0].getsockname()[1],
                frames=frames,
                headers=[{"X-API-Key": "one"}],
                streams=2,
                frames_per_s=50,
                warm_up_s=0,
                seconds=1.5,
                sample_frames=[0, 1, 2],
            )
        )

    assert len(result.answers) == 2
    assert sum(result.answers) > 0
    assert len(result.ages_ms) == len(result.inference_ms) == sum(result.answers)
    assert all(age >= 0 for age in result.ages_ms)
    # Due every 50 ms; late ones are made up for and counted with their delay. The last may or may
    # not be due within the time.
    assert len(result.probe_ms) in (30, 31)
    assert result.errors == []
    assert result.samples
    for frame, objects in result.samples.items():
        assert objects == [{"content": int(frame)}]


async def test_a_stream_that_the_server_closes_is_told(tmp_path: Path) -> None:
    frame = tmp_path / "frame.jpg"
    frame.write_bytes(b"\xff")

    async def refuse(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(1013, "no capacity")

    probed = await asyncio.start_server(answer_probes, "127.0.0.1", 0)
    async with probed, serve(refuse, "127.0.0.1", 0) as server:
        result = await film(
            CameraPlan(
                stream_url=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
                probe_host="127.0.0.1",
                probe_port=probed.sockets[0].getsockname()[1],
                frames=[str(frame)],
                headers=[{}],
                warm_up_s=0,
                seconds=1.0,
            )
        )

    assert result.answers == [0]
    assert len(result.errors) == 1
    assert "1013" in result.errors[0]
