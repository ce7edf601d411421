"""Finds the detection model: a folder, a hub id, or the best that can be had."""

import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from app.inference.base import ModelLoadError

# Read by huggingface_hub when it is first imported, which happens inside the functions here.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

PREFERRED_HUB_MODEL = "hustvl/yolos-tiny"
BUNDLED_MODEL = "yolos-digits"
# Weights only as safetensors: a pickled checkpoint is code.
CHECKPOINT_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


class HubUnavailableError(ModelLoadError):
    """The hub does not answer, or has no such checkpoint."""


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """A checkpoint on this machine."""

    name: str
    folder: Path
    revision: str | None = None
    """The hub's commit; None for a folder, whose version is its digest."""
    notice: str | None = None


def find_checkpoint(wanted: str, models_dir: Path, timeout_s: float) -> CheckpointSource:
    """Resolve the setting `DETECTION_MODEL`, fetching from the hub where needed.

    `wanted` is a folder, a hub id, or `auto`: the preferred hub model if it is cached or can be
    fetched, else the bundled one with a notice. An unreachable hub costs at most `timeout_s`
    seconds. Raises `ModelLoadError` for a model that was named and cannot be had.
    """
    if wanted == "auto":
        try:
            return from_hub(PREFERRED_HUB_MODEL, timeout_s)
        except HubUnavailableError as error:
            notice = (
                f"{PREFERRED_HUB_MODEL} could not be had ({error}), so the small model that ships "
                "answers: it finds handwritten digits and nothing else. With internet, run "
                f"`python -m app.cli models pull {PREFERRED_HUB_MODEL}` and start again."
            )
            logger.warning(notice)
            return CheckpointSource(BUNDLED_MODEL, models_dir / BUNDLED_MODEL, notice=notice)
    for folder in (Path(wanted), models_dir / wanted):
        if folder.is_dir():
            return CheckpointSource(folder.resolve().name, folder)
    if wanted.count("/") != 1 or wanted.startswith((".", "/")):
        raise ModelLoadError(f"DETECTION_MODEL={wanted}: no such folder, and not a hub id")
    return from_hub(wanted, timeout_s)


def from_hub(repo_id: str, timeout_s: float) -> CheckpointSource:
    """The checkpoint of a hub id: from the cache, without any request, else from the hub.

    Raises `HubUnavailableError`.
    """
    cached = _cached(repo_id)
    if cached is not None:
        return cached
    return fetch(repo_id, timeout_s)


def fetch(repo_id: str, timeout_s: float) -> CheckpointSource:
    """Download the newest revision of a checkpoint, showing progress.

    `timeout_s` bounds the time to the hub's first answer; a download under way takes as long
    as it takes. Raises `HubUnavailableError`.
    """
    from huggingface_hub import constants, snapshot_download

    if constants.is_offline_mode():
        raise HubUnavailableError(f"{repo_id} is not cached, and HF_HUB_OFFLINE is set")
    logger.info("asking {} for {}", constants.ENDPOINT, repo_id)
    logger.info("fetching {} at {}", repo_id, _newest_revision(repo_id, timeout_s))
    try:
        # By branch, not by that revision: only so is the branch's revision remembered, and the
        # checkpoint found without any request the next time.
        folder = Path(snapshot_download(repo_id, allow_patterns=list(CHECKPOINT_FILES)))
    # The hub's client raises errors of its HTTP library, of its own and of the file system.
    except Exception as error:
        raise HubUnavailableError(f"fetching {repo_id} failed: {error}") from error
    _check_complete(repo_id, folder)
    return CheckpointSource(repo_id, folder, revision=folder.name)


def _cached(repo_id: str) -> CheckpointSource | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(repo_id, local_files_only=True, allow_patterns=list(CHECKPOINT_FILES))
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelLoadError(f"{repo_id!r} is no folder and not a hub id: {error}") from error
    if any(not (folder / file).is_file() for file in CHECKPOINT_FILES):
        # A download that was cut off; the next one completes it.
        return None
    return CheckpointSource(repo_id, folder, revision=folder.name)


def _newest_revision(repo_id: str, timeout_s: float) -> str:
    """The commit of the hub's main branch, or `HubUnavailableError` after `timeout_s`.

    Asked on a thread of its own: a name look-up that hangs knows no time-out, and the client's
    retries are longer than a start should take.
    """
    answers: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def ask() -> None:
        from huggingface_hub import HfApi

        try:
            answers.put(str(HfApi().model_info(repo_id, timeout=timeout_s).sha))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="hub-probe", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise HubUnavailableError(f"the hub did not answer within {timeout_s:g} s") from None
    if isinstance(answer, Exception):
        first_line = (str(answer).strip().splitlines() or [repr(answer)])[0]
        raise HubUnavailableError(f"the hub refused: {first_line}") from answer
    return answer


def _check_complete(repo_id: str, folder: Path) -> None:
    missing = [file for file in CHECKPOINT_FILES if not (folder / file).is_file()]
    if missing:
        raise HubUnavailableError(
            f"{repo_id} has no {', '.join(missing)}; only safetensors checkpoints in the hub's "
            "layout are loaded"
        )
