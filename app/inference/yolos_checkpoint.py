"""Reads a YOLOS checkpoint in the hub's layout, safetensors only.

The configuration is transformers' own class. The weights are read as they lie in the file: to
import `YolosForObjectDetection`, of which the service would use nothing else, takes as long as all
the rest of its start (docs/adr/0008).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.inference.base import ModelLoadError
from app.inference.hub import CHECKPOINT_FILES
from app.inference.yolos_preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

# A `YolosConfig`; the types that transformers ships do not describe what it holds.
Config = Any
_CHANNELS = 3
# What the middle position embeddings are called on the hub, and within transformers 5.
_MIDDLE = "vit.encoder.mid_position_embeddings"
_RENAMED_MIDDLE = "vit.encoder.interpolation.mid_position_embeddings"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A configuration, and weights that fit it: float32, on the CPU, by their hub names."""

    config: Config
    weights: "Mapping[str, Tensor]"

    @property
    def labels(self) -> tuple[str, ...]:
        """By class; "no object", which comes last among the logits, has none."""
        return tuple(self.config.id2label[i] for i in range(self.config.num_labels))

    @property
    def middle_positions(self) -> "Tensor | None":
        """(layers - 1, 1, tokens, hidden), where the checkpoint has them."""
        return self.weights.get(_MIDDLE)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint in `folder`.

    Raises `ModelLoadError`, also for another kind of model and when weights are missing or do
    not fit.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import YolosConfig

    content = read_json(folder / "config.json")
    if content.get("model_type") != "yolos":
        raise ModelLoadError(f"{folder} holds a {content.get('model_type')!r} model, not YOLOS")
    missing = [file for file in CHECKPOINT_FILES if not (folder / file).is_file()]
    if missing:
        raise ModelLoadError(
            f"{folder} has no {', '.join(missing)}; only safetensors checkpoints are loaded"
        )
    try:
        config = YolosConfig.from_dict(content)
        _check_config(config)
        shapes = _expected_shapes(config)
    # The class is strict about its fields, each with an error of its own.
    except Exception as error:
        raise ModelLoadError(
            f"{folder / 'config.json'} is not a YOLOS model's: {error!r}"
        ) from error
    try:
        weights = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(f"{folder} cannot be loaded: {error}") from error
    if _RENAMED_MIDDLE in weights:
        weights[_MIDDLE] = weights.pop(_RENAMED_MIDDLE)
    # To fill gaps with random numbers, as training does, would be guessing.
    gaps = {
        name: f"{tuple(weights[name].shape)} instead of {shape}" if name in weights else "missing"
        for name, shape in shapes.items()
        if name not in weights or tuple(weights[name].shape) != shape
    }
    if gaps:
        raise ModelLoadError(f"{folder} does not fit its config.json: {gaps}")
    # Copied, for what safetensors returns is the file itself, mapped into memory: a file that is
    # written over would change the model that serves.
    copies = {name: weights[name].to(torch.float32, copy=True) for name in shapes}
    return Checkpoint(config, copies)


def _check_config(config: Config) -> None:
    """Raise ValueError for what the class accepts and no YOLOS has."""
    if config.num_channels != _CHANNELS:
        raise ValueError(f"num_channels is {config.num_channels}, not {_CHANNELS}")
    if config.patch_size < 1 or config.num_attention_heads < 1:
        raise ValueError("patch_size and num_attention_heads must be positive")
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"{config.num_attention_heads} heads do not share hidden_size {config.hidden_size}"
        )
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise ValueError("id2label does not name each class from 0 on")


def _expected_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Of each weight that the configuration calls for."""
    hidden, wide, patch = config.hidden_size, config.intermediate_size, config.patch_size
    height, width = config.image_size
    tokens = 1 + (height // patch) * (width // patch) + config.num_detection_tokens
    shapes: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, hidden),
        "vit.embeddings.detection_tokens": (1, config.num_detection_tokens, hidden),
        "vit.embeddings.position_embeddings": (1, tokens, hidden),
        "vit.embeddings.patch_embeddings.projection.weight": (
            hidden,
            config.num_channels,
            patch,
            patch,
        ),
        "vit.embeddings.patch_embeddings.projection.bias": (hidden,),
    }
    if config.use_mid_position_embeddings:
        shapes[_MIDDLE] = (config.num_hidden_layers - 1, 1, tokens, hidden)

    def linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (hidden,)

    for index in range(config.num_hidden_layers):
        layer = f"vit.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.attention.{part}", hidden, hidden, bias=config.qkv_bias)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        linear(f"{layer}.intermediate.dense", hidden, wide)
        linear(f"{layer}.output.dense", wide, hidden)
        norm(f"{layer}.layernorm_before")
        norm(f"{layer}.layernorm_after")
    norm("vit.layernorm")
    for head, outputs in (
        ("class_labels_classifier", config.num_labels + 1),
        ("bbox_predictor", 4),
    ):
        linear(f"{head}.layers.0", hidden, hidden)
        linear(f"{head}.layers.1", hidden, hidden)
        linear(f"{head}.layers.2", hidden, outputs)
    return shapes


def read_preprocessing(folder: Path, input_size: int | None) -> Preprocessing:
    """The checkpoint's preprocessor file; `input_size` as in `Preprocessing.from_config`."""
    path = folder / "preprocessor_config.json"
    try:
        return Preprocessing.from_config(read_json(path), input_size)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelLoadError(f"{path} is not a YOLOS preprocessor's: {error!r}") from error


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 over the digests of the checkpoint's files."""
    digest = hashlib.sha256()
    for file in CHECKPOINT_FILES:
        digest.update(hashlib.sha256((folder / file).read_bytes()).digest())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object. Raises `ModelLoadError`."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path} is no JSON object")
    return content
