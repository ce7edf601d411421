"""The detector on ONNX Runtime, on the CPU."""

import numpy as np
import numpy.typing as npt
import onnxruntime
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

_ERRORS_ONLY = 3
_OWN = "com.microsoft"


class OnnxRuntimeWriter(GraphWriter):
    """Attention and 8-bit products as the nodes that ONNX Runtime has fast kernels for."""

    def attend(self, query: str, key: str, value: str, heads: int) -> str:
        return self.add("MultiHeadAttention", query, key, value, domain=_OWN, num_heads=heads)

    def multiply_quantised(
        self, values: str, weight: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]
    ) -> str:
        zeros = self.constant(np.zeros(scale.shape, np.int8))
        constants = (self.constant(weight), self.constant(scale), zeros)
        return self.add("DynamicQuantizeMatMul", values, *constants, domain=_OWN)


class OnnxRuntimeBackend:
    """A float32 `YolosNetwork` in one session for images of every shape."""

    name: BackendName = "onnxruntime"
    device = "cpu"

    def __init__(
        self, network: YolosNetwork, *, plan: DevicePlan, threads: int, quantise: bool
    ) -> None:
        """Raises `BackendUnavailableError` for any precision but float32 and int8."""
        if plan.product_dtype is not torch.float32:
            raise BackendUnavailableError(
                "ONNX Runtime computes in float32 and int8 on a CPU; set DETECTION_PRECISION to "
                "auto, float32 or int8"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads that wait leave the cores to decoding and to the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = OnnxRuntimeWriter(quantise=quantise).write(network)
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._inputs = GraphInputs(network.patch, network.positions)
        self.precision = "int8" if quantise else "float32"
        self.version = installed_version("onnxruntime")

    def forward(self, pixels: npt.NDArray[np.uint8]) -> RawDetections:
        logits, boxes = self._session.run(["logits", "boxes"], self._inputs.of(pixels))
        return logits, boxes
