"""What the manifest claims of a model."""

import json
from typing import Any

import pytest

from tests.support.service import ROOT


def claimed_quality(name: str) -> dict[str, Any]:
    """The measured quality of an artifact; skips the test where it has not been trained yet."""
    manifest = json.loads((ROOT / "models" / "manifest.json").read_text())
    entry = manifest["models"].get(name)
    if entry is None:
        pytest.skip(f"{name} is not in the manifest")
    quality: dict[str, Any] = entry["quality"]
    return quality
