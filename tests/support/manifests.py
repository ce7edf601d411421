"""Manifests for the artifacts that tests make."""

import hashlib
import json
from pathlib import Path
from typing import Any


def write_manifest(models_dir: Path, name: str, **changes: Any) -> None:
    """List every file under `models_dir/name`, with its digest, as the one artifact there is."""
    files = {
        path.relative_to(models_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((models_dir / name).rglob("*"))
        if path.is_file()
    }
    entry = {
        "task": "text-classification",
        "format": "joblib",
        "description": "A test's own.",
        "license": "MIT",
        "files": files,
        "labels": [],
        "libraries": {"scikit-learn": "1.0"},
        "training_data": "none",
        "quality": {},
        "created_at": "2026-11-22T00:00:00Z",
        **changes,
    }
    manifest = {"schema_version": 1, "models": {name: entry}}
    (models_dir / "manifest.json").write_text(json.dumps(manifest))
