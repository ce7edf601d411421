"""What is generated from `Settings` is up to date, and complete."""

from pathlib import Path

import pytest

from app.cli import main
from app.config import Settings
from app.settings_reference import SECTIONS, render_env, render_markdown
from tests.support.service import ROOT


@pytest.mark.parametrize(
    ("file", "rendered", "option"),
    [
        ("docs/configuration.md", render_markdown, "--markdown"),
        (".env.example", render_env, "--env"),
    ],
)
def test_the_file_is_what_the_command_prints(
    file: str, rendered: object, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(rendered)
    written = (ROOT / file).read_text()
    assert written == rendered(), f"run: python -m app.cli settings {option} > {file}"
    assert main(["settings", option]) == 0
    assert capsys.readouterr().out == written


def test_every_setting_says_what_it_is() -> None:
    undocumented = [name for name, field in Settings.model_fields.items() if not field.description]
    assert undocumented == []
    assert SECTIONS.keys() <= Settings.model_fields.keys()


def test_the_example_with_every_line_uncommented_gives_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    lines = (ROOT / ".env.example").read_text().splitlines()
    settings = [line[1:] for line in lines if line.startswith("#") and line[1:2].isupper()]
    file = tmp_path / ".env"
    file.write_text("\n".join(settings))
    read, defaults = Settings(_env_file=file), Settings(_env_file=None)
    # Each makes its own where none is given.
    read.secret_key = defaults.secret_key
    assert len(settings) == len(Settings.model_fields)
    assert read.model_dump() == defaults.model_dump()
