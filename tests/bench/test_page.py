"""The page has every figure beside its contestants, and is written without measuring."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from bench import figures, tasks, turns
from bench.figures import Figure, keep, kept

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install -e .[bench]")

from bench import page

GOOD = Figure(
    part="packets",
    table=page.BARS[0],
    case="100 ports, dropped",
    unit="ns",
    base="nft by hand",
    rounds={"ipsecd, XDP": [10.0, 30.0, 20.0], "nft by hand": [20.0, 40.0, 80.0]},
    absent={"xdp-filter": "has no prefixes"},
)
FACTS = {"ipsecd": "1.0", "Linux": "6.18", "processor": "one", "nftables": "1.0.6"}


def all_parts() -> list[Figure]:
    """A figure of each part, two of a curve among them."""
    others = [replace(GOOD, part=part, table=part, case=part) for part in page.PARTS]
    table = "A ban, the whole command"
    curve = [
        replace(GOOD, part="changes", table=table, case=f"beside {n}", unit="ms", size=n)
        for n in (10, 1000)
    ]
    return [GOOD, *others, *curve]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a page that has all parts."""
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "results")
    keep("sample", all_parts(), FACTS)
    page.write(tmp_path / "results", tmp_path / "performance.md", tmp_path / "again")
    return tmp_path


