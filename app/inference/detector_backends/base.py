"""What every backend of the detector is to it."""

import importlib.metadata
import importlib.util
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from app.inference.base import ModelLoadError

BackendName = Literal["torch", "openvino", "onnxruntime"]
BackendChoice = Literal["auto", "torch", "openvino", "onnxruntime"]

#: Logits (N, queries, labels + 1), the last being "no object", and boxes (N, queries, 4) as
#: centre x, centre y, width and height relative to the image.
RawDetections = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

# Beside PyTorch, which is always there. Each has a requirements file of its name.
_PACKAGES: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
}


class BackendUnavailableError(ModelLoadError):
    """A backend cannot do what is asked of it here; the message says why and what to do."""


class DetectorBackend(Protocol):
    """One way to compute a checkpoint. Used on the model's own thread alone."""

    name: BackendName
    precision: str
    """Of the products with weights: `float32`, `bfloat16`, `float16` or `int8`."""
    device: str
    version: str
    """Of the library that computes."""

    def forward(self, pixels: npt.NDArray[np.uint8]) -> RawDetections:
        """The network alone, on (N, height, width, 3), RGB, both edges multiples of the patch."""


def missing_packages(name: BackendChoice) -> list[str]:
    """What a backend needs and is not installed (`auto` needs nothing); nothing is imported."""
    return [one for one in _PACKAGES.get(name, ()) if importlib.util.find_spec(one) is None]


def check_installed(name: BackendChoice) -> None:
    """Raise `BackendUnavailableError` where a backend's packages are missing."""
    missing = missing_packages(name)
    if missing:
        raise BackendUnavailableError(
            f"DETECTION_BACKEND={name} needs {' and '.join(missing)}: "
            f"`pip install -r requirements-{name}.txt`"
        )


def installed_version(package: str) -> str:
    """The version of an installed package."""
    return importlib.metadata.version(package)
