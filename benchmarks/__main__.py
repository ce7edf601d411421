"""The command: `python -m benchmarks [--quick] [SCENARIO …]`, `… soak`, and `--flame SCENARIO`."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import process_scenarios, scaling, text_scenarios, webcam_scenarios
from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.errors import BenchmarkError
from benchmarks.flame import LOADS, draw_flames
from benchmarks.plots import draw_scaling
from benchmarks.report import Row, table, write_json, write_markdown
from benchmarks.soak import soak
from benchmarks.wrk import find_wrk

HERE = Path(__file__).resolve().parent
SCENARIOS: dict[str, Callable[[Bench], list[Row]]] = {
    "M1": process_scenarios.m1,
    "T1": text_scenarios.t1,
    "T2": text_scenarios.t2,
    "T3": text_scenarios.t3,
    "T4": text_scenarios.t4,
    "D1": webcam_scenarios.one_stream,
    "D2": webcam_scenarios.one_stream,
    "D5": webcam_scenarios.one_stream,
    "D3": webcam_scenarios.four_streams,
    "D4": webcam_scenarios.four_streams,
    "S1": scaling.s1,
    "M2": process_scenarios.m2,
}
SOAK = "soak"


def main(arguments: list[str] | None = None) -> int:
    """0 when every bar is met, 1 when one is missed, 2 when it cannot be measured."""
    options = _parse(arguments)
    wanted = [name for name in SCENARIOS if name in options.scenarios]
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    if busy > 0.5:
        print(f"warning: the machine is busy (load {busy:.1f} per core); figures will be noisy")
    # So that the servers end with us then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        find_wrk()
        with tempfile.TemporaryDirectory(prefix="lookout-benchmark-") as folder:
            effort = (QUICK if options.quick else FULL).stretched(options.stretch)
            bench = Bench(Path(folder), effort)
            try:
                if options.flame:
                    draw_flames(bench, wanted, HERE / "results")
                    return 0
                rows = _measure(bench, wanted, options)
            finally:
                bench.close()
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0 if all(row.passed for row in rows) else 1


def _measure(bench: Bench, wanted: list[str], options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    # One function may measure several bars in the same runs.
    for run in dict.fromkeys(SCENARIOS[name] for name in wanted):
        found = run(bench)
        print(f"\n{table(found)}\n", flush=True)
        rows += found
    if SOAK in options.scenarios:
        rows += soak(bench, options.minutes)
    # As the bars are listed: texts, detection, memory, scaling.
    rows.sort(key=lambda row: ("TDMSs".index(row.scenario[0]), row.scenario))
    print(f"\n{table(rows)}\n")
    results = HERE / "results"
    path = write_json(results, rows, bench.raw, vars(options))
    print(f"written to {path.relative_to(HERE.parent)}")
    publish = not options.quick and set(wanted) == set(SCENARIOS)
    target = HERE if publish else results
    plots = draw_scaling(bench.raw["S1"], target) if "S1" in bench.raw else []
    if publish:
        write_markdown(HERE / "RESULTS.md", rows, "make bench", plots)
        print("written to benchmarks/RESULTS.md")
    return rows


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"{', '.join(sorted(SCENARIOS))} (default: all of these) or {SOAK}",
    )
    parser.add_argument("--quick", action="store_true", help="short rounds, to try it")
    parser.add_argument(
        "--flame", action="store_true", help=f"draw flame graphs instead: {', '.join(LOADS)}"
    )
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="length of the soak (default: %(default)s)"
    )
    parser.add_argument(
        "--stretch",
        type=float,
        default=1.0,
        help="lengthen each measurement by this factor, where the machine is slow or busy",
    )
    options = parser.parse_args(arguments)
    names = {name.lower(): name for name in (*SCENARIOS, SOAK)}
    unknown = [name for name in options.scenarios if name.lower() not in names]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(names.values())}")
    options.scenarios = [names[name.lower()] for name in options.scenarios] or list(SCENARIOS)
    if options.flame and not set(options.scenarios) <= set(LOADS):
        parser.error(f"--flame draws {', '.join(LOADS)}; name those that you want")
    if options.minutes <= 0 or options.stretch <= 0:
        parser.error("--minutes and --stretch must be positive")
    return options


if __name__ == "__main__":
    sys.exit(main())
