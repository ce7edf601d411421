"""What the soak with kills says: a table by fault, what was lost, and Prometheus' graph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from benchmarks.report import describe_machine
from benchmarks.soak_load import Entry, Ledger, LoadPlan, Outcome, compare

# A connection may break a moment before the fault's time was read.
_MARGIN_S = 0.5

Series = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class FaultSpan:
    """A fault, from its stroke until all was as before."""

    title: str
    began: float
    ended: float
    breaks_connections: bool

    def holds(self, entry: Entry) -> bool:
        """Whether a request was under way in it."""
        return entry.sent_at <= self.ended and entry.ended_at >= self.began - _MARGIN_S


@dataclass(frozen=True)
class SoakResult:
    """Everything that was counted and seen."""

    started: float
    ended: float
    plan: LoadPlan
    ledger: Ledger
    spans: list[FaultSpan]
    kept: Counter[str]
    """How often the database has each text and file name."""
    series: Mapping[str, Series]
    alerts: Mapping[str, set[str]]

    @cached_property
    def missing(self) -> list[str]:
        """Acknowledged, and not in the database."""
        return compare(self.ledger.acknowledged, self.kept)[0]

    @cached_property
    def twice(self) -> list[str]:
        """In the database more than once."""
        return compare(self.ledger.acknowledged, self.kept)[1]

    @cached_property
    def unexplained(self) -> list[Entry]:
        """Broken connections while no worker was being killed, no answer, or one that should not
        be."""
        killing = [span for span in self.spans if span.breaks_connections]
        return [
            entry
            for entry in self.ledger.entries
            if entry.outcome in ("wrong", "unanswered")
            or (entry.outcome == "broken" and not any(span.holds(entry) for span in killing))
        ]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost."""
        return not (self.missing or self.twice or self.unexplained)

    def rows(self) -> list[list[str]]:
        """The table: each fault, the time without any, and all of it."""
        lines = [self._row(span.title, self._within(span), span) for span in self.spans]
        calm = [
            entry
            for entry in self.ledger.entries
            if not any(span.holds(entry) for span in self.spans)
        ]
        lines.append(self._row("between them", calm, None))
        lines.append(self._row("all", self.ledger.entries, None))
        return lines

    def _within(self, span: FaultSpan) -> list[Entry]:
        return [entry for entry in self.ledger.entries if span.holds(entry)]

    def _row(self, title: str, entries: list[Entry], span: FaultSpan | None) -> list[str]:
        def count(outcome: Outcome) -> int:
            return sum(entry.outcome == outcome for entry in entries)

        lost = set(self.missing) | set(self.twice) | {entry.name for entry in self.unexplained}
        seconds = "" if span is None else f"{span.ended - span.began:.0f}"
        slowest = max((e.ended_at - e.sent_at for e in entries), default=0.0)
        return [
            title,
            "" if span is None else f"{span.began - self.started:.0f}",
            seconds,
            f"{len(entries):,}",
            f"{count('answered'):,}",
            f"{count('refused'):,}",
            f"{count('broken'):,}",
            f"{slowest:.1f}",
            str(sum(entry.name in lost for entry in entries)),
        ]


HEADERS = [
    "fault",
    "at, s",
    "until all was as before, s",
    "requests",
    "answered",
    "503, try later",
    "connection broken",
    "slowest, s",
    "lost",
]


def facts(result: SoakResult) -> list[str]:
    """What the table does not say."""
    ledger, plan = result.ledger, result.plan
    unacknowledged = len(set(result.kept) - ledger.acknowledged)
    ends = Counter(code for _, code in ledger.stream_ends)
    states = ", ".join(
        f"{name} ({' and '.join(sorted(states, reverse=True))})"
        for name, states in sorted(result.alerts.items())
    )
    return [
        f"Offered: {plan.texts_per_s:g} texts and {plan.images_per_s:g} pictures a second, and one "
        f"stream of {plan.frames_per_s:g} frames a second, for "
        f"{(result.ended - result.started) / 60:.1f} minutes.",
        f"Acknowledged: {len(ledger.acknowledged):,}. Of these not in the database: "
        f"{len(result.missing)}; twice there: {len(result.twice)}.",
        f"In the database without an answer that arrived: {unacknowledged} (committed, and then "
        "the connection broke).",
        f"Wrong answers: {ledger.count('wrong')}; without an answer: {ledger.count('unanswered')}; "
        f"connections broken while no worker was being killed: "
        f"{sum(entry.outcome == 'broken' for entry in result.unexplained)}.",
        f"Stream: {ledger.frames_answered:,} frames answered; it ended with "
        + (", ".join(f"{code} ({count})" for code, count in ends.most_common()) or "nothing")
        + ", and connected again each time.",
        f"Alerts seen: {states or 'none'}.",
    ]


