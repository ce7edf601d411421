"""Writes models/manifest.json, the list of artifacts that the service may load.

An artifact whose digest is not in the manifest does not load: a joblib file is a pickle,
and so code.
"""

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1


class ManifestError(Exception):
    """The manifest or an artifact that it should list is not as it must be."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, reading it as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_artifact(
    models_dir: Path,
    name: str,
    *,
    task: str,
    format: str,  # noqa: A002 - the manifest's own key
    files: Sequence[str],
    labels: Sequence[str],
    training_data: str,
    quality: Mapping[str, str | int | float],
    description: str,
    license: str,  # noqa: A002 - the manifest's own key
    libraries: Sequence[str],
) -> None:
    """Write or replace the entry of one artifact in models_dir/manifest.json.

    Args:
        models_dir: Folder that holds the artifacts and the manifest.
        name: Name under which the service serves the model.
        task: What the model does, in the hub's words: text-classification, object-detection.
        format: joblib or safetensors.
        files: POSIX paths, relative to models_dir, of every file that the model loads.
        labels: Labels in the order of the model's outputs.
        training_data: What the model was trained on.
        quality: Measured quality: metric, value, dataset, size and what else was measured.
        description: One sentence for people who choose a model.
        license: Licence of the artifact.
        libraries: Names of the installed distributions that the artifact was made with; their
            versions, and Python's, are recorded.

    The manifest is replaced in one step, and two scripts that end together both get their entry.
    created_at stays as it was when the files are byte for byte those already listed, so that
    repeating a training run changes nothing.

    Raises:
        ManifestError: A path leaves models_dir or names no file, no file is given, or the
            manifest that is there cannot be read. The manifest is then left as it was.
        importlib.metadata.PackageNotFoundError: A distribution is not installed.
        ValueError: quality holds a number that JSON has no word for, such as NaN.
    """
    if not files:
        raise ManifestError(f"{name}: an artifact needs at least one file")
    digests = {path: sha256_of(_resolve(models_dir, path)) for path in files}
    entry = {
        "task": task,
        "format": format,
        "description": description,
        "license": license,
        "files": digests,
        "labels": list(labels),
        "libraries": {"python": platform.python_version()}
        | {distribution: version(distribution) for distribution in libraries},
        "training_data": training_data,
        "quality": dict(quality),
        "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    with _locked(models_dir):
        manifest = _read(models_dir / MANIFEST_NAME)
        previous = manifest["models"].get(name)
        if previous is not None and previous["files"] == digests:
            entry["created_at"] = previous["created_at"]
        manifest["models"][name] = entry
        _write(models_dir / MANIFEST_NAME, manifest)


def _resolve(models_dir: Path, path: str) -> Path:
    root = models_dir.resolve()
    target = (root / path).resolve()
    # What models_dir / path resolves to must be spelled the same way back: this refuses absolute
    # paths, "..", back-slashes and links that lead elsewhere, and leaves one name for each file.
    if not target.is_relative_to(root) or target.relative_to(root).as_posix() != path:
        raise ManifestError(f"{path!r} is not a plain POSIX path relative to {models_dir}")
    if not target.is_file():
        raise ManifestError(f"{target} is not a file")
    return target


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"schema_version": SCHEMA_VERSION, "models": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{path} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("models"), dict):
        raise ManifestError(f"{path} has no object 'models'")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ManifestError(
            f"{path} has schema_version {manifest.get('schema_version')!r}, "
            f"this script writes {SCHEMA_VERSION}"
        )
    return manifest


def _write(path: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
