"""Reads a YOLOS checkpoint in the hub's layout, safetensors only."""

import hashlib
import json
from pathlib import Path
from typing import Any

from app.inference.base import ModelLoadError
from app.inference.hub import CHECKPOINT_FILES
from app.inference.yolos_preprocessing import Preprocessing

# A `YolosForObjectDetection`; the types that transformers ships do not describe its parts.
Checkpoint = Any


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint's network in float32, on the CPU.

    Raises `ModelLoadError`, also for another kind of model and when weights are missing or do
    not fit.
    """
    import torch
    from transformers import YolosForObjectDetection
    from transformers.utils import logging

    config = read_json(folder / "config.json")
    if config.get("model_type") != "yolos":
        raise ModelLoadError(f"{folder} holds a {config.get('model_type')!r} model, not YOLOS")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    missing = [file for file in CHECKPOINT_FILES if not (folder / file).is_file()]
    if missing:
        raise ModelLoadError(
            f"{folder} has no {', '.join(missing)}; only safetensors checkpoints are loaded"
        )
    try:
        loaded: Any = YolosForObjectDetection.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            dtype=torch.float32,
            output_loading_info=True,
        )
    # A damaged file can raise anything from JSON's errors to safetensors' own.
    except Exception as error:
        raise ModelLoadError(f"{folder} cannot be loaded: {error}") from error
    model, report = loaded
    # transformers fills gaps with random numbers and a warning; that would be guessing.
    gaps = {key: report[key] for key in ("missing_keys", "mismatched_keys") if report.get(key)}
    if gaps:
        raise ModelLoadError(f"{folder} does not fit its config.json: {gaps}")
    return model


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
