"""The detector on PyTorch: on every device, and the reference for the others."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.inference.detector_backends.base import BackendName, RawDetections
from app.inference.detector_backends.recorded_network import RecordedNetwork, record_cuda_graph
from app.inference.detector_backends.traced_network import trace_network
from app.inference.yolos_network import YolosNetwork


class TorchBackend:
    """A `YolosNetwork`, given arrays.

    With `traced`, its passes on the CPU leave Python's lock to other threads. With `cuda_graphs`,
    those on CUDA are recorded.
    """

    name: BackendName = "torch"

    def __init__(
        self, network: YolosNetwork, *, traced: bool = False, cuda_graphs: bool = False
    ) -> None:
        self.network = network
        self.precision = str(network.plan.product_dtype).removeprefix("torch.")
        self.device = network.plan.device
        self.version = str(torch.__version__)
        self._is_cuda = self.device.startswith("cuda")
        self._run: Callable[[Tensor], tuple[Tensor, Tensor]] = network
        if traced and self.device == "cpu":
            self._run = trace_network(network)
        if cuda_graphs and self._is_cuda:
            self._run = RecordedNetwork(network, record_cuda_graph)

    def forward(self, pixels: npt.NDArray[np.uint8]) -> RawDetections:
        values = torch.from_numpy(pixels)
        if self._is_cuda:
            # Only from pinned memory does a copy not wait for what the card is doing.
            values = values.pin_memory().to(self.device, non_blocking=True)
        with torch.inference_mode():
            logits, boxes = self._run(values)
            return logits.cpu().numpy(), boxes.cpu().numpy()
