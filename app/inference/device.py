"""Where a neural model computes: device, precision and threads."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.inference.base import ModelLoadError

if TYPE_CHECKING:
    import torch

# Read by the OpenMP of PyTorch when that is first imported, which happens inside the functions
# here. Otherwise each thread of a product that is done before the others keeps its core busy, and
# with it what the others, decoding and the event loop are waiting for (decision 41).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Precision = Literal["auto", "float32", "bfloat16", "float16"]
# int8 is no precision of a device: it is a backend's, for the products with weights alone.
WantedPrecision = Literal["auto", "float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """A device with the precisions that serve best on it."""

    device: str
    dtype: "torch.dtype"
    """Of activations: residuals and normalisation."""
    product_dtype: "torch.dtype"
    """Of weights, and so of the matrix products with them."""
    attention_dtype: "torch.dtype"
    attends_by_products: bool = False
    """Whether attention is two matrix products with a softmax between, instead of PyTorch's own
    kernel, which does not use the processor's instructions for bfloat16 without AMX."""


def plan_device(wanted: str, precision: Precision = "auto") -> DevicePlan:
    """Choose device and precision.

    `wanted`: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`; `auto` takes CUDA, then Apple's GPU, then
    the CPU. `precision` `auto`: on CUDA bfloat16 where the card computes in it, else float16; on
    a CPU with bfloat16 instructions these for the products with weights, which they do twice as
    fast, and float32 for all between, but for attention where it gains too; elsewhere float32.
    Raises `ModelLoadError` when a named device is not there: falling back in silence would be ten
    times slower, unexplained.
    """
    import torch

    device = _find_device(wanted)
    if precision == "auto":
        precision = _best_precision(device)
    dtype: torch.dtype = getattr(torch, precision)
    if device == "cpu":
        # CPUs have no kernels in half precision for all of the network; the products suffice.
        in_half = dtype is torch.bfloat16 and _cpu_computes_in_bfloat16()
        attention = torch.bfloat16 if in_half else torch.float32
        has_tiles = _cpu_has("_is_amx_tile_supported")
        return DevicePlan(device, torch.float32, dtype, attention, in_half and not has_tiles)
    return DevicePlan(device, dtype, dtype, dtype)


def _best_precision(device: str) -> Literal["float32", "bfloat16", "float16"]:
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if device == "cpu" and _cpu_computes_in_bfloat16() else "float32"


def _find_device(wanted: str) -> str:
    import torch

    has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise ModelLoadError(f"DEVICE={wanted}: this machine has {count} usable CUDA devices")
        return f"cuda:{index}"
    if wanted == "mps" and not has_mps:
        raise ModelLoadError("DEVICE=mps: this machine has no usable Apple GPU")
    return wanted


def _cpu_computes_in_bfloat16() -> bool:
    """Whether products in bfloat16 run on instructions of their own (AVX512_BF16, AMX).

    oneDNN also offers them on older processors, by conversion, slower than float32.
    """
    return _cpu_has("_is_avx512_bf16_supported") or _cpu_has("_is_amx_tile_supported")


def _cpu_has(probe: str) -> bool:
    """What a probe of `torch.cpu` says; False where this version of PyTorch has none."""
    import torch

    return bool(getattr(torch.cpu, probe, lambda: False)())


def default_threads(processes: int) -> int:
    """Threads of one model call, so that `processes` of them share the cores without fighting."""
    # The cores this process may use, which in a container are fewer than the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (usable or 1) // processes)
