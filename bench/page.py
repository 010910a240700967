"""Writes docs/performance.md and its plots from figures that were kept, and measures nothing.

``make bench-page`` writes them again from build/bench, where ``make bench`` has put the figures. A
part whose figures are not there is refused, so that nothing goes missing without a word. Where
there are figures of a second run (``make bench-again``), the page says how far its ratios are from
those of the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import plots
from bench.again import NEAR, Pair, pairs
from bench.figures import LIMITS, OURS, RESULTS, Figure, kept

PAGE = Path("docs/performance.md")
AGAIN = Path("build/bench-again")
"""The figures of a second run."""
PARTS = {
    "packets": (
        "What a packet costs",
        """Nanoseconds of one core for a frame that is sent and received over veth, the sending
included, which `XDP_DROP alone` and `no rules` are nearly all of. Sources are random. By test run
(`BPF_PROG_TEST_RUN`) there is nothing but the program. In every round it is counted what reaches
UDP: each contestant drops all that it must, and nothing else.""",
    ),
    "changes": (
        "What a change takes",
        """Whole commands, as a person or a script gives them: of ipsecd `ipsecctl`, which ends when
the change is enforced and kept; by hand `nft`, and `ipset` with `iptables`.""",
    ),
    "footprint": (
        "What is there all the time",
        """Memory is proportional set size (PSS) of all processes of a contestant, and not what the
kernel holds for its sets. Rules by hand have no process. firewalld runs without its D-Bus, with
which it takes more, and fail2ban has one jail.""",
    ),
    "scaling": (
        "What grows",
        "With links, tracked connections and containers; with entries, see the tables above.",
    ),
}
"""What stands above the tables of each part, in the order of the page."""
CURVES = {
    "A list from its file to in force": "addresses in the list",
    "A ban, the whole command": "addresses that are blocked already",
    "Start with so many links": "links",
    "A packet of a connection, by connections that are tracked": "connections",
}
"""The tables whose rows are points of a curve, and what their horizontal axes show."""
BARS = tuple(
    f"A packet that {outcome} in a flood over veth, IPv{version}"
    for version in (4, 6)
    for outcome in ("is dropped", "passes")
)
ALIKE = 0.1
"""By how much two may differ and still be called even."""
STANDING = """Of every case: the better of ipsecd's two backends beside the best of all others that
do the task, the median of the ratio by rounds. Within a tenth both are called even. Rules by hand
have no process, so that of memory and processes the daemons alone are compared.
"""
HEAD = """# Performance

`make bench-performance` writes this page from what it measures, on any machine with two cores
(Debian, as root) in less than half an hour; `make bench-page` writes it again from the same figures
(`build/bench/*.json`), and `make bench-again` measures all a second time and adds how near that
came. All contestants do the same task in one run, in namespaces of their own, and take turns: each
round has one value of each, so that what else the machine does strikes all alike.

In the tables a cell has the median, and below it how many times the value of the contestant marked
† that is: the median of this ratio by rounds, and in brackets its lowest and highest. Below a value
of that contestant itself are its lowest and highest value. Less is always better. What single
decisions of the design cost, and figures of other days, are in [benchmarks.md](benchmarks.md).
"""


def number(value: float) -> str:
    """A value with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def cell(figure: Figure, name: str) -> str:
    """What the table has of a contestant; a dash if it is none of this case."""
    if name not in figure.rounds:
        return "absent" if name in figure.absent else "-"
    middle = number(figure.middle(name))
    ratios = figure.ratios(name)
    if name == figure.base or not ratios:
        values = figure.rounds[name]
        low, high = number(min(values)), number(max(values))
        return middle if low == high else f"{middle}<br>{low}&nbsp;to&nbsp;{high}"
    between = f"({ratios[0]:.2f}&nbsp;to&nbsp;{ratios[-1]:.2f})"
    return f"{middle}<br>{median(ratios):.2f}<br>{between}"


