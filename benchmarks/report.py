"""The table of bars: on the terminal, as JSON, and as benchmarks/RESULTS.md."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One bar and what was measured for it."""

    scenario: str
    title: str
    measured: float
    unit: str
    baseline: str
    """What it is compared with; empty where the bar is absolute."""
    baseline_value: float | None
    figure: float
    """What the bar is about: a ratio (`x`), or the measured value itself."""
    figure_unit: str
    comparison: Literal["at least", "at most"]
    bar: float

    @property
    def passed(self) -> bool:
        """Whether the bar is met; not when there is no figure (NaN)."""
        if self.comparison == "at least":
            return self.figure >= self.bar
        return self.figure <= self.bar

    def cells(self) -> list[str]:
        """The row as text, by the columns of `HEADERS`."""
        baseline = self.baseline or "-"
        if self.baseline_value is not None:
            baseline += f" {number(self.baseline_value)}"
        sign = "≥" if self.comparison == "at least" else "≤"
        return [
            self.scenario,
            self.title,
            f"{number(self.measured)} {self.unit}",
            baseline,
            f"{number(self.figure)} {self.figure_unit}",
            f"{sign} {number(self.bar)} {self.figure_unit}",
            "pass" if self.passed else "FAIL",
        ]


HEADERS = ["", "scenario", "measured", "baseline", "figure", "bar", ""]


def number(value: float) -> str:
    """Three significant digits, or a whole number from 100 on."""
    if value != value:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Aligned columns for a terminal."""
    cells = [HEADERS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADERS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def markdown_table(rows: Sequence[Row]) -> str:
    """The same for a Markdown file."""
    lines = [HEADERS, ["---"] * len(HEADERS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe_machine() -> dict[str, str]:
    """The machine in general terms: nothing that names it."""
    family = platform.processor() or platform.machine()
    memory = "unknown"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                family = line.partition(":")[2].strip()
                break
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = f"{total / 2**30:.0f} GiB"
    except (OSError, ValueError):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = ("fastapi", "uvicorn", "scikit-learn", "torch", "transformers")
    return {
        "cores": str(cores),
        "cpu": family,
        "memory": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def write_json(
    folder: Path, rows: Sequence[Row], rounds: Mapping[str, Any], options: Mapping[str, Any]
) -> Path:
    """Everything that was measured, in `folder`/<date>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC)
    path = folder / f"{moment:%Y-%m-%dT%H%M%SZ}.json"
    content = {
        "measured_at": moment.isoformat(),
        "options": dict(options),
        "machine": describe_machine(),
        "rows": [{**asdict(row), "passed": row.passed} for row in rows],
        "rounds": rounds,
    }
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
    return path


def write_markdown(path: Path, rows: Sequence[Row], command: str, plots: Sequence[Path]) -> None:
    """The results of this machine, for people."""
    machine = describe_machine()
    facts = ", ".join(
        [
            f"{machine['cores']} cores ({machine['cpu']})",
            f"{machine['memory']} of memory",
            machine["system"],
        ]
    )
    versions = ", ".join(
        f"{name} {machine[name]}" for name in machine if name not in _MACHINE_FACTS
    )
    met = sum(row.passed for row in rows)
    pictures = "\n\n".join(f"![{plot.stem.replace('-', ' ')}]({plot.name})" for plot in plots)
    path.write_text(
        f"""# Results

Measured on {datetime.now(UTC):%Y-%m-%d}: {facts}; {versions}. {met} of {len(rows)} bars met.

The servers and the load generator share the machine, so absolute figures say little: each figure
is the median over the rounds of service / baseline in the same round. `textbook`, `echo` and
`litserve` are in `benchmarks/baselines`; every server is one process with the same model files.

{markdown_table(rows)}

To repeat it (needs wrk):

```
{command}
```

{pictures}
""".rstrip()
        + "\n"
    )


_MACHINE_FACTS = ("cores", "cpu", "memory", "system")
