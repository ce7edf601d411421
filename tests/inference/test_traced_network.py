"""Passes that run without Python: the same answers for every shape, or the network itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.inference import yolos_network
from app.inference.detector_backends import traced_network
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


def test_a_model_that_is_loaded_again_gets_the_trace_that_it_had(
    folder: Path, tmp_path: Path
) -> None:
    plan = plan_device("cpu", "float32")
    traced = trace_network(make_network(folder, plan))
    assert trace_network(make_network(folder, plan)) is traced
    # Not one of other weights, or of another plan.
    write_checkpoint(tmp_path, seed=8)
    assert trace_network(make_network(tmp_path, plan)) is not traced
    by_products = replace(plan, attends_by_products=True)
    assert trace_network(make_network(folder, by_products)) is not traced


@torch.inference_mode()
def test_in_bfloat16_without_amx_it_answers_as_the_network(folder: Path) -> None:
    plan = replace(
        plan_device("cpu", "bfloat16"),
        attention_dtype=torch.bfloat16,
        attends_by_products=True,
    )
    network = make_network(folder, plan)
    traced = trace_network(network)
    assert traced is not network
    pixels = torch.randint(0, 256, (2, 48, 80, 3), dtype=torch.uint8)
    for found, expected in zip(traced(pixels), network(pixels), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


class TestWhereItCannotBeTraced:
    @pytest.fixture
    def network(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> YolosNetwork:
        monkeypatch.setattr(traced_network, "_traces", [])
        return make_network(folder, plan_device("cpu", "float32"))

    def test_the_network_goes_on(
        self, network: YolosNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("torch.jit.trace has been removed")

        monkeypatch.setattr(torch.jit, "trace", fail)
        assert trace_network(network) is network

    @pytest.mark.parametrize("wrong", [1.0, float("nan")])
    @pytest.mark.parametrize("part", [0, 1])
    def test_a_trace_that_answers_otherwise_is_not_used(
        self, network: YolosNetwork, wrong: float, part: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replay(pixels: Tensor, *_positions: Tensor) -> list[Tensor]:
            outputs = list(network(pixels))
            outputs[part] = outputs[part] + wrong
            return outputs

        def trace(*_: object, **__: object) -> Any:
            return replay

        monkeypatch.setattr(torch.jit, "trace", trace)
        assert trace_network(network) is network
