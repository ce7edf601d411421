"""A soak: minutes at twice the capacity, texts and uploads, with the memory watched."""

import asyncio
import time
from statistics import median

from benchmarks.bench import Bench
from benchmarks.load import LoadResult, drive, run_load
from benchmarks.overload import image_requests, text_requests
from benchmarks.report import Row
from benchmarks.scaling import SETTLING_S
from benchmarks.servers import Server

_OVERLOAD = 2.0
_TEXT_CONNECTIONS = 1000
_IMAGE_CONNECTIONS = 200
_SAMPLE_EVERY_S = 1.0
# The first part fills queues, caches and allocator arenas; flat means what comes after it.
_SETTLING_SHARE = 1 / 3
_ALLOWED_GROWTH = 1.05


def soak(bench: Bench, minutes: float) -> list[Row]:
    """Twice the measured capacity for `minutes`."""
    server = bench.fleet["service"]
    text_rate = bench.load_texts("service").requests_per_s
    image_rate = max(0.5, bench.film("service", 4).answers_per_s)
    bench.say(
        f"soak: capacity {text_rate:,.0f} texts/s or {image_rate:.1f} images/s, "
        f"now twice of both for {minutes:g} minutes"
    )
    texts, images, memory = run_load(
        _run(bench, server, minutes * 60, text_rate * _OVERLOAD, image_rate * _OVERLOAD)
    )
    bench.raw["soak"] = {
        "memory": memory,
        "texts": texts.summary(),
        "images": images.summary(),
    }
    for name in ("texts", "images"):
        bench.say(f"soak, {name}: {bench.raw['soak'][name]}")
    return [_memory_row(memory), *_rows("texts", texts), *_rows("images", images)]


async def _run(
    bench: Bench, server: Server, seconds: float, text_rate: float, image_rate: float
) -> tuple[LoadResult, LoadResult, list[int]]:
    make_text, check = text_requests(bench, "service")
    memory: list[int] = []

    async def watch() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            memory.append(server.resident_bytes())
            await asyncio.sleep(_SAMPLE_EVERY_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        texts = group.create_task(
            drive(
                server.port,
                make_text,
                per_s=text_rate,
                seconds=seconds,
                max_connections=_TEXT_CONNECTIONS,
                check=check,
                settling_s=SETTLING_S,
            )
        )
        images = group.create_task(
            drive(
                server.port,
                image_requests(bench, "service"),
                per_s=image_rate,
                seconds=seconds,
                max_connections=_IMAGE_CONNECTIONS,
                settling_s=SETTLING_S,
            )
        )
    return texts.result(), images.result(), memory


def _memory_row(memory: list[int]) -> Row:
    settled = memory[int(len(memory) * _SETTLING_SHARE) :]
    third = max(1, len(settled) // 3)
    first, last = median(settled[:third]), median(settled[-third:])
    return Row(
        scenario="soak",
        title="memory at the end by memory after settling",
        measured=last / 1e6,
        unit="MB",
        baseline="settled",
        baseline_value=first / 1e6,
        figure=last / first,
        figure_unit="x",
        comparison="at most",
        bar=_ALLOWED_GROWTH,
    )


def _rows(kind: str, load: LoadResult) -> list[Row]:
    others = sum(n for status, n in load.statuses.items() if status not in (200, 429, 503, 504))
    bad = load.unanswered + load.wrong + load.unexplained + others
    refused_ms = load.refused_percentile(99)
    accepted_ms = load.accepted_percentile(50)
    return [
        Row(
            scenario="soak",
            title=f"{kind}: unanswered, wrong, or refused without reason",
            measured=bad,
            unit=f"of {load.sent:,}",
            baseline="refused",
            baseline_value=load.refused,
            figure=bad,
            figure_unit="",
            comparison="at most",
            bar=0,
        ),
        Row(
            scenario="soak",
            title=f"{kind}: p99 of a refusal",
            measured=refused_ms,
            unit="ms",
            baseline="p50 of an answer",
            baseline_value=accepted_ms,
            figure=refused_ms / accepted_ms if load.refused else 0.0,
            figure_unit="x",
            comparison="at most",
            bar=1,
        ),
    ]
