"""The scaling curves of S1 as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_scaling(measured: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what `scaling.s1` kept: one PNG for connections, one for webcams."""
    return [
        _draw(
            measured["connections"], "connections", "requests/s", folder / "scaling-connections.png"
        ),
        _draw(measured["streams"], "webcams", "answers/s", folder / "scaling-webcams.png"),
    ]


def _draw(curve: Mapping[str, Sequence[float]], x_label: str, y_label: str, path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axes.plot(curve["at"], curve["service"], marker="o", color="#1f5fa8", label="service")
    axes.plot(
        curve["at"],
        curve["textbook"],
        marker="s",
        linestyle="--",
        color="#9a9a9a",
        label="textbook",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(curve["at"], [str(point) for point in curve["at"]])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    # No date and no software in it: the same curves give the same file.
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
    return path
