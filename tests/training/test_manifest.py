import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from training.manifest import ManifestError, record_artifact


def record(models_dir: Path, name: str = "example", **changes: Any) -> None:
    entry: dict[str, Any] = {
        "task": "text-classification",
        "format": "joblib",
        "files": [f"{name}/model.joblib"],
        "labels": ["zebra", "ant"],
        "training_data": "Two sentences.",
        "quality": {"metric": "accuracy", "value": 0.5, "dataset": "none", "size": 2},
        "description": "An example.",
        "license": "MIT",
        "libraries": ["numpy"],
    }
    record_artifact(models_dir, name, **(entry | changes))


def read(models_dir: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((models_dir / "manifest.json").read_text("utf-8"))
    return manifest


def set_created_at(models_dir: Path, name: str, created_at: str) -> None:
    manifest = read(models_dir)
    manifest["models"][name]["created_at"] = created_at
    (models_dir / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    for name in ("example", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.joblib").write_bytes(name.encode())
    return tmp_path


def test_a_new_manifest_lists_digest_labels_and_versions(models_dir: Path) -> None:
    record(models_dir)

    manifest = read(models_dir)
    assert manifest["schema_version"] == 1
    entry = manifest["models"]["example"]
    assert entry["files"] == {"example/model.joblib": hashlib.sha256(b"example").hexdigest()}
    assert entry["labels"] == ["zebra", "ant"]
    assert set(entry["libraries"]) == {"python", "numpy"}
    assert (models_dir / "manifest.json").read_text("utf-8").endswith("}\n")


def test_another_artifact_keeps_the_first_one(models_dir: Path) -> None:
    record(models_dir)
    first = read(models_dir)["models"]["example"]

    record(models_dir, "other")

    models = read(models_dir)["models"]
    assert list(models) == ["example", "other"]
    assert models["example"] == first


def test_a_changed_file_gets_a_new_digest_and_date(models_dir: Path) -> None:
    record(models_dir)
    set_created_at(models_dir, "example", "2001-01-01T00:00:00Z")
    (models_dir / "example" / "model.joblib").write_bytes(b"changed")

    record(models_dir)

    entry = read(models_dir)["models"]["example"]
    assert entry["files"]["example/model.joblib"] == hashlib.sha256(b"changed").hexdigest()
    assert entry["created_at"] != "2001-01-01T00:00:00Z"


def test_the_same_file_keeps_its_date(models_dir: Path) -> None:
    record(models_dir)
    set_created_at(models_dir, "example", "2001-01-01T00:00:00Z")

    record(models_dir, description="A better sentence.")

    entry = read(models_dir)["models"]["example"]
    assert entry["created_at"] == "2001-01-01T00:00:00Z"
    assert entry["description"] == "A better sentence."


@pytest.mark.parametrize("path", ["../secret", "example/../example/model.joblib", "missing", "."])
def test_a_path_that_is_no_plain_file_of_the_folder_is_refused(models_dir: Path, path: str) -> None:
    (models_dir.parent / "secret").write_text("x", encoding="utf-8")

    with pytest.raises(ManifestError):
        record(models_dir, files=[path])

    assert not (models_dir / "manifest.json").exists()


def test_a_link_that_leads_out_of_the_folder_is_refused(models_dir: Path) -> None:
    outside = models_dir.parent / "outside.joblib"
    outside.write_bytes(b"x")
    (models_dir / "link.joblib").symlink_to(outside)

    with pytest.raises(ManifestError):
        record(models_dir, files=["link.joblib"])


def test_an_artifact_without_files_is_refused(models_dir: Path) -> None:
    with pytest.raises(ManifestError):
        record(models_dir, files=[])


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 2, "models": {}}'])
def test_a_manifest_that_cannot_be_read_is_not_overwritten(models_dir: Path, text: str) -> None:
    (models_dir / "manifest.json").write_text(text, encoding="utf-8")

    with pytest.raises(ManifestError):
        record(models_dir)

    assert (models_dir / "manifest.json").read_text("utf-8") == text


def test_a_failed_write_leaves_the_manifest_and_no_temporary_file(models_dir: Path) -> None:
    record(models_dir)
    before = (models_dir / "manifest.json").read_bytes()

    with pytest.raises(ValueError, match="not JSON compliant"):
        record(models_dir, quality={"metric": "accuracy", "value": float("nan")})

    assert (models_dir / "manifest.json").read_bytes() == before
    assert {path.name for path in models_dir.iterdir()} == {"example", "other", "manifest.json"}
