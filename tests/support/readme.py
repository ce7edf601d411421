"""The README's commands and programs, to be run as they stand."""

import re

from tests.support.service import ROOT


def code_block(language: str, containing: str) -> str:
    """The one block of this language with `containing` in it."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    [found] = [str(block) for block in blocks if containing in block]
    return found
