"""Chooses the detector's backend, and refuses one that does not agree with PyTorch in float32."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from loguru import logger

from app.inference.base import ModelLoadError
from app.inference.detector_backends.base import (
    BackendChoice,
    BackendName,
    BackendUnavailableError,
    DetectorBackend,
    RawDetections,
    check_installed,
    missing_packages,
)
from app.inference.detector_backends.canary import (
    TOLERANCES,
    canary_images,
    measure_deviation,
)
from app.inference.detector_backends.torch_backend import TorchBackend
from app.inference.device import DevicePlan, Precision, WantedPrecision, plan_device
from app.inference.yolos_network import YolosNetwork

MakeNetwork = Callable[[DevicePlan], YolosNetwork]


class BackendDisagreesError(ModelLoadError):
    """A backend's answers are too far from PyTorch's in float32."""


class BackendFailedError(ModelLoadError):
    """A backend's library is damaged, or failed on this checkpoint."""


@dataclass(frozen=True, slots=True)
class BackendWish:
    """What the operator asks for."""

    backend: BackendChoice = "auto"
    device: str = "auto"
    precision: WantedPrecision = "auto"
    threads: int = 1
    cuda_graphs: bool = False


@dataclass(frozen=True, slots=True)
class SelectedBackend:
    """The backend that is to serve."""

    backend: DetectorBackend
    notice: str | None = None
    """What went wrong with those that should have been better."""


def select_backend(wish: BackendWish, make_network: MakeNetwork) -> SelectedBackend:
    """The backend that was named, or with `auto` the fastest, if it agrees with the reference.

    `make_network` makes the checkpoint's network for a plan; the reference is that in float32 on
    the CPU. Where answers on the canary images are further from it than `TOLERANCES` allows, a
    backend or precision that was named is refused, and one that `auto` took is passed over with a
    notice. Raises `BackendUnavailableError`, `BackendFailedError` or `BackendDisagreesError`, and
    `ModelLoadError` for a device that is not there.
    """
    reference = TorchBackend(make_network(plan_device("cpu", "float32")))
    expected = reference.forward(canary_images())
    passed_over: list[ModelLoadError] = []
    for attempt in attempts(wish):
        try:
            backend = _build(attempt, reference, make_network)
            _check(backend, expected)
        except ModelLoadError as error:
            passed_over.append(error)
            logger.warning("the detector does not use {}: {}", attempt.backend, error)
            continue
        # That a library has not got what was asked for is no trouble where another has.
        troubles = [str(one) for one in passed_over if not isinstance(one, BackendUnavailableError)]
        return SelectedBackend(backend, " ".join(troubles) or None)
    raise passed_over[0]


def attempts(wish: BackendWish) -> list[BackendWish]:
    """What to try in turn, the fastest first: a backend each, and what it cannot do in float32.

    The order of backends is that of measurements (decision 40), which hold for processors with
    bfloat16 and without: OpenVINO; then PyTorch, which has bfloat16, before ONNX Runtime, which
    has not; in float32 ONNX Runtime before PyTorch. A GPU is PyTorch's.
    """
    plan = plan_device(wish.device, _plain(wish.precision))
    names: list[BackendName]
    if wish.backend != "auto":
        names = [wish.backend]
    elif plan.device != "cpu":
        names = ["torch"]
    elif plan.product_dtype is torch.float32:
        names = ["openvino", "onnxruntime", "torch"]
    else:
        names = ["openvino", "torch", "onnxruntime"]
    if wish.backend == "auto":
        names = [name for name in names if not missing_packages(name)]
    found = [replace(wish, backend=name) for name in names]
    if wish.precision == "auto":
        found += [replace(one, precision="float32") for one in found]
    return found


def _build(
    wish: BackendWish, reference: TorchBackend, make_network: MakeNetwork
) -> DetectorBackend:
    if wish.backend == "torch":
        return _build_torch(wish, reference, make_network)
    assert wish.backend != "auto"
    check_installed(wish.backend)
    if plan_device(wish.device).device != "cpu":
        raise BackendUnavailableError(
            f"DETECTION_BACKEND={wish.backend} computes on the CPU only; set DEVICE=cpu"
        )
    build = _build_openvino if wish.backend == "openvino" else _build_onnxruntime
    try:
        return build(wish, reference.network)
    except ModelLoadError:
        raise
    # A damaged installation fails in its import, a graph that is not understood in any way.
    except Exception as error:
        raise BackendFailedError(
            f"{wish.backend} cannot compute this checkpoint, set DETECTION_BACKEND=torch: {error}"
        ) from error


def _build_torch(
    wish: BackendWish, reference: TorchBackend, make_network: MakeNetwork
) -> TorchBackend:
    if wish.precision == "int8":
        raise BackendUnavailableError(
            "DETECTION_PRECISION=int8 needs OpenVINO or ONNX Runtime: "
            "`pip install -r requirements-openvino.txt`, or requirements-onnxruntime.txt"
        )
    plan = plan_device(wish.device, wish.precision)
    network = reference.network if plan == reference.network.plan else make_network(plan)
    return TorchBackend(network, traced=True, cuda_graphs=wish.cuda_graphs)


def _build_openvino(wish: BackendWish, network: YolosNetwork) -> DetectorBackend:
    from app.inference.detector_backends.openvino_backend import OpenVinoBackend

    plan = plan_device("cpu", _plain(wish.precision))
    quantise = wish.precision == "int8"
    return OpenVinoBackend(network, plan=plan, threads=wish.threads, quantise=quantise)


def _build_onnxruntime(wish: BackendWish, network: YolosNetwork) -> DetectorBackend:
    from app.inference.detector_backends.onnxruntime_backend import OnnxRuntimeBackend

    precision = _plain(wish.precision)
    plan = plan_device("cpu", "float32" if precision == "auto" else precision)
    quantise = wish.precision == "int8"
    return OnnxRuntimeBackend(network, plan=plan, threads=wish.threads, quantise=quantise)


def _check(backend: DetectorBackend, expected: RawDetections) -> None:
    deviation = measure_deviation(expected, backend.forward(canary_images()))
    tolerance = TOLERANCES[backend.precision]
    if not deviation.within(tolerance):
        raise BackendDisagreesError(
            f"{backend.name} in {backend.precision} does not agree with PyTorch in float32: it is "
            f"{deviation} away, where {tolerance} are allowed. Set DETECTION_BACKEND=torch and "
            "DETECTION_PRECISION=float32."
        )
    logger.info(
        "the detector computes with {} {} in {}, {} from float32 on the canary images",
        backend.name,
        backend.version,
        backend.precision,
        deviation,
    )


def _plain(precision: WantedPrecision) -> Precision:
    """The precision of what stays a floating-point number."""
    return "auto" if precision == "int8" else precision
