"""What is read of a checkpoint beside what transformers reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.inference.base import ModelLoadError
from app.inference.yolos_checkpoint import load_checkpoint
from tests.support.checkpoints import LABELS, SMALL, YOLOS_TINY, write_checkpoint

CONFIGS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "positions between layers": SMALL | {"use_mid_position_embeddings": True},
    "no biases": SMALL | {"qkv_bias": False},
    "yolos-tiny": YOLOS_TINY,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_have_the_names_that_transformers_writes(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, **CONFIGS[name])
    stored = load_file(tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.weights.keys() == stored.keys()


def test_weights_are_those_of_the_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert checkpoint.labels == LABELS
    assert stored.keys() == checkpoint.weights.keys()
    assert all(torch.equal(stored[name], one) for name, one in checkpoint.weights.items())


def test_half_precision_is_read_as_float32_and_what_is_not_needed_is_left(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    halves = {name: one.half() for name, one in load_file(path).items()}
    save_file(halves | {"vit.pooler.dense.weight": torch.ones(3)}, path)
    checkpoint = load_checkpoint(tmp_path)
    assert "vit.pooler.dense.weight" not in checkpoint.weights
    for name, half in halves.items():
        assert checkpoint.weights[name].dtype is torch.float32
        assert torch.equal(checkpoint.weights[name], half.float())


def test_a_file_that_is_written_over_does_not_change_what_was_loaded(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    checkpoint = load_checkpoint(tmp_path)
    # In place, as a copy over it does.
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert all(one.abs().max() > 0 for one in checkpoint.weights.values())


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "heads that do not share": (lambda config: config.update(num_attention_heads=5), "5 heads"),
    "four channels": (lambda config: config.update(num_channels=4), "num_channels is 4"),
    "a size that is none": (lambda config: config.update(image_size=96), "image_size"),
    "a word for a number": (lambda config: config.update(num_hidden_layers="many"), "many"),
    "labels with a gap": (lambda config: config["id2label"].pop("1"), "id2label"),
    "no patch": (lambda config: config.update(patch_size=0), "must be positive"),
    "no heads": (lambda config: config.update(num_attention_heads=0), "num_attention_heads"),
    "another image": (lambda config: config.update(image_size=[96, 96]), "position_embeddings"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_configuration_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    change, message = BAD[name]
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=f"(?s)config.json.*{message}"):
        load_checkpoint(tmp_path)