def test_a_figure_comes_back_as_it_was_kept(written: Path) -> None:
    facts, back = kept(written / "results/sample.json")
    assert facts == FACTS
    assert back == all_parts()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit": "fortnights"}, "no unit"),
        ({"base": "iptables"}, "was not measured"),
        ({"rounds": {"nft by hand": [1.0]}}, "nothing of ours"),
        ({"rounds": {"ipsecd": [1.0]}, "base": "ipsecd"}, "no contestant"),
        ({"rounds": {"ipsecd": [1.0], "nft by hand": [1.0, 2.0]}}, "every round"),
        ({"rounds": {"ipsecd": [], "nft by hand": []}}, "every round"),
        ({"rounds": {"ipsecd": [-1.0], "nft by hand": [1.0]}}, "negative"),
        ({"absent": {"xdp-filter": ""}}, "without a reason"),
        ({"absent": {"nft by hand": "was lazy"}}, "is not absent"),
    ],
)
def test_no_figure_is_without_its_contestant(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(GOOD, **change)  # type: ignore[arg-type]


def test_ratios_are_taken_within_a_round() -> None:
    """Of medians it would be 0.5 as well, but what it lies between would be unknown."""
    assert GOOD.ratios("ipsecd, XDP") == [0.25, 0.5, 0.75]
    assert page.cell(GOOD, "ipsecd, XDP") == "20<br>0.50<br>(0.25&nbsp;to&nbsp;0.75)"
    assert page.cell(GOOD, "nft by hand") == "40<br>20&nbsp;to&nbsp;80"


def test_the_page_says_where_we_lead_and_where_not(written: Path) -> None:
    """The floor is nobody's rules: whoever is slower than it is not behind."""
    assert page.verdict(GOOD) == ("ahead", "ipsecd, XDP", "nft by hand", 0.5)
    slow = {"ipsecd, XDP": [30.0], "nft by hand": [20.0], "xdp": [10.0], figures.FLOOR: [1.0]}
    behind = replace(GOOD, rounds=slow, absent={})
    assert page.verdict(behind) == ("behind", "ipsecd, XDP", "xdp", 3.0)
    nothing = replace(GOOD, rounds={"ipsecd, XDP": [9.0], "nft by hand": [0.0]})
    assert page.verdict(nothing) is None
    text = (written / "performance.md").read_text()
    assert "### Ahead: 7 of 7 cases" in text
    row = (
        "| A ban, the whole command | beside 10; beside 1000 | ipsecd, XDP | 0.50 of nft by hand |"
    )
    assert row in text


def test_whoever_is_absent_is_named_with_the_reason(written: Path) -> None:
    text = (written / "performance.md").read_text()
    assert "| xdp-filter | absent |" in text
    assert "* xdp-filter is absent from all of these: has no prefixes." in text


def test_everybody_begins_a_round_in_turn() -> None:
    order: list[str] = []

    def of(name: str) -> float:
        order.append(name)
        return float(len(order))

    taken = turns.in_turn({"a": lambda: of("a"), "b": lambda: of("b")}, 2, {})
    assert order == ["a", "b", "b", "a"]
    assert taken == {"a": [1.0, 4.0], "b": [2.0, 3.0]}


def test_the_page_says_how_near_a_second_run_was(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ratios: a machine that was slower altogether measured the same."""
    assert "Measured again" not in (written / "performance.md").read_text()
    slower = {name: [2 * value for value in each] for name, each in GOOD.rounds.items()}
    other = {**GOOD.rounds, "ipsecd, XDP": [14.0, 28.0, 56.0]}
    cases = [replace(each, rounds=slower) for each in all_parts()]
    monkeypatch.setattr(figures, "RESULTS", written / "again")
    keep("sample", [replace(GOOD, rounds=other), *cases[1:]], FACTS)
    page.write(written / "results", written / "performance.md", written / "again")
    text = (written / "performance.md").read_text().replace("\n", " ")
    assert "had 6 of 7 ratios within 15% of those of the first" in text
    assert f"| {GOOD.table} | {GOOD.case} | ipsecd, XDP of nft by hand | 0.50 | 0.70 |" in text


def test_a_part_without_figures_is_refused(written: Path) -> None:
    keep("sample", all_parts()[:1], FACTS)
    with pytest.raises(SystemExit, match="footprint"):
        page.write(written / "results", written / "performance.md", written / "again")


def test_versions_are_on_the_page(written: Path) -> None:
    text = (written / "performance.md").read_text()
    for name, value in FACTS.items():
        assert f"| {name} | {value} |" in text


def test_plots_are_small_and_follow_the_readers_colours(written: Path) -> None:
    plots = sorted((written / "performance").glob("*.svg"))
    text = (written / "performance.md").read_text()
    assert len(plots) == 2
    for plot in plots:
        assert f"(performance/{plot.name})" in text
        content = plot.read_text()
        assert len(content) < 100_000
        assert "prefers-color-scheme:dark" in content
        assert "currentColor" in content
        words = {
            each.text for each in ET.fromstring(content).iter("{http://www.w3.org/2000/svg}text")
        }
        assert "ipsecd, XDP" in words, "text is drawn as paths"


def test_the_page_is_the_same_when_it_is_written_again(written: Path) -> None:
    before = {path: path.read_bytes() for path in written.rglob("perf*") if path.is_file()}
    before |= {path: path.read_bytes() for path in written.rglob("*.svg")}
    page.write(written / "results", written / "performance.md", written / "again")
    assert before == {path: path.read_bytes() for path in before}


def test_every_table_that_is_a_curve_has_a_title_on_the_axis() -> None:
    """A curve whose table is called otherwise would silently not be drawn."""
    sources = "".join(
        (Path(page.__file__).parent / f"{name}.py").read_text()
        for name in ("changes", "scaling", "packets")
    )
    assert [name for name in page.CURVES if f'"{name}"' not in sources] == []


TASK = tasks.Task("all", ports=[1, 2], sources=["192.0.2.0/24"], pairs=[("198.51.100.1", 53)])


def test_all_contestants_have_the_same_task() -> None:
    ours = tasks.policy(TASK) + tasks.listed(TASK)
    hand = tasks.nft(TASK, "prerouting")
    sets, zone = tasks.ipset(TASK), tasks.firewalld_zone(TASK, 5000)
    for text in (ours, hand, sets, zone + tasks.firewalld_ipset(TASK)):
        assert "192.0.2.0/24" in text
        assert "198.51.100.1" in text
    assert "hook ingress device wire0" in tasks.nft(TASK, "ingress")
    assert "flags interval" in hand
    assert "hash:net" in sets
    assert tasks.iptables(TASK).count("DROP") == hand.count("drop") == 3
