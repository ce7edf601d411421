"""The detector on OpenVINO, on the CPU."""

import numpy as np
import numpy.typing as npt
import openvino
import torch

from app.inference.detector_backends.base import (
    BackendName,
    BackendUnavailableError,
    RawDetections,
    installed_version,
)
from app.inference.detector_backends.onnx_graph import GraphInputs, GraphWriter
from app.inference.device import DevicePlan
from app.inference.yolos_network import YolosNetwork

_HINTS = {torch.float32: ("f32", "FP32"), torch.bfloat16: ("bf16", "BF16")}
# Kernels that are remembered, some for each input shape; ten times as many are no faster.
_REMEMBERED_KERNELS = 100
# Columns of a weight that share the scale of what they are multiplied with.
_QUANTISED_GROUP = 64


class OpenVinoBackend:
    """A float32 `YolosNetwork`, compiled once for images of every shape."""

    name: BackendName = "openvino"
    device = "cpu"

    def __init__(
        self, network: YolosNetwork, *, plan: DevicePlan, threads: int, quantise: bool
    ) -> None:
        """Raises `BackendUnavailableError` where this processor lacks the plan's precision."""
        core = openvino.Core()
        hint, capability = _HINTS.get(plan.product_dtype, ("", ""))
        if capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendUnavailableError(
                f"OpenVINO does not compute in {str(plan.product_dtype).removeprefix('torch.')} on "
                "this processor; set DETECTION_PRECISION=auto"
            )
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": hint,
            # Each process would pin itself to the same cores.
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": _REMEMBERED_KERNELS,
        }
        if quantise:
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _QUANTISED_GROUP
        graph = core.read_model(GraphWriter(quantise=quantise).write(network))
        self._request = core.compile_model(graph, "CPU", settings).create_infer_request()
        self._inputs = GraphInputs(network.patch, network.positions)
        self.precision = "int8" if quantise else str(plan.product_dtype).removeprefix("torch.")
        self.version = installed_version("openvino")

    def forward(self, pixels: npt.NDArray[np.uint8]) -> RawDetections:
        found = self._request.infer(self._inputs.of(pixels), share_inputs=True)
        return found["logits"], found["boxes"]
