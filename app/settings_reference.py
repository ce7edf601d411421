"""The table of settings in docs/configuration.md and the file .env.example, from `Settings`."""

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.config import Settings

# Each heading stands before the field of this name.
SECTIONS = {
    "environment": "The service",
    "database_url": "Storage",
    "secret_key": "Identity",
    "models_dir": "Models",
    "max_json_bytes": "Limits",
}

_TYPES = {
    bool: "`true`, `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret",
}

_MARKDOWN_INTRODUCTION = """\
# Configuration

Every setting is an environment variable, or a line of the file `.env` in the working directory
(the environment wins). An empty value means the default.
This page is generated: `python -m app.cli settings --markdown > docs/configuration.md`.
"""

_ENV_INTRODUCTION = """\
# Every setting with its default. Copy this file to `.env` and uncomment what you change.
# Generated: python -m app.cli settings --env > .env.example
"""


def render_markdown() -> str:
    """The page docs/configuration.md."""
    lines = [_MARKDOWN_INTRODUCTION.rstrip()]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines += ["", f"## {SECTIONS[name]}", "", "| variable | value | default | |"]
            lines.append("| --- | --- | --- | --- |")
        default = _render(field.default)
        shown = f"`{default}`" if default else ""
        lines.append(
            f"| `{name.upper()}` | {_describe_type(field)} | {shown} | {field.description} |"
        )
    return "\n".join(lines) + "\n"


def render_env() -> str:
    """The file .env.example."""
    lines = [_ENV_INTRODUCTION.rstrip()]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines += ["", f"# -- {SECTIONS[name]} --"]
        lines += ["", f"# {field.description}", f"#{name.upper()}={_render(field.default)}"]
    return "\n".join(lines) + "\n"


def _render(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return ",".join(map(str, default))
    return str(default)


def _describe_type(field: FieldInfo) -> str:
    described = list(_describe(field.annotation))
    limits = [
        f"{word} {value:,}"
        for metadata in field.metadata
        for attribute, word in (("ge", "at least"), ("gt", "over"), ("le", "at most"))
        if (value := getattr(metadata, attribute, None)) is not None
    ]
    return ", ".join([*described, *limits])


def _describe(annotation: Any) -> Iterator[str]:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        yield ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            if part is not type(None):
                yield from _describe(part)
    elif origin is list:
        yield "comma-separated list"
    else:
        yield _TYPES[annotation]