def print_result(result: SoakResult) -> None:
    """For the terminal."""
    rows = [HEADERS, *result.rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADERS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    for fact in facts(result):
        print(fact)
    for entry in result.unexplained[:20]:
        print(f"  {entry.sent_at - result.started:.1f} s  {entry.outcome}: {entry.detail}")
    print("nothing was lost" if result.is_clean else "SOMETHING WAS LOST")


def write_markdown(result: SoakResult, picture: Path, path: Path) -> None:
    """For people, with the picture beside it."""
    machine = describe_machine()
    lines = [HEADERS, ["---"] * len(HEADERS), *result.rows()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    said = "\n".join(f"- {fact}" for fact in facts(result))
    verdict = "Nothing was lost." if result.is_clean else "**Something was lost.**"
    path.write_text(
        f"""# A soak with kills

Measured on {datetime.now(UTC):%Y-%m-%d}: {machine["cores"]} cores ({machine["cpu"]}), which the
load, two workers, PostgreSQL, Redis and Prometheus shared. {verdict}

{table}

*Lost* counts requests that were acknowledged and are not in the database, or twice; that got no
answer or a wrong one; and connections that broke while no worker was being killed. A request may
stand in two lines when it was under way at both times.

{said}

![Prometheus' view]({picture.name})

As Prometheus scraped it, once a second; a shaded span lasts from the fault until all was as before.
To repeat it: `make soak-faults` (needs Debian's postgresql, redis-server and prometheus).
"""
    )


# Prometheus was told nothing for longer than that: no line is drawn over it.
_GAP_S = 2.5


def _points(values: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The two lists to draw, with a NaN in each gap."""
    times: list[float] = []
    heights: list[float] = []
    for at, value in values:
        if times and at - times[-1] > _GAP_S:
            times.append(times[-1] + _GAP_S / 2)
            heights.append(float("nan"))
        times.append(at)
        heights.append(value)
    return times, heights


_COLOURS = {"200": "#1f5fa8", "503": "#d98c1f", "499": "#9a9a9a"}


def draw(result: SoakResult, path: Path) -> Path:
    """Prometheus' series as a picture, the faults shaded."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    figure, (answers, times, workers) = pyplot.subplots(
        3,
        1,
        figsize=(9.5, 7.5),
        dpi=110,
        sharex=True,
        layout="constrained",
        height_ratios=[3, 2, 2],
    )
    for status, values in sorted(result.series["answers"].items()):
        colour = _COLOURS.get(status, "#c0392b")
        answers.plot(*_points(values), label=status, color=colour, lw=1.3)
    answers.set_ylabel("answers a second")
    answers.legend(frameon=False, loc="lower left", ncols=4)
    for values in result.series["p99"].values():
        times.plot(*_points(values), color="#1f5fa8", lw=1.3)
    times.set_ylabel("p99 of a text, s")
    times.set_yscale("log")
    times.yaxis.set_major_formatter("{x:g}")
    times.yaxis.set_minor_formatter(NullFormatter())
    for name, colour, style in (("workers", "#1f5fa8", "-"), ("streams", "#2e8b57", "--")):
        for values in result.series[name].values():
            workers.step(
                *_points(values),
                label="workers that serve" if name == "workers" else "streams open",
                color=colour,
                linestyle=style,
                where="post",
                lw=1.3,
            )
    workers.set_ylim(0, 5)
    workers.legend(frameon=False, loc="upper left", ncols=2)
    workers.set_xlabel("seconds")
    for number, span in enumerate(result.spans, 1):
        began, ended = span.began - result.started, span.ended - result.started
        for axes in (answers, times, workers):
            axes.axvspan(began, ended, color="#c0392b", alpha=0.12, lw=0)
        answers.text(began, 1.01, str(number), transform=answers.get_xaxis_transform(), fontsize=8)
    for axes in (answers, times, workers):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    names = [f"{number} {span.title}" for number, span in enumerate(result.spans, 1)]
    half = (len(names) + 1) // 2
    figure.suptitle("   ".join(names[:half]) + "\n" + "   ".join(names[half:]), fontsize=8)
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
    return path
