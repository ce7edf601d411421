"""S1: what becomes of the throughput as work grows, and of those who are one too many."""

from collections.abc import Sequence
from statistics import median

from benchmarks.bench import Bench
from benchmarks.load import LoadResult, drive, run_load
from benchmarks.overload import text_requests
from benchmarks.report import Row
from benchmarks.stats import retained

STREAMS = (1, 2, 4, 8, 16)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_OVERLOAD = 2.0
# Of the overload: in it the queue fills, and the first learn that they come too often.
SETTLING_S = 1.0
# Of the offered requests that may be outstanding: far more than the queue holds.
_MAX_CONNECTIONS = 1000
Curve = dict[str, list[float]]


def s1(bench: Bench) -> list[Row]:
    """Connections, streams and refusals."""
    connections = _sweep(bench, "connections", CONNECTIONS)
    streams = _sweep(bench, "streams", STREAMS)
    bench.raw["S1"] = {
        "connections": {"at": CONNECTIONS, **connections},
        "streams": {"at": STREAMS, **streams},
    }
    refusals = run_load(_overload(bench, max(connections["service"])))
    bench.raw["S1"]["overload"] = refusals.summary()
    bench.say(f"S1: at twice the capacity {bench.raw['S1']['overload']}")
    return [
        _retained_row("1 to 256 connections, worst after the best", connections, "requests/s"),
        _retained_row("1 to 16 webcams, worst after the best", streams, "answers/s"),
        Row(
            scenario="S1",
            title="p99 of a refusal at twice the capacity, after its first second",
            measured=refusals.refused_percentile(99),
            unit="ms",
            baseline="p50 of an answer",
            baseline_value=refusals.accepted_percentile(50),
            # Where the queue never fills up, nobody is refused.
            figure=(
                refusals.refused_percentile(99) / refusals.accepted_percentile(50)
                if refusals.refused
                else 0.0
            ),
            figure_unit="x",
            comparison="at most",
            bar=1,
        ),
        Row(
            scenario="S1",
            title="refused without reason, unanswered or wrong",
            measured=refusals.unexplained + refusals.unanswered + refusals.wrong,
            unit=f"of {refusals.sent:,}",
            baseline="refused",
            baseline_value=refusals.refused,
            figure=refusals.unexplained + refusals.unanswered + refusals.wrong,
            figure_unit="",
            comparison="at most",
            bar=0,
        ),
    ]


def _sweep(bench: Bench, kind: str, points: Sequence[int]) -> Curve:
    """Throughput of the service, by rounds, and of the textbook, once, at each point."""

    def measure(name: str, point: int) -> float:
        if kind == "connections":
            return bench.load_texts(name, connections=point).requests_per_s
        # Frames may be refused where there are more than can be answered in time.
        return bench.film(name, point, allow_errors=True).answers_per_s

    effort = bench.effort
    rounds = effort.rounds if kind == "connections" else effort.stream_rounds
    for name in ("service", "textbook"):
        _ = bench.fleet[name]
    ours: list[list[float]] = [[] for _ in points]
    textbook = []
    for index in range(rounds):
        for place, point in enumerate(points):
            ours[place].append(measure("service", point))
            if index == 0:
                textbook.append(measure("textbook", point))
        bench.say(f"S1, {kind}: round {index + 1} of {rounds} done")
    return {"service": [median(values) for values in ours], "textbook": textbook}


def _retained_row(title: str, curve: Curve, unit: str) -> Row:
    kept = retained(curve["service"])
    return Row(
        scenario="S1",
        title=title,
        measured=kept * max(curve["service"]),
        unit=unit,
        baseline="its best",
        baseline_value=max(curve["service"]),
        figure=kept,
        figure_unit="x",
        comparison="at least",
        bar=0.9,
    )


async def _overload(bench: Bench, capacity: float) -> LoadResult:
    requests, check = text_requests(bench, "service")
    return await drive(
        bench.fleet["service"].port,
        requests,
        per_s=_OVERLOAD * capacity,
        seconds=SETTLING_S + bench.effort.seconds * 2,
        max_connections=_MAX_CONNECTIONS,
        check=check,
        settling_s=SETTLING_S,
    )
