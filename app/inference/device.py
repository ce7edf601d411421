"""Where a neural model computes: device, precision and threads."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.inference.base import ModelLoadError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """A device with the precision that serves best on it."""

    device: str
    dtype: "torch.dtype"


def plan_device(wanted: str) -> DevicePlan:
    """Choose the device for `wanted`: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.

    `auto` takes CUDA, then Apple's GPU, then the CPU. On CUDA the precision is bfloat16 where
    the card computes in it, else float16; elsewhere float32. Raises `ModelLoadError` when a
    named device is not there: falling back in silence would be ten times slower, unexplained.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise ModelLoadError(f"DEVICE={wanted}: this machine has {count} usable CUDA devices")
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return DevicePlan(f"cuda:{index}", half)
    if wanted == "mps" and not has_mps:
        raise ModelLoadError("DEVICE=mps: this machine has no usable Apple GPU")
    return DevicePlan(wanted, torch.float32)


def default_threads(processes: int) -> int:
    """Threads of one model call, so that `processes` of them share the cores without fighting."""
    # The cores this process may use, which in a container are fewer than the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (usable or 1) // processes)
