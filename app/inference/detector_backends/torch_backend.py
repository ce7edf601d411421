"""The detector on PyTorch: on every device, and the reference for the others."""

import numpy as np
import numpy.typing as npt
import torch

from app.inference.detector_backends.base import BackendName, RawDetections
from app.inference.yolos_network import YolosNetwork


class TorchBackend:
    """A `YolosNetwork`, given arrays."""

    name: BackendName = "torch"

    def __init__(self, network: YolosNetwork) -> None:
        self.network = network
        self.precision = str(network.plan.product_dtype).removeprefix("torch.")
        self.device = network.plan.device
        self.version = str(torch.__version__)

    def forward(self, pixels: npt.NDArray[np.uint8]) -> RawDetections:
        values = torch.from_numpy(pixels)
        if self.device.startswith("cuda"):
            # Only from pinned memory does a copy not wait for what the card is doing.
            values = values.pin_memory()
        with torch.inference_mode():
            logits, boxes = self.network(values)
            return logits.cpu().numpy(), boxes.cpu().numpy()
