"""What all scenarios share: the fleet, the workloads, rounds that take turns, checked answers."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from benchmarks.cameras import CameraPlan, CameraResult, run_cameras
from benchmarks.errors import BenchmarkError
from benchmarks.fleet import Fleet, text_model_file
from benchmarks.http_call import fetch
from benchmarks.images import FoundObject, Reference, agreement, make_checkpoint, make_frames
from benchmarks.servers import Server
from benchmarks.texts import TextWorkload, make_text_workload
from benchmarks.wrk import WrkResult, run_wrk

T = TypeVar("T")

CONNECTIONS = 32
_CHECK_EVERY_S = 0.2
_PATIENCE_S = 120.0
_SAMPLE_FRAMES = (0, 8, 24, 40)
# Of the clear objects of a frame, three or more; what is left is room for reduced precision.
_LEAST_AGREEMENT = 0.6


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rounds: int
    seconds: float
    """Of one run of wrk."""
    stream_rounds: int
    stream_seconds: float
    """Of one run of cameras."""
    starts: int
    """Of each server, for the time to ready."""

    def stretched(self, factor: float) -> "Effort":
        """Each measurement longer by `factor`, as many of them."""
        return replace(
            self, seconds=self.seconds * factor, stream_seconds=self.stream_seconds * factor
        )


FULL = Effort(rounds=5, seconds=5, stream_rounds=3, stream_seconds=15, starts=3)
QUICK = Effort(rounds=2, seconds=2, stream_rounds=1, stream_seconds=8, starts=1)


@dataclass
class Bench:
    """One run of the benchmarks, with `folder` for its files."""

    folder: Path
    effort: Effort
    raw: dict[str, Any] = field(default_factory=dict)
    """All rounds, for the JSON file."""
    _salt: int = 0

    @cached_property
    def checkpoint(self) -> Path:
        """The yolos-tiny that every server loads."""
        self.say("building yolos-tiny with random weights …")
        return make_checkpoint(self.folder / "yolos-tiny")

    @cached_property
    def fleet(self) -> Fleet:
        """The servers."""
        return Fleet(self.folder, self.checkpoint)

    @cached_property
    def texts(self) -> TextWorkload:
        """The texts."""
        return make_text_workload(text_model_file(), self.folder)

    @cached_property
    def frames(self) -> list[Path]:
        """The cameras' frames."""
        return make_frames(self.folder / "frames")

    @cached_property
    def reference(self) -> Reference:
        """What transformers answers."""
        return Reference(self.checkpoint)

    def close(self) -> None:
        """End what was started."""
        if "fleet" in self.__dict__:
            self.fleet.close()

    @staticmethod
    def say(line: str) -> None:
        """Progress, for the person who waits."""
        print(line, flush=True)

    def take_turns(
        self, label: str, names: Sequence[str], rounds: int, measure: Callable[[str], T]
    ) -> dict[str, list[T]]:
        """Measure each name once a round. Who begins changes, for what came before is warm."""
        for name in names:
            if name not in self.fleet:
                self.say(f"{label}: starting {name}")
            _ = self.fleet[name]
        results: dict[str, list[T]] = {name: [] for name in names}
        for index in range(rounds):
            shift = index % len(names)
            for name in (*names[shift:], *names[:shift]):
                results[name].append(measure(name))
            self.say(f"{label}: round {index + 1} of {rounds} done")
        return results

    def load_texts(
        self,
        name: str,
        *,
        connections: int = CONNECTIONS,
        seconds: float | None = None,
        fixed: bool = False,
        keep_history: bool = False,
        headers: dict[str, str] | None = None,
    ) -> WrkResult:
        """One run of wrk against `POST /prediction` of a server, answers checked beside it."""
        server = self.fleet[name]
        sent = dict(headers if headers is not None else server.headers)
        if keep_history:
            sent.pop("X-No-Store", None)
        self._salt = (self._salt + 1) % 9000
        # What came before, such as the textbook's webcams, may still keep it.
        first = {"text": self.texts.samples[0]}
        fetch(f"{server.url}/prediction", body=first, headers=sent, timeout_s=_PATIENCE_S)
        checker: AbstractContextManager[object] = nullcontext()
        if name != "echo":
            checker = TextChecker(server, self.texts)
        cpu_before = server.cpu_seconds()
        with checker:
            result = run_wrk(
                f"{server.url}/prediction",
                self.texts.fixed if fixed else self.texts.distinct,
                connections=connections,
                seconds=seconds or self.effort.seconds,
                salt=self._salt,
                headers=sent,
            )
        cpu_ms = (server.cpu_seconds() - cpu_before) * 1000
        return replace(result, server_cpu_ms=cpu_ms / result.requests)

    def film(
        self, name: str, streams: int, *, seconds: float | None = None, allow_errors: bool = False
    ) -> CameraResult:
        """One run of cameras against a server, sampled answers checked against transformers."""
        server = self.fleet[name]
        plan = CameraPlan(
            stream_url=server.stream_url,
            probe_host="127.0.0.1",
            probe_port=server.port,
            frames=[str(path) for path in self.frames],
            headers=[
                {**caller, "X-No-Store": "1"} for caller in self.fleet.callers.get(name, [{}])
            ],
            streams=streams,
            seconds=seconds or self.effort.stream_seconds,
            sample_frames=_SAMPLE_FRAMES,
        )
        result = run_cameras(plan)
        if result.errors and not allow_errors:
            raise BenchmarkError(f"{name}, {streams} streams: {result.errors[:3]}")
        # The textbook's input is what the checkpoint's file says.
        edge = 800 if name in ("textbook", "service-800") else 512
        for index, objects in result.samples.items():
            self.check_objects(name, int(index), objects, edge)
        return result

    def check_objects(
        self, name: str, frame: int, objects: Sequence[dict[str, Any]], edge: int
    ) -> None:
        """Raise `BenchmarkError` unless `objects` are those of the frame."""
        expected = self.reference.detect(self.frames[frame], edge)
        share = agreement(expected, [FoundObject.from_json(found) for found in objects])
        if share < _LEAST_AGREEMENT:
            raise BenchmarkError(
                f"{name}: of the objects in frame {frame} only {share:.0%} were found as "
                f"transformers finds them: {objects[:3]}, expected {expected[:3]}"
            )


class TextChecker:
    """Asks a server for known texts while it is under load; a context manager.

    Leaving it raises `BenchmarkError` if any answer was not the pipeline's own.
    """

    def __init__(self, server: Server, texts: TextWorkload) -> None:
        self._server = server
        self._texts = texts
        self._stop = threading.Event()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        index = 0
        while not self._stop.wait(_CHECK_EVERY_S) and self._problem is None:
            index = (index + 1) % len(self._texts.samples)
            try:
                reply = fetch(
                    f"{self._server.url}/prediction",
                    body={"text": self._texts.samples[index]},
                    headers=self._server.headers,
                )
                found = reply.json().get("category", reply.content)
            except (OSError, ValueError) as error:
                self._problem = f"{self._server.name} did not answer a check: {error!r}"
                return
            if found != self._texts.categories[index]:
                self._problem = (
                    f"{self._server.name} answered {found!r} for sample {index}, "
                    f"the pipeline says {self._texts.categories[index]!r}"
                )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._problem is not None and error is None:
            raise BenchmarkError(self._problem)
