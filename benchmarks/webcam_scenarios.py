"""D1 to D5: webcams at 24 frames a second, 640x480, over WebSockets."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from statistics import median

from benchmarks.bench import Bench
from benchmarks.cameras import CameraResult
from benchmarks.report import Row
from benchmarks.stats import paired_ratio, percentile, spread


def _rates(results: Sequence[CameraResult]) -> list[float]:
    return [result.answers_per_s for result in results]


def _keep(bench: Bench, label: str, results: dict[str, list[CameraResult]]) -> None:
    # The sampled objects have been checked; they are no measurement.
    bench.raw[label] = {
        name: [{**asdict(result), "samples": len(result.samples)} for result in rounds]
        for name, rounds in results.items()
    }


def _versus_textbook(
    scenario: str, title: str, ours: Sequence[CameraResult], textbook: Sequence[CameraResult]
) -> Row:
    return Row(
        scenario=scenario,
        title=title,
        measured=median(_rates(ours)),
        unit="answers/s",
        baseline="textbook",
        baseline_value=median(_rates(textbook)),
        figure=paired_ratio(_rates(ours), _rates(textbook)),
        figure_unit="x",
        comparison="at least",
        bar=5 if scenario == "D1" else 1.5,
    )


def one_stream(bench: Bench) -> list[Row]:
    """D1, D2 and D5: one stream, at the default input size and at 800."""
    names = ["service", "textbook", "service-800"]
    with_openvino = find_spec("openvino") is not None
    if with_openvino:
        names.append("service-openvino")
    results = bench.take_turns(
        "D1, D2, D5",
        names,
        bench.effort.stream_rounds,
        lambda name: bench.film(name, 1),
    )
    for name in names[2:]:
        bench.fleet.stop(name)
    _keep(bench, "D1", results)
    ours, textbook = results["service"], results["textbook"]
    forward_ms = [percentile(result.inference_ms, 50) for result in ours]
    ages_ms = [result.age_ms(95) for result in ours]
    rows = [
        _versus_textbook("D1", "one webcam, default settings", ours, textbook),
        _versus_textbook("D2", "one webcam, input size 800", results["service-800"], textbook),
    ]
    if with_openvino:
        faster = results["service-openvino"]
        rows.insert(1, _versus_textbook("D1", "the same with OpenVINO", faster, textbook))
    return [
        *rows,
        Row(
            scenario="D5",
            title="p95 age of the frame behind an answer",
            measured=median(ages_ms),
            unit="ms",
            baseline="forward pass",
            baseline_value=median(forward_ms),
            figure=paired_ratio(ages_ms, forward_ms),
            figure_unit="x",
            comparison="at most",
            bar=2.5,
        ),
    ]


def four_streams(bench: Bench) -> list[Row]:
    """D3 and D4: four streams against one, and a probe beside them."""

    rounds = bench.effort.stream_rounds
    ones: list[CameraResult] = []

    def measure(name: str) -> CameraResult:
        if name == "service":
            # Beside each other, so that both meet the machine in the same mood.
            ones.append(bench.film(name, 1))
        return bench.film(name, 4)

    results = bench.take_turns("D3, D4", ["service", "textbook"], rounds, measure)
    _keep(bench, "D3", {"one stream": ones, **results})
    one, four, textbook = ones, results["service"], results["textbook"]
    probe_ms = [percentile(result.probe_ms, 99) for result in four]
    return [
        Row(
            scenario="D3",
            title="four webcams together",
            measured=median(_rates(four)),
            unit="answers/s",
            baseline="one webcam",
            baseline_value=median(_rates(one)),
            figure=paired_ratio(_rates(four), _rates(one)),
            figure_unit="x",
            comparison="at least",
            bar=0.95,
        ),
        Row(
            scenario="D3",
            title="the most served of four by the least",
            measured=max(max(result.answers) for result in four),
            unit="answers",
            baseline="least served",
            baseline_value=min(min(result.answers) for result in four),
            figure=median(spread(result.answers) for result in four),
            figure_unit="x",
            comparison="at most",
            bar=1.3,
        ),
        Row(
            scenario="D4",
            title="p99 of GET /health/live beside four webcams",
            measured=median(probe_ms),
            unit="ms",
            baseline="textbook",
            baseline_value=median(percentile(result.probe_ms, 99) for result in textbook),
            figure=median(probe_ms),
            figure_unit="ms",
            comparison="at most",
            bar=50,
        ),
    ]
