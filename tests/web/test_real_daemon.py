"""The page in front of a real daemon: what it asks is there, and is what ``ipsecctl`` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecctl.web.menu import PAGES
from tests.domain.fleets import Fleet
from tests.netns import site
from tests.netns.site import HERE4, OUTSIDE, Daemon
from tests.web.serving import Serving, serving

pytestmark = pytest.mark.netns
QUERIES = {
    "policy": "?name=Web",
    "list": "?name=bans",
    "explain": "?packet=tcp+203.0.113.7%3A4000+%3E+me%3A80",
}
DOCUMENT = """\
policy: Web
rules:
  - rule: Block web
    action: block
    filters: ["*=0:80:UDP", "*=0:80:TCP", "@bans=0"]
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a policy, a list and a dynamic rule."""
    with site.daemon(tmp_path_factory.mktemp("real")) as running:
        running.ctl("list", "create", "bans")
        running.ctl("list", "add", "bans", "198.51.100.0/24", "--for", "1h")
        running.put(DOCUMENT)
        running.ctl("block", "203.0.113.9", "--for", "10m")
        yield running


@pytest.fixture(scope="module")
def page(real: Daemon) -> Iterator[Serving]:
    with serving(Path(real.environment["IPSECD_SOCKET"])) as served:
        served.enter()
        yield served


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_made(page: Serving, path: str) -> None:
    """The daemon tells all that the page wants to know."""
    answer = page.get(path + QUERIES.get(path, ""))
    assert answer.status == 200
    assert '<div class="notice bad"' not in answer.body


def test_the_pages_say_what_is_so(page: Serving, real: Daemon) -> None:
    """The policy in force, in step with the kernel; the list, the rule and the history of each."""
    overview = page.get("overview").body
    assert "Enforcing" in overview
    assert '<a href="policy?name=Web">Web</a>' in overview
    assert "in step" in overview
    assert "203.0.113.9=0" in page.get("dynamic").body
    assert "@bans" in page.get("lists").body
    assert "is in these entries" in page.get("list?name=bans&address=198.51.100.7").body
    assert "is in no entry" in page.get("list?name=bans&address=192.0.2.7").body
    explained = page.get("explain?packet=tcp+198.51.100.7%3A4000+%3E+me%3A80").body
    assert "It is dropped" in explained
    assert "@bans=0" in explained
    assert "It passes" in page.get("explain?packet=tcp+192.0.2.7%3A4000+%3E+me%3A81").body
    assert "&#x27;Web&#x27;" in page.get("history").body
    assert real.lives()


def test_a_packet_that_is_dropped_is_counted_on_the_page(page: Serving, real: Daemon) -> None:
    """Five are sent, and five are there."""

    def shown() -> bool:
        body = page.get("policy?name=Web").body
        return 'class="number" data-label="Packets">5</td>' in body

    site.run(*site.python(OUTSIDE, site.SEND, HERE4, "80", "5", "100"))
    assert site.eventually(shown), (page.get("policy?name=Web").body, real.ctl("stats"))


def test_a_fleet_is_shown_where_its_reports_are(real: Daemon, tmp_path: Path) -> None:
    """With a repository that nobody has reported on yet."""
    fleet = Fleet.made_in(tmp_path / "fleet")
    reports = tmp_path / "reports"
    reports.mkdir()
    places = ("--fleet", str(fleet.repository), "--reports", str(reports))
    with serving(Path(real.environment["IPSECD_SOCKET"]), *places) as served:
        served.enter()
        body = served.get("fleet").body
    assert "Hosts that report here" in body
    assert "No host has reported yet." in body