def table(figures: Sequence[Figure]) -> str:
    """A row for each contestant and a column for each case, or the other way round if few."""
    names = list(dict.fromkeys(n for f in figures for n in (*f.rounds, *f.absent)))
    bases = {figure.base for figure in figures}
    titles = [f"{name} †" if name in bases else name for name in names]
    cases = [f"{figure.case}, {figure.unit}" for figure in figures]
    cells = [[cell(figure, name) for name in names] for figure in figures]
    if len(cases) < len(names):
        titles, cases, cells = cases, titles, [list(row) for row in zip(*cells, strict=True)]
    lines = [["", *titles], ["---"] * (len(titles) + 1)]
    lines += [[case, *row] for case, row in zip(cases, cells, strict=True)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def absences(figures: Sequence[Figure]) -> str:
    """Who is absent where, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        for name, reason in figure.absent.items():
            reasons.setdefault((name, reason), []).append(figure.case)
    every = {figure.case for figure in figures}
    lines = []
    for (name, reason), cases in reasons.items():
        where = "all of these" if every == set(cases) else "; ".join(dict.fromkeys(cases))
        lines.append(f"* {name} is absent from {where}: {reason}.\n")
    return "".join(lines)


class Verdict(NamedTuple):
    """Where we stand in a case: our best beside the best of the others, round by round."""

    where: str
    ours: str
    rival: str
    ratio: float


def verdict(figure: Figure) -> Verdict | None:
    """None if nobody else takes anything, or does the task."""
    compared = {name: figure.middle(name) for name in figure.rounds if name not in LIMITS}
    ours = {name: middle for name, middle in compared.items() if name.startswith(OURS)}
    others = {name: middle for name, middle in compared.items() if name not in ours and middle}
    if not others:
        return None
    best, rival = min(ours, key=ours.__getitem__), min(others, key=others.__getitem__)
    pairs = zip(figure.rounds[best], figure.rounds[rival], strict=True)
    ratio = median(own / its for own, its in pairs if its)
    where = "ahead" if ratio < 1 - ALIKE else "behind" if ratio > 1 + ALIKE else "even"
    return Verdict(where, best, rival, ratio)


def standing(figures: Iterable[Figure]) -> str:
    """Where we lead and where not, of every case; those of a table stand together."""
    found = [(figure, said) for figure in figures if (said := verdict(figure))]
    text = f"\n## Where ipsecd leads, and where not\n\n{STANDING}"
    for place in ("ahead", "even", "behind"):
        here = [(figure, said) for figure, said in found if said.where == place]
        text += f"\n### {place.capitalize()}: {len(here)} of {len(found)} cases\n"
        groups: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
        for figure, said in here:
            group = groups.setdefault((figure.table, said.ours, said.rival), [])
            group.append((figure.case, said.ratio))
        if groups:
            text += "\n| measured | cases | best of ipsecd | beside the best other |\n"
            text += "|---|---|---|---|\n"
        for (name, ours, rival), each in groups.items():
            ratios = sorted({f"{ratio:.2f}" for _, ratio in each}, key=float)
            between = " to ".join(dict.fromkeys((ratios[0], ratios[-1])))
            cases = "; ".join(case for case, _ in each)
            text += f"| {name} | {cases} | {ours} | {between} of {rival} |\n"
    return text


def file_of(title: str) -> str:
    """The name of a plot's file."""
    words = "".join(letter if letter.isalnum() else " " for letter in title.lower()).split()
    return "-".join(words) + ".svg"


def section(part: str, figures: Sequence[Figure], directory: Path) -> str:
    """A part of the page, whose plots go to the directory."""
    title, preface = PARTS[part]
    text = f"\n## {title}\n\n{preface}\n"
    by_table: dict[str, list[Figure]] = {}
    for figure in figures:
        by_table.setdefault(figure.table, []).append(figure)
    for name, rows in by_table.items():
        text += f"\n### {name}\n\n"
        drawn = name in BARS or (name in CURVES and len(rows) > 1)
        if drawn:
            path = directory / file_of(name)
            if name in BARS:
                plots.bars(rows, path)
            else:
                plots.curves(rows, path, CURVES[name])
            text += f"![{name}: the values of the table below]({directory.name}/{path.name})\n\n"
        text += table(rows)
        if missing := absences(rows):
            text += f"\n{missing}"
    return text


def circumstances(facts: Mapping[str, Mapping[str, str]]) -> str:
    """What the figures were measured with."""
    rows: dict[str, list[str]] = {}
    for each in facts.values():
        for name, value in each.items():
            rows.setdefault(name, []).append(value)
    lines = [f"| {name} | {', '.join(dict.fromkeys(values))} |\n" for name, values in rows.items()]
    return "\n## What it was measured with\n\n| | |\n|---|---|\n" + "".join(lines)


def repeated(every: Sequence[Pair]) -> str:
    """How near the ratios of a second run were, and each that was not."""
    far = [pair for pair in every if not pair.is_near]
    text = f"""
## Measured again

A second run on the same machine had {len(every) - len(far)} of {len(every)} ratios within
{NEAR:.0%} of those of the first, which are the ones in the tables."""
    if not far:
        return text + "\n"
    text += " These differ by more:\n\n| measured | case | contestant | first | second |\n"
    text += "|---|---|---|---|---|\n"
    for pair in far:
        ratios = f"{pair.first:.2f} | {pair.second:.2f}"
        text += f"| {pair.table} | {pair.case} | {pair.contestant} of {pair.base} | {ratios} |\n"
    return text


def kept_in(results: Path) -> tuple[dict[str, dict[str, str]], list[Figure]]:
    """The facts of each file of a directory, and the figures of all."""
    found = {path.stem: kept(path) for path in sorted(results.glob("*.json"))}
    facts = {name: each for name, (each, _) in found.items()}
    return facts, [figure for _, figures in found.values() for figure in figures]


def write(results: Path, page: Path, again: Path) -> None:
    """Write the page, and its plots into the directory beside it that has its name.

    What a second run measured is in `again`, if there was one.
    """
    facts, figures = kept_in(results)
    if missing := sorted(set(PARTS) - {figure.part for figure in figures}):
        raise SystemExit(
            f"{results} has no figures of: {', '.join(missing)}. Run make bench first."
        )
    directory = page.with_suffix("")
    for old in directory.glob("*.svg"):
        old.unlink()
    text = HEAD + circumstances(facts)
    text += standing(sorted(figures, key=lambda figure: list(PARTS).index(figure.part)))
    for part in PARTS:
        text += section(part, [each for each in figures if each.part == part], directory)
    _, second = kept_in(again)
    if second:
        text += repeated(pairs(figures, second))
    page.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", type=Path, default=AGAIN)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    write(arguments.results, arguments.page, arguments.again)


if __name__ == "__main__":
    main()
