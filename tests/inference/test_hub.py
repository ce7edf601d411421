"""Checkpoints from a hub, imitated on loopback: each in a process of its own, as its library reads
its settings when it is imported."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import (
    YOLOS_TINY,
    YOLOS_TINY_PARAMETERS,
    YOLOS_TINY_PREPROCESSOR,
    write_checkpoint,
)
from tests.support.hub import Hub, closed_port, mute_server, serve_hub
from tests.support.pictures import jpeg
from tests.support.service import ROOT
from tests.support.waiting import PATIENCE_S

TINY = "hustvl/yolos-tiny"
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
# Enough for a closed port; how long a start may take in all is not measured, only that a hub that
# never answers does not hold it.
TIMEOUT_S = 2.0

FIND = """
import json, sys, time
from pathlib import Path
from app.inference.base import ModelLoadError
from app.inference.hub import find_checkpoint
started = time.monotonic()
try:
    found = find_checkpoint(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
except ModelLoadError as error:
    print(json.dumps({"error": str(error), "took_s": time.monotonic() - started}))
else:
    print(json.dumps({"name": found.name, "folder": str(found.folder), "notice": found.notice,
                      "revision": found.revision, "took_s": time.monotonic() - started}))
"""
DETECT = """
import json, sys
from pathlib import Path
from app.inference.hub import find_checkpoint
from app.inference.images import ImageLimits
from app.inference.yolos import DetectionSettings, ImageInput, ObjectDetector
source = find_checkpoint(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
detector = ObjectDetector(source, limits=ImageLimits(2**24, 10**7), device="cpu")
info = detector.load()
detector.warm_up()
image = Path(sys.argv[4]).read_bytes()
prepared = detector.preprocess(ImageInput(image, DetectionSettings(0.0)))
(found,) = detector.predict([prepared])
print(json.dumps({"name": info.name, "version": info.version, "labels": info.labels,
                  "license": info.license, "quality": dict(info.quality),
                  "shortest_edge": info.input_schema["shortest_edge"],
                  "input": prepared.pixels.shape, "objects": len(found.objects)}))
"""


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A checkpoint of yolos-tiny's exact configuration, with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    labels = [f"label {i}" if i else "N/A" for i in range(91)]
    count = write_checkpoint(
        folder, labels=labels, preprocessor=YOLOS_TINY_PREPROCESSOR, **YOLOS_TINY
    )
    assert count == YOLOS_TINY_PARAMETERS
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("small")
    write_checkpoint(folder)
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def tiny_hub(tiny_files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub with everything that the real one has beside the checkpoint."""
    others = {"README.md": b"# YOLOS", "pytorch_model.bin": b"pickle", ".gitattributes": b""}
    with serve_hub(Hub(TINY, tiny_files | others)) as hub:
        yield hub


@pytest.fixture
def small_hub(small_files: dict[str, bytes]) -> Iterator[Hub]:
    with serve_hub(Hub(TINY, small_files)) as hub:
        yield hub


class Machine:
    """A machine of its own to the hub's library: its cache, and the hub it asks."""

    def __init__(self, home: Path) -> None:
        self.home = home

    async def run(self, endpoint: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run Python with `arguments`; its status, output and errors."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        return await asyncio.to_thread(
            self._run,
            {**kept, "HF_HOME": str(self.home), "HF_ENDPOINT": endpoint, **environment},
            arguments,
        )

    def _run(self, environment: dict[str, str], arguments: tuple[str, ...]) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=6 * PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    async def find(self, endpoint: str, wanted: str = "auto", **environment: str) -> dict[str, Any]:
        """What `find_checkpoint` finds, or its error."""
        status, output, errors = await self.run(
            endpoint, "-c", FIND, wanted, str(ROOT / "models"), str(TIMEOUT_S), **environment
        )
        assert status == 0, errors
        found: dict[str, Any] = json.loads(output)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "hub-home")


class TestAuto:
    async def test_yolos_tiny_is_fetched_and_used(
        self, tiny_hub: Hub, machine: Machine, tmp_path: Path
    ) -> None:
        image = tmp_path / "picture.jpg"
        image.write_bytes(jpeg(640, 480))
        status, output, errors = await machine.run(
            tiny_hub.url, "-c", DETECT, "auto", str(ROOT / "models"), "10", str(image)
        )
        assert status == 0, errors
        found = json.loads(output)
        assert found["name"] == TINY
        assert tiny_hub.revision.startswith(found["version"])
        assert len(found["labels"]) == 90
        assert found["license"] == "apache-2.0"
        assert found["quality"]["value"] == 0.287
        # As its authors evaluate it, not the 800 of its file.
        assert found["shortest_edge"] == 512
        assert found["input"] == [512, 672, 3]
        assert found["objects"] == 100
        assert tiny_hub.downloaded == set(FILES)
        known = (f"/api/models/{TINY}", f"/{TINY}/resolve/")
        assert all(path.startswith(known) for _, path in tiny_hub.requests)
        assert all(method in ("GET", "HEAD") for method, _ in tiny_hub.requests)

    async def test_the_second_start_asks_nobody(self, small_hub: Hub, machine: Machine) -> None:
        first = await machine.find(small_hub.url)
        assert first["revision"] == small_hub.revision
        small_hub.requests.clear()
        second = await machine.find(small_hub.url)
        assert small_hub.requests == []
        assert (second["folder"], second["revision"]) == (first["folder"], first["revision"])
        # So it needs no hub at all.
        assert (await machine.find(closed_port()))["name"] == TINY
        assert (await machine.find(closed_port(), HF_HUB_OFFLINE="1"))["name"] == TINY

    async def test_without_a_hub_the_digits_answer_and_it_is_said(self, machine: Machine) -> None:
        found = await machine.find(closed_port())
        assert found["name"] == "yolos-digits"
        assert found["revision"] is None
        assert TINY in found["notice"]
        assert "models pull" in found["notice"]

    async def test_a_hub_that_never_answers_holds_nobody(self, machine: Machine) -> None:
        with mute_server() as url:
            found = await machine.find(url)
        assert found["name"] == "yolos-digits"
        assert f"did not answer within {TIMEOUT_S:g} s" in found["notice"]
        assert found["took_s"] < PATIENCE_S

    async def test_offline_by_choice_asks_nobody(self, small_hub: Hub, machine: Machine) -> None:
        found = await machine.find(small_hub.url, HF_HUB_OFFLINE="1")
        assert found["name"] == "yolos-digits"
        assert "HF_HUB_OFFLINE" in found["notice"]
        assert small_hub.requests == []

    async def test_a_repository_without_safetensors_is_not_used(
        self, small_files: dict[str, bytes], machine: Machine
    ) -> None:
        files = {**small_files, "pytorch_model.bin": small_files["model.safetensors"]}
        del files["model.safetensors"]
        with serve_hub(Hub(TINY, files)) as hub:
            found = await machine.find(hub.url)
            assert found["name"] == "yolos-digits"
            assert "model.safetensors" in found["notice"]
            assert "pytorch_model.bin" not in hub.downloaded

    async def test_a_download_that_was_cut_off_is_completed_later(
        self, small_hub: Hub, machine: Machine
    ) -> None:
        small_hub.breaks_after = 10_000
        found = await machine.find(small_hub.url)
        assert found["name"] == "yolos-digits"
        small_hub.breaks_after = None
        # While the hub is away, half a checkpoint is none.
        assert (await machine.find(closed_port()))["name"] == "yolos-digits"
        found = await machine.find(small_hub.url)
        assert found["name"] == TINY
        stored = (Path(found["folder"]) / "model.safetensors").read_bytes()
        assert stored == small_hub.files["model.safetensors"]


class TestNamed:
    async def test_a_hub_id_is_fetched(self, small_hub: Hub, machine: Machine) -> None:
        assert (await machine.find(small_hub.url, TINY))["name"] == TINY

    async def test_one_that_the_hub_does_not_have(self, small_hub: Hub, machine: Machine) -> None:
        found = await machine.find(small_hub.url, "hustvl/nobody")
        assert "the hub refused" in found["error"]

    async def test_one_that_cannot_be_fetched(self, machine: Machine) -> None:
        assert (await machine.find(closed_port(), "hustvl/nobody"))["error"]

    @pytest.mark.parametrize(
        "name", ["nobody", "/nowhere/at/all", "a/b/c", "./here", "bad name/x y", "a//b", "a/.."]
    )
    async def test_what_is_neither_a_folder_nor_an_id(
        self, name: str, small_hub: Hub, machine: Machine
    ) -> None:
        found = await machine.find(small_hub.url, name)
        assert name in found["error"]
        assert small_hub.requests == []

    async def test_a_folder(self, small_hub: Hub, machine: Machine) -> None:
        for name in ("models/newsgroups", str(ROOT / "models" / "newsgroups"), "newsgroups"):
            found = await machine.find(small_hub.url, name)
            assert (ROOT / found["folder"]) == ROOT / "models" / "newsgroups"
        assert small_hub.requests == []


class TestPull:
    async def test_it_stores_a_checkpoint(
        self, small_hub: Hub, machine: Machine, tmp_path: Path
    ) -> None:
        status, output, errors = await machine.run(
            small_hub.url, "-m", "app.cli", "models", "pull", TINY, "--to", str(tmp_path / "copy")
        )
        assert status == 0, errors
        assert small_hub.revision in output
        for name, data in small_hub.files.items():
            assert (tmp_path / "copy" / name).read_bytes() == data
            assert not (tmp_path / "copy" / name).is_symlink()
        assert (await machine.find(closed_port()))["name"] == TINY

    async def test_one_that_cannot_be_had_is_one_clear_line(self, machine: Machine) -> None:
        status, _, errors = await machine.run(
            closed_port(), "-m", "app.cli", "models", "pull", TINY
        )
        assert status == 1
        assert "Traceback" not in errors
        assert "hub" in errors.splitlines()[-1]
