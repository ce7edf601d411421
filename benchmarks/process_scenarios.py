"""M1 and M2: memory, and the time from start to ready."""

from statistics import median

from benchmarks.bench import Bench
from benchmarks.http_call import fetch
from benchmarks.report import Row
from benchmarks.stats import paired_ratio

MEGABYTE = 1_000_000


def m1(bench: Bench) -> list[Row]:
    """Resident memory of a server process, both models loaded: warm, and after load."""
    bench.say("M1: a fresh service")
    # A process that has done nothing else; other scenarios leave their traces in memory.
    bench.fleet.stop("service")
    server = bench.fleet["service"]
    for index in range(20):
        fetch(
            f"{server.url}/prediction",
            body={"text": bench.texts.samples[index]},
            headers=server.headers,
        )
        image = bench.frames[index].read_bytes()
        fetch(f"{server.url}/object-detection", image=image, headers=server.headers)
    warm = server.resident_bytes()
    bench.load_texts("service", keep_history=True)
    bench.film("service", 4)
    loaded = server.resident_bytes()
    bench.raw["M1"] = {"warm": warm, "loaded": loaded, "peak": server.peak_resident_bytes()}
    bench.say(f"M1: {bench.raw['M1']}")

    def row(title: str, resident: int) -> Row:
        value = resident / MEGABYTE
        return Row("M1", title, value, "MB", "", None, value, "MB", "at most", 900)

    return [
        row("memory of one process, warm", warm),
        row("the same after load, texts and four webcams", loaded),
    ]


def m2(bench: Bench) -> list[Row]:
    """Start to ready."""

    def measure(name: str) -> float:
        with bench.fleet.fresh(name) as server:
            return server.seconds_to_ready

    # Once each before counting: files come from the page cache for both.
    bench.say("M2: starting each once, uncounted")
    times: dict[str, list[float]] = {"service": [], "textbook": []}
    was_running = [name for name in times if name in bench.fleet]
    for name in was_running:
        bench.fleet.stop(name)
    for name in times:
        measure(name)
    for index in range(bench.effort.starts):
        for name in times if index % 2 == 0 else reversed(times):
            times[name].append(measure(name))
        bench.say(f"M2: round {index + 1} of {bench.effort.starts} done")
    bench.raw["M2"] = times
    return [
        Row(
            scenario="M2",
            title="start to ready",
            measured=median(times["service"]),
            unit="s",
            baseline="textbook",
            baseline_value=median(times["textbook"]),
            figure=paired_ratio(times["service"], times["textbook"]),
            figure_unit="x",
            comparison="at most",
            bar=1.2,
        )
    ]
