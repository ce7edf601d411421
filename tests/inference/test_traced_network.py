"""Passes that run without Python: the same answers for every shape, or the network itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.inference import yolos_network
from app.inference.detector_backends.canary import canary_images
from app.inference.detector_backends.selection import BackendWish, select_backend
from app.inference.detector_backends.traced_network import trace_network
from app.inference.device import DevicePlan, plan_device
from app.inference.yolos_checkpoint import load_checkpoint
from app.inference.yolos_network import YolosNetwork
from tests.support.checkpoints import write_checkpoint

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "positions between layers": {"use_mid_position_embeddings": True},
    "no biases": {"qkv_bias": False},
}


def make_network(folder: Path, plan: DevicePlan) -> YolosNetwork:
    return YolosNetwork(load_checkpoint(folder), scale=[1 / 255] * 3, shift=[0.0] * 3, plan=plan)


@pytest.fixture(scope="module", params=CHECKPOINTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, **CHECKPOINTS[request.param])
    return folder


@pytest.fixture(params=["kernel", "products", "products in parts"])
def network(
    folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> YolosNetwork:
    """Also with the attention of processors without AMX, which is in parts for large images."""
    if request.param == "products in parts":
        monkeypatch.setattr(yolos_network, "_MOST_SCORES", 2000)
    plan = replace(plan_device("cpu", "float32"), attends_by_products=request.param != "kernel")
    return make_network(folder, plan)


@torch.inference_mode()
def test_its_answers_are_the_networks_for_every_shape(network: YolosNetwork) -> None:
    traced = trace_network(network)
    assert traced is not network
    for count, rows, columns in [(1, 3, 4), (2, 3, 4), (1, 1, 1), (3, 2, 9), (1, 8, 5), (1, 3, 4)]:
        size = (count, rows * network.patch, columns * network.patch, 3)
        pixels = torch.randint(0, 256, size, dtype=torch.uint8)
        for found, expected in zip(traced(pixels), network(pixels), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_backend_that_serves_runs_no_python_of_the_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = BackendWish(backend="torch", device="cpu", precision="float32")
    backend = select_backend(wish, lambda plan: make_network(folder, plan)).backend
    expected = backend.forward(canary_images())

    def fail(*_: Tensor | None) -> tuple[Tensor, Tensor]:
        raise AssertionError("the network's own Python has run")

    monkeypatch.setattr(YolosNetwork, "compute", fail)
    for found, before in zip(backend.forward(canary_images()), expected, strict=True):
        torch.testing.assert_close(found, before, rtol=0, atol=1e-6)


class TestWhereItCannotBeTraced:
    @pytest.fixture
    def network(self, folder: Path) -> YolosNetwork:
        return make_network(folder, plan_device("cpu", "float32"))

    def test_the_network_goes_on(
        self, network: YolosNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("torch.jit.trace has been removed")

        monkeypatch.setattr(torch.jit, "trace", fail)
        assert trace_network(network) is network

    @pytest.mark.parametrize("wrong", [1.0, float("nan")])
    def test_a_trace_that_answers_otherwise_is_not_used(
        self, network: YolosNetwork, wrong: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def trace(*_: object, **__: object) -> Any:
            return lambda pixels, *_positions: (network(pixels)[0] + wrong, network(pixels)[1])

        monkeypatch.setattr(torch.jit, "trace", trace)
        assert trace_network(network) is network
