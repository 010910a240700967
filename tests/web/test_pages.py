"""Each page says what it is for, in the words of ``ipsecctl``, and shows text of others as text."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ipsecctl.web.menu import MENU, PAGES
from ipsecctl.web.tables import ROWS
from ipsecd.errors import InvalidInput, NotFound
from tests.ctl.fake_daemon import COUNT, DOMAIN, EXPLANATION, LIST, STATUS, SUMMARY
from tests.domain.fleets import Fleet
from tests.web.hostile import BAD, REFUSAL, SHOWN, make_hostile
from tests.web.serving import PATIENCE_S, Serving, daemon_in, serving
from tests.web.stand_in import DROPS, StandIn
from tests.web.test_markup import Reader

QUERIES = {"policy": "?name=Web", "list": "?name=bans", "explain": "?packet=x"}


def read(site: Serving, page: str) -> Reader:
    answer = site.get(page)
    assert answer.status == 200, (page, answer.status, answer.body[:500])
    return Reader(answer.body)


def soon(site: Serving, page: str, expected: str) -> Reader:
    """A page as soon as it has some text: what was just asked is as old as a second."""
    deadline = time.monotonic() + PATIENCE_S
    while expected not in words(reader := read(site, page)):
        assert time.monotonic() < deadline, (expected, words(reader))
        time.sleep(0.05)
    return reader


def words(reader: Reader) -> str:
    return re.sub(r"\s+", " ", reader.text)


@pytest.fixture(scope="module")
def shared() -> Iterator[Serving]:
    """A page in front of a daemon that answers as usual."""
    with tempfile.TemporaryDirectory(prefix="web-") as made:
        fake = daemon_in(Path(made))
        try:
            with serving(fake.path) as served:
                served.enter()
                yield served
        finally:
            fake.close()


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_whole(shared: Serving, page: str) -> None:
    """It has a title, all of the menu, and nothing that the policy of the server would forbid."""
    reader = read(shared, page + QUERIES.get(page, ""))
    names = [name for name, _ in reader.elements]
    hrefs = [given.get("href") for name, given in reader.elements if name == "a"]
    assert names.count("h1") == 1
    assert {each.path for each in MENU} <= set(hrefs)
    current = [given["href"] for name, given in reader.elements if "aria-current" in given]
    assert (PAGES[page].under or page) in current
    for name, given in reader.elements:
        assert not {key for key in given if key.startswith("on") or key == "style"}, name
        if name == "script":
            assert given == {"src": "page.js", "defer": None}
    assert "style" not in names


@pytest.fixture(scope="module")
def hostile() -> Iterator[Serving]:
    """A page in front of a daemon in whose answers everything is hostile."""
    with tempfile.TemporaryDirectory(prefix="web-") as made:
        fake = daemon_in(Path(made))
        make_hostile(fake)
        try:
            with serving(fake.path) as served:
                served.enter()
                yield served
        finally:
            fake.close()


@pytest.mark.parametrize(
    "page",
    [
        *(path for path in PAGES if path not in ("counts", "list", "drops")),
        *(f"list?name={quote(BAD)}", f"list?name={quote(BAD)}&address={quote(BAD)}"),
        *(f"policy?name={quote(BAD)}", f"rules?q={quote(BAD)}&sort={quote(BAD)}"),
        *(f"explain?packet={quote(BAD)}", f"explain?packet=x&at={quote(BAD)}", "counts"),
    ],
)
def test_hostile_text_is_shown_as_text(hostile: Serving, page: str) -> None:
    """No element, no attribute and no line comes of it, on any page."""
    queried = page if "?" in page else page + QUERIES.get(page, "")
    answer = hostile.get(queried)
    reader = Reader(answer.body)
    names = [name for name, _ in reader.elements]
    assert names.count("script") == 1
    assert "img" not in names
    assert not {key for _, given in reader.elements for key in given if key.startswith("on")}
    assert SHOWN in reader.text or page == "list", answer.body
    assert not set("\x1b\u202e") & set(answer.body)
    for name, given in reader.elements:
        assert name != "a" or re.match(r"[a-z#]+(\?|$)", given["href"] or ""), given


def test_a_hostile_refusal_is_shown_as_text(daemon: StandIn, site: Serving) -> None:
    """The place in what was typed too."""
    daemon.replies["Explain"] = REFUSAL
    reader = read(site, "explain?packet=x")
    assert [name for name, _ in reader.elements].count("script") == 1
    assert "img" not in [name for name, _ in reader.elements]
    assert SHOWN in reader.text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "EnforcingEvery packet is judged"),
        ({"state": "idle", "assigned": None}, "IdleNothing is assigned"),
        ({"state": "stopped"}, "StoppedNothing is enforced"),
        ({"state": "failed", "failures": ["web.yaml: no"]}, "web.yaml: no"),
        ({"state": "drifted", "drift": ["a set is gone"]}, "a set is gone"),
        ({"observed": "0000"}, "not in step"),
        ({"observed": None}, "cannot be read"),
        ({"loaded_from": "last-good"}, "as it last was good"),
        ({"loaded_from": "nothing"}, "not in force"),
        ({"unparsable": "pass"}, "packets pass"),
        ({"gaps": ["ICMP is not seen"]}, "ICMP is not seen"),
        ({"protected_filters": 2}, "2 filters"),
    ],
)
def test_the_overview_says_how_it_is(
    daemon: StandIn, site: Serving, changes: dict[str, Any], expected: str
) -> None:
    """In words, and not in colours alone."""
    daemon.status(**changes)
    assert expected in words(read(site, "overview"))


def rules(number: int) -> list[dict[str, Any]]:
    return [
        {**COUNT, "rule": f"rule {n}", "packets": n, "action": "permit" if n % 2 else "block"}
        for n in range(number)
    ]


def cells(site: Serving, page: str, label: str) -> list[str]:
    body = site.get(page).body
    return re.findall(rf'<td[^>]* data-label="{label}">(?:<a[^>]*>)?([^<]*)', body)


def test_rules_are_sorted_by_links(daemon: StandIn, site: Serving) -> None:
    """Each title leads to the table in its order, and then to the other way round."""
    daemon.replies["Stats"] = {"rules": rules(30), "unparsable": 0}
    reader = soon(site, "rules", "30 rules")
    assert cells(site, "rules", "Packets")[:2] == ["29", "28"]
    assert cells(site, "rules?sort=packets", "Packets")[:2] == ["0", "1"]
    assert cells(site, "rules?sort=rule", "Rule")[:3] == ["rule 0", "rule 1", "rule 10"]
    assert cells(site, "rules?sort=nothing", "Packets")[:2] == ["29", "28"]
    links = [given["href"] for name, given in reader.elements if name == "a"]
    assert "rules?sort=packets" in links
    assert "rules?sort=-bytes" in links


def test_rules_are_found_and_leafed_through(daemon: StandIn, site: Serving) -> None:
    """By text in them, page by page, and a page that is not there is the last one."""
    daemon.replies["Stats"] = {"rules": rules(ROWS + 7), "unparsable": 0}
    soon(site, "rules", f"1 to {ROWS} of {ROWS + 7} rules")
    assert len(cells(site, "rules", "Rule")) == ROWS
    second = cells(site, "rules?page=1", "Rule")
    assert second == [f"rule {n}" for n in range(6, -1, -1)]
    assert cells(site, "rules?page=99", "Rule") == second
    assert cells(site, "rules?page=-1", "Rule")[0] == f"rule {ROWS + 6}"
    assert cells(site, "rules?q=RULE+17", "Rule") == [
        "rule 179",
        *(f"rule {n}" for n in range(178, 169, -1)),
        "rule 17",
    ]
    assert "nothing here has that text" in words(read(site, "rules?q=absent"))


def test_counting_has_a_beginning_if_the_daemon_says_so(daemon: StandIn) -> None:
    """A daemon that is older does not, and there is no empty column then."""
    daemon.strict = False
    older = {name: value for name, value in COUNT.items() if name != "since"}
    daemon.replies["Stats"] = {"rules": [older], "unparsable": 0}
    with serving(daemon.path) as site:
        site.enter()
        assert "Counted since" not in read(site, "rules").text
        newer = {**older, "since": "2026-11-30T15:40:12.5Z"}
        daemon.replies["Stats"] = {"rules": [newer], "unparsable": 0}
        soon(site, "rules", "2026-11-30 15:40:12")


def test_ten_thousand_rules_are_no_longer_page(daemon: StandIn, site: Serving) -> None:
    """Nor a slower one than a person waits for, however busy the machine is."""
    daemon.replies["Stats"] = {"rules": rules(10_000), "unparsable": 0}
    soon(site, "rules", "10,000 rules")
    begun = time.perf_counter()
    answer = site.get("rules?sort=rule")
    took = time.perf_counter() - begun
    assert "1 to 200 of 10,000 rules" in answer.body
    assert len(answer.body) < 150_000
    assert took < 5


def test_why_a_packet_is_dropped(daemon: StandIn, site: Serving) -> None:
    """In sentences, with what it beat; what was typed stays in the form."""
    beaten = {**EXPLANATION["by"], "filter": "*=*", "action": "permit", "rule": "Rest"}
    daemon.replies["Explain"] = {"explanation": {**EXPLANATION, "beaten": [beaten]}}
    reader = read(site, "explain?packet=tcp+203.0.113.7%3A4000+%3E+me%3A80")
    text = words(reader)
    assert "It is dropped: tcp 203.0.113.7:4000 > 192.168.1.1:80" in text
    assert "This filter decides: block *=0:80:TCP in rule Block web of policy Web" in text
    assert "more specific than these, which match the packet too:permit *=* in rule Rest" in text
    (typed,) = [given["value"] for _, given in reader.elements if given.get("name") == "packet"]
    assert typed == "tcp 203.0.113.7:4000 > me:80"
    assert daemon.calls[-1][1] == {"packet": "tcp 203.0.113.7:4000 > me:80"}


def test_what_only_counts_is_not_said_to_block(daemon: StandIn) -> None:
    """A policy that is tried as an audit, and an audit that a packet meets."""
    daemon.strict = False
    audit = {**EXPLANATION["by"], "action": "audit", "rule": "Try"}
    passes = {**EXPLANATION, "decision": "permit", "by": None, "reason": "no filter"}
    daemon.replies["Status"] = {"status": {**STATUS, "policy_audit": True}}
    daemon.replies["ListPolicies"] = {"policies": [{**SUMMARY, "audit": True}]}
    daemon.replies["Explain"] = {"explanation": {**passes, "audited": audit}}
    with serving(daemon.path) as site:
        site.enter()
        assert "its blocks only count" in read(site, "overview").text
        assert "its blocks only count" in read(site, "policies").text
        text = words(read(site, "explain?packet=x"))
    assert "It passes" in text
    assert "this one would drop it; it counts it: audit *=0:80:TCP in rule Try" in text


def test_a_packet_that_cannot_be_read_is_said(daemon: StandIn, site: Serving) -> None:
    """With the place, and what to write."""
    daemon.replies["Explain"] = InvalidInput("no port", "write one", source="tcp x", position=4)
    text = read(site, "explain?packet=tcp+x").text
    assert "no port" in text
    assert "write one" in text
    assert "  tcp x" in text


def test_what_is_recorded_is_drawn_and_told(daemon: StandIn, site: Serving) -> None:
    """If the daemon records drops: by the counters, or else by what was seen, and by source."""
    assert "recorded" not in read(site, "counts").text
    now = datetime.now(UTC)
    periods = [
        {
            "at": (now - timedelta(minutes=n)).isoformat(),
            "action": "block",
            "store": "static",
            "policy": "Web",
            "rule": f"r{m}",
            "packets": packets,
            "bytes": packets,
            "seen": 60,
            "seen_bytes": 60,
        }
        for n in range(1, 5)
        for m, packets in enumerate((6_000, None))
    ]
    daemon.told["Drops"] = {**DROPS, "periods": periods}
    reader = soon(site, "counts?span=1h", "2,000 packets dropped, 766 of them not seen one by one")
    assert "203.0.113.7" in reader.text
    assert "1,234" in reader.text
    assert re.search(r"2026-11-30 15:42:00", reader.text)
    marks = [given for name, given in reader.elements if name == "text"]
    assert marks
    # 6,060 packets in each minute are 101 a second, and the next round number is 200.
    assert "200" in reader.text
    links = [given["href"] for name, given in reader.elements if name == "a"]
    assert "counts?span=1h&sort=packets" in links
    (name, parameters) = daemon.calls[-1]
    assert name == "Drops"
    since = datetime.fromisoformat(parameters["since"])
    assert abs((datetime.now(UTC) - since).total_seconds() - 3600) < 60


@pytest.mark.parametrize("page", ["explain?packet=x&at=2026-11-30T15:00:00Z"])
def test_what_a_daemon_does_not_tell_is_said(site: Serving, page: str) -> None:
    """An older one is no failure."""
    assert "this daemon does not tell that" in read(site, page).text


def test_live_drops_without_the_daemons_word(daemon: StandIn, site: Serving) -> None:
    """The page says that this daemon does not tell, and looks again by itself."""
    daemon.tells_packets = False
    read(site, "drops")
    soon(site, "drops", "does not tell which packets")
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in site.get("drops").body


def test_a_policy_with_its_document(shared: Serving) -> None:
    """Line by line, and what its rules matched."""
    text = read(shared, "policy?name=Web").text
    assert '\n    action: block\n    filters: ["*=0:80:TCP"]' in text
    assert "1,234" in text


def test_a_policy_that_is_not_there(daemon: StandIn, site: Serving) -> None:
    """With the words of the daemon, and the status for it."""
    daemon.replies["GetPolicy"] = NotFound("there is no policy 'x'", "see 'ipsecctl policy list'")
    answer = site.get("policy?name=x")
    assert answer.status == 404
    assert "there is no policy" in answer.body
    assert site.get("policy").status == 404
    assert site.get("list?name=absent").status == 404


def test_a_policy_that_cannot_be_used_says_why(daemon: StandIn, site: Serving) -> None:
    """It is there, without a link to a document that there is not."""
    broken = {
        **SUMMARY,
        "name": "broken",
        "assigned": False,
        "error": "line 3: no 'blok'\n hint: x",
    }
    daemon.replies["ListPolicies"] = {"policies": [broken]}
    reader = read(site, "policies")
    assert "line 3: no 'blok'; hint: x" in reader.text
    assert "policy?name=broken" not in [given.get("href") for _, given in reader.elements]


def test_an_address_is_looked_up_in_a_list(daemon: StandIn, site: Serving) -> None:
    """The daemon is asked for the entries that it is in, and the answer is a sentence."""
    daemon.replies["GetList"] = {"list": LIST, "entries": ["192.0.2.0/24"], "ending": []}
    text = words(read(site, "list?name=bans&address=192.0.2.7"))
    assert "192.0.2.7 is in these entries:" in text
    assert daemon.calls[-1] == ("GetList", {"name": "bans", "address": "192.0.2.7"})
    daemon.replies["GetList"] = {"list": LIST, "entries": [], "ending": []}
    assert "is in no entry of this list" in words(read(site, "list?name=bans&address=192.0.2.8"))


def test_a_list_of_millions_is_not_fetched(daemon: StandIn, site: Serving) -> None:
    """Only the entries that an address is in are."""
    daemon.replies["ListLists"] = {"lists": [{**LIST, "entries": 5_000_000}]}
    assert "It has 5,000,000 entries." in read(site, "list?name=bans").text
    assert "GetList" not in [name for name, _ in daemon.calls]


def test_the_domain_is_told_without_secrets(daemon: StandIn, site: Serving) -> None:
    """Not what vouches for it, though the daemon tells that to root."""
    daemon.replies["GetDomain"] = {"domain": {**DOMAIN, "trusted": {"root.json": "SECRET"}}}
    body = site.get("fleet").body
    assert "SECRET" not in body
    assert "site=paris" in body
    daemon.replies["GetDomain"] = NotFound("no domain is configured")
    soon(site, "fleet", "from nowhere but itself")


def test_a_fleet_that_cannot_be_read_any_more_is_said(daemon: StandIn, directory: Path) -> None:
    """Below what is known of this host."""
    fleet, reports = Fleet.made_in(directory / "fleet"), directory / "reports"
    reports.mkdir()
    places = ("--fleet", str(fleet.repository), "--reports", str(reports))
    with serving(daemon.path, *places) as served:
        served.enter()
        assert "No host has reported yet" in words(read(served, "fleet"))
        reports.rmdir()
        text = words(read(served, "fleet"))
        assert "site=paris" in text
        assert "cannot be read: No such file or directory" in text


@pytest.mark.parametrize("wrong", ["--fleet", "--reports"])
@pytest.mark.parametrize(("place", "code"), [("no-such", 1), ("", 2)])
def test_a_wrong_place_of_a_fleet_is_told_at_once(
    daemon: StandIn, directory: Path, wrong: str, place: str, code: int
) -> None:
    """To who wrote it, with what to do, and nothing is served; also where a variable was empty."""
    fleet, reports = Fleet.made_in(directory / "fleet"), directory / "reports"
    reports.mkdir()
    given = str(directory / place) if place else ""
    places = {"--fleet": fleet.repository, "--reports": reports, wrong: given}
    words = [str(word) for place in places.items() for word in place]
    told = subprocess.run(
        [sys.executable, "-m", "ipsecctl", "--socket", str(daemon.path), "web", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (told.returncode, told.stdout) == (code, "")
    assert (given or f"{wrong} is empty") in told.stderr
    assert "hint: " in told.stderr
