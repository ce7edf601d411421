"""The Dockerfile and .dockerignore agree with each other and with what is there."""

import re
import subprocess

import pytest

from tests.support.service import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def let_through() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    return {line[1:] for line in lines if line.startswith("!")}


def test_what_is_copied_is_let_through_and_there() -> None:
    copied: set[str] = set()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        copied |= set(sources.split())
    assert copied == let_through()
    assert {path for path in copied if not (ROOT / path).exists()} == set()


def test_no_setting_of_the_image_is_unknown() -> None:
    from app.config import Settings

    *_, block = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    names = {pair.split("=")[0] for pair in block.replace("\\\n", " ").split()}
    others = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HF_HOME"}
    assert {name.lower() for name in names - others} <= Settings.model_fields.keys()


@pytest.mark.parametrize("script", ["prestart.sh", "deploy/prove-bare.sh", "deploy/check.sh"])
def test_scripts_are_well_formed_and_can_be_run(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", path], check=True)
