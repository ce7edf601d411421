"""Reading the `Server-Timing` header."""

import re

import httpx

_PART = re.compile(r"([a-z]+);dur=(\d+(?:\.\d+)?)")


def read_server_timing(answer: httpx.Response) -> dict[str, float]:
    """Its parts in milliseconds. https://www.w3.org/TR/server-timing/"""
    parts = {}
    for entry in answer.headers["server-timing"].split(", "):
        match = _PART.fullmatch(entry)
        assert match is not None, entry
        parts[match[1]] = float(match[2])
    return parts
