"""T1 to T4: texts over HTTP."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from statistics import median

from benchmarks.bench import Bench
from benchmarks.errors import BenchmarkError
from benchmarks.report import Row
from benchmarks.stats import paired_ratio
from benchmarks.wrk import WrkResult


def _rates(results: Sequence[WrkResult]) -> list[float]:
    return [result.requests_per_s for result in results]


def _keep(bench: Bench, label: str, results: dict[str, list[WrkResult]]) -> None:
    bench.raw[label] = {
        name: [{**asdict(result), "requests_per_s": result.requests_per_s} for result in rounds]
        for name, rounds in results.items()
    }
    costs = ", ".join(
        f"{name} {median(result.server_cpu_ms for result in rounds):.2f} ms"
        for name, rounds in results.items()
    )
    bench.say(f"{label}: processor time of the server for each answer: {costs}")


def _row(
    scenario: str,
    title: str,
    results: dict[str, list[WrkResult]],
    baseline: str,
    bar: float,
    measured: str = "service",
) -> Row:
    ours, theirs = _rates(results[measured]), _rates(results[baseline])
    return Row(
        scenario=scenario,
        title=title,
        measured=median(ours),
        unit="requests/s",
        baseline=baseline,
        baseline_value=median(theirs),
        figure=paired_ratio(ours, theirs),
        figure_unit="x",
        comparison="at least",
        bar=bar,
    )


def t1(bench: Bench) -> list[Row]:
    """Distinct texts by API key over 32 connections, nothing kept."""
    names = ["service", "echo", "textbook", "litserve", "litserve-batching"]
    results = bench.take_turns("T1", names, bench.effort.rounds, bench.load_texts)
    _keep(bench, "T1", results)
    better = max(("litserve", "litserve-batching"), key=lambda name: median(_rates(results[name])))
    title = "distinct texts, 32 connections"
    return [
        _row("T1", title, results, "textbook", 4),
        _row("T1", title, results, better, 4),
        _row("T1", title, results, "echo", 0.5),
    ]


def t2(bench: Bench) -> list[Row]:
    """One text again and again."""
    results = bench.take_turns(
        "T2",
        ["service", "echo"],
        bench.effort.rounds,
        lambda name: bench.load_texts(name, fixed=True),
    )
    _keep(bench, "T2", results)
    return [_row("T2", "the same text again and again", results, "echo", 0.65)]


def t3(bench: Bench) -> list[Row]:
    """As T1, and every answer's record committed to SQLite before the answer."""

    def measure(name: str) -> WrkResult:
        if name != "service":
            return bench.load_texts(name)
        before = _records(bench)
        result = bench.load_texts(name, keep_history=True)
        kept = _records(bench) - before
        if kept < result.requests:
            raise BenchmarkError(f"T3: {result.requests} answers, but only {kept} records")
        return result

    results = bench.take_turns("T3", ["service", "textbook"], bench.effort.rounds, measure)
    _keep(bench, "T3", results)
    return [_row("T3", "as T1, history kept in SQLite", results, "textbook", 1.5)]


def _records(bench: Bench) -> int:
    with closing(sqlite3.connect(bench.folder / "service.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM predictions").fetchone()
    return int(count)


def t4(bench: Bench) -> list[Row]:
    """One connection: nobody to share a batch with."""
    results = bench.take_turns(
        "T4",
        ["service", "textbook"],
        bench.effort.rounds,
        lambda name: bench.load_texts(name, connections=1),
    )
    _keep(bench, "T4", results)
    return [_row("T4", "distinct texts, one connection", results, "textbook", 1)]
