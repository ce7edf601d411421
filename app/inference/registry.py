"""The artifacts under `models/` and their manifest: what may be loaded, and what is known of it."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.inference.base import ModelInfo, ModelLoadError

MANIFEST_NAME = "manifest.json"
VERSION_DIGITS = 12


class ManifestEntry(BaseModel):
    """What the manifest says of one artifact."""

    model_config = ConfigDict(frozen=True)

    task: Literal["text-classification", "object-detection"]
    format: Literal["joblib", "safetensors"]
    description: str
    license: str
    files: Mapping[str, str] = Field(min_length=1)
    """SHA-256 in hex of each file, by its path relative to the models folder."""
    labels: tuple[str, ...]
    libraries: Mapping[str, str]
    training_data: str
    quality: Mapping[str, Any]
    created_at: datetime


class Manifest(BaseModel):
    """The file `manifest.json`."""

    schema_version: Literal[1]
    models: Mapping[str, ManifestEntry]


class ModelRegistry:
    """Reads artifacts, and only such as stand in the manifest with the digest they have."""

    def __init__(self, models_dir: Path) -> None:
        """Read the manifest of `models_dir`. Raises `ModelLoadError`."""
        self.models_dir = models_dir
        path = models_dir / MANIFEST_NAME
        try:
            self.manifest = Manifest.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise ModelLoadError(f"{path} is not a valid manifest: {error}") from error

    @property
    def names(self) -> list[str]:
        """Names of all artifacts in the manifest."""
        return list(self.manifest.models)

    def entry(self, name: str) -> ManifestEntry:
        """The entry of an artifact. Raises `ModelLoadError` when there is none."""
        try:
            return self.manifest.models[name]
        except KeyError:
            known = ", ".join(self.names) or "none"
            raise ModelLoadError(
                f"{name!r} is not in {self.models_dir / MANIFEST_NAME} (there: {known})"
            ) from None

    def read_verified(self, name: str) -> dict[str, bytes]:
        """All files of an artifact, by path, as bytes whose digests are the manifest's.

        The bytes are what is to be loaded, not the file once more: it could change in between.
        Raises `ModelLoadError`.
        """
        contents: dict[str, bytes] = {}
        for file, digest in self.entry(name).files.items():
            path = self.models_dir / file
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
            found = hashlib.sha256(content).hexdigest()
            if found != digest:
                raise ModelLoadError(
                    f"{path} is not the file of the manifest: its SHA-256 is {found}, "
                    f"the manifest says {digest}. It was not loaded."
                )
            contents[file] = content
        return contents

    def version(self, name: str) -> str:
        """The artifact's version: the start of the SHA-256 over its files' digests."""
        files = self.entry(name).files
        if len(files) == 1:
            return next(iter(files.values()))[:VERSION_DIGITS]
        lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:VERSION_DIGITS]

    def info(self, name: str, **more: Any) -> ModelInfo:
        """The manifest's part of a model's description, with `more` fields of `ModelInfo`."""
        entry = self.entry(name)
        fields: dict[str, Any] = {
            "name": name,
            "task": entry.task,
            "version": self.version(name),
            "labels": entry.labels,
            "description": entry.description,
            "license": entry.license,
            "training_data": entry.training_data,
            "quality": dict(entry.quality),
            "libraries": dict(entry.libraries),
        }
        return ModelInfo(**(fields | more))
