"""Passes that are recorded by shape and replayed.

No CUDA device is at hand in CI: the recordings here are those of PyTorch's tracer of operators,
which like a CUDA graph knows no Python any more and refuses a pass that waits for the device.
"""

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from app.inference.detector_backends import recorded_network
from app.inference.detector_backends.recorded_network import (
    MAX_BATCH,
    Outputs,
    RecordedNetwork,
    Replay,
)
from app.inference.detector_backends.torch_backend import TorchBackend
from app.inference.device import plan_device
from app.inference.yolos_checkpoint import load_checkpoint
from app.inference.yolos_network import YolosNetwork
from tests.support.checkpoints import write_checkpoint


@pytest.fixture(scope="module", params=["plain", "positions between layers"])
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> YolosNetwork:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, use_mid_position_embeddings=request.param != "plain")
    return YolosNetwork(
        load_checkpoint(folder),
        scale=[1 / 255] * 3,
        shift=[0.0] * 3,
        plan=plan_device("cpu", "float32"),
    )


class Tracer:
    """Records with PyTorch's tracer, and counts."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, ...]] = []
        self.replays = 0

    def __call__(self, network: YolosNetwork, pixels: Tensor) -> Replay:
        traced = make_fx(network)(pixels)
        self.recorded.append(tuple(pixels.shape))

        def replay(new: Tensor) -> Outputs:
            self.replays += 1
            logits, boxes = traced(new)
            return logits, boxes

        return replay


def images(count: int, patch: int, rows: int = 3, columns: int = 4) -> Tensor:
    size = (count, rows * patch, columns * patch, 3)
    return torch.randint(0, 256, size, dtype=torch.uint8)


def assert_same(found: Outputs, expected: Outputs) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_what_is_replayed_is_what_the_network_answers(network: YolosNetwork) -> None:
    tracer = Tracer()
    recorded = RecordedNetwork(network, tracer)
    for _ in range(4):
        for pixels in (images(1, network.patch), images(3, network.patch, rows=5)):
            assert_same(recorded(pixels), network(pixels))
    assert len(tracer.recorded) == 2
    # Once to compare, then the third and the fourth time.
    assert tracer.replays == 2 * 3


@torch.inference_mode()
def test_a_shape_that_comes_once_is_not_recorded(network: YolosNetwork) -> None:
    tracer = Tracer()
    recorded = RecordedNetwork(network, tracer)
    for rows in range(2, 6):
        recorded(images(1, network.patch, rows))
    assert tracer.recorded == []


@torch.inference_mode()
def test_a_large_batch_is_not_recorded(network: YolosNetwork) -> None:
    tracer = Tracer()
    recorded = RecordedNetwork(network, tracer)
    for _ in range(3):
        recorded(images(MAX_BATCH + 1, network.patch, 1, 1))
    assert tracer.recorded == []


@torch.inference_mode()
def test_the_least_recently_used_makes_room(
    network: YolosNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_network, "MAX_RECORDINGS", 2)
    recorded = RecordedNetwork(network, Tracer())
    first, second, third = (images(1, network.patch, rows) for rows in (1, 2, 3))
    for pixels in (first, first, second, second, first, third, third):
        recorded(pixels)
    assert recorded.shapes == [tuple(first.shape), tuple(third.shape)]


@torch.inference_mode()
def test_where_recording_fails_the_network_goes_on(network: YolosNetwork) -> None:
    attempts = 0

    def fail(_network: YolosNetwork, _pixels: Tensor) -> Replay:
        nonlocal attempts
        attempts += 1
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    recorded = RecordedNetwork(network, fail)
    pixels = images(1, network.patch)
    for _ in range(5):
        assert_same(recorded(pixels), network(pixels))
    assert attempts == 1


@pytest.mark.parametrize("wrong", [1.0, float("nan")])
@torch.inference_mode()
def test_a_recording_that_answers_otherwise_is_not_used(
    network: YolosNetwork, wrong: float
) -> None:
    def record(network: YolosNetwork, _pixels: Tensor) -> Replay:
        def replay(new: Tensor) -> Outputs:
            logits, boxes = network(new)
            return logits + wrong, boxes

        return replay

    recorded = RecordedNetwork(network, record)
    pixels = images(1, network.patch)
    for _ in range(4):
        assert_same(recorded(pixels), network(pixels))
    assert recorded.shapes == []


def test_on_the_cpu_nothing_is_recorded(network: YolosNetwork) -> None:
    pixels = images(1, network.patch).numpy()
    backend = TorchBackend(network, cuda_graphs=True)
    for _ in range(3):
        for found, expected in zip(
            backend.forward(pixels), TorchBackend(network).forward(pixels), strict=True
        ):
            assert (found == expected).all()
