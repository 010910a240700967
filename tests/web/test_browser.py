"""What a browser makes of the page: it loads, keeps up to date, and runs nothing of others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from ipsecctl.web.menu import PAGES
from tests.ctl.fake_daemon import COUNT
from tests.web.browser import PATIENCE_S, Browser, Tab
from tests.web.hostile import BAD, PACKETS, SHOWN, make_hostile
from tests.web.serving import Serving, serving
from tests.web.stand_in import PACKET, StandIn

ROWS = "document.querySelectorAll('#packets tr').length"
QUERIES = {"policy": "?name=Web", "list": "?name=bans", "explain": "?packet=x"}


@pytest.fixture
def inside(tab: Tab, site: Serving) -> Tab:
    """A tab in which somebody has opened the address that was printed."""
    tab.open(site.place)
    return tab


def test_the_printed_address_leads_to_the_overview(inside: Tab, site: Serving) -> None:
    """The token is not in the address any more, nor can a script read the cookie."""
    assert inside.evaluate("location.href") == site.pages + "overview"
    assert "Enforcing" in inside.text()
    assert inside.evaluate("document.cookie") == ""
    assert inside.evaluate("getComputedStyle(document.querySelector('nav')).display") == "flex"
    assert inside.complaints() == []


def test_a_stranger_sees_nothing(tab: Tab, site: Serving) -> None:
    """Another browser that knows the path, or the port, and not the token."""
    for url in (site.pages + "overview", site.origin + "/", site.origin + "/?token=x"):
        tab.open(url)
        assert "it has a token in it" in tab.text()
        assert "Enforcing" not in tab.text()


def test_another_port_gets_nothing(inside: Tab, site: Serving) -> None:
    """To a browser it is the same site, but anybody's: it gets no cookie and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        received: list[bytes] = []

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        received.append(connection.recv(1 << 16))
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        inside.open(f"http://127.0.0.1:{listener.getsockname()[1]}/overview")
        assert inside.text() == "hi"
        theirs = f"fetch('{site.pages}overview', {{credentials: 'include'}})"
        assert inside.evaluate(f"{theirs}.then(() => 'read', () => 'refused')") == "refused"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert received[0].startswith(b"GET /overview HTTP/1.1")
    assert b"cookie" not in b"".join(received).lower()


def test_links_lead_through_all_pages(inside: Tab) -> None:
    """Every page loads without a complaint of the browser, and has no wider content than itself."""
    links = inside.evaluate("[...document.querySelectorAll('nav a')].map((a) => a.href)")
    for width in (1280, 400):
        inside.size(width)
        for link in links:
            inside.open(link)
            wide = inside.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (link, wide)
            assert inside.evaluate("document.querySelectorAll('h1').length") == 1
    assert inside.complaints() == []


def test_the_overview_follows_the_daemon(inside: Tab, daemon: StandIn) -> None:
    """Without being loaded again: nobody presses a key."""
    inside.evaluate("window.mark = 'the same document'")
    daemon.status(state="drifted", drift=["a set is gone"])
    inside.until("document.body.innerText.includes('a set is gone')")
    assert inside.evaluate("window.mark") == "the same document"
    assert inside.complaints() == []


def test_rules_are_sorted_by_a_click(inside: Tab, daemon: StandIn, site: Serving) -> None:
    """And searched by what is typed, in the same order."""
    rules = [{**COUNT, "rule": f"rule {n}", "packets": n} for n in range(300)]
    daemon.replies["Stats"] = {"rules": rules, "unparsable": 0}
    first = "document.querySelector('tbody td:nth-child(2)').innerText"
    deadline = time.monotonic() + PATIENCE_S
    while inside.evaluate("document.querySelectorAll('tbody tr').length") < 200:
        assert time.monotonic() < deadline
        inside.open(site.pages + "rules")
    assert inside.evaluate(first) == "rule 299"
    inside.evaluate("document.querySelector('th:nth-child(4) a').click()")
    inside.until(f"{first} === 'rule 0'")
    inside.evaluate(
        "document.querySelector('input[name=q]').value = 'rule 7'; document.forms[0].submit()"
    )
    inside.until(f"{first} === 'rule 7' && location.search.includes('sort=packets')")


def test_a_form_explains_a_packet(inside: Tab, daemon: StandIn, site: Serving) -> None:
    """What is typed is what the daemon is asked."""
    inside.open(site.pages + "explain")
    inside.evaluate(
        "document.getElementById('packet').value = 'tcp 203.0.113.7:4000 > me:80';"
        "document.forms[0].submit()"
    )
    inside.until("document.body.innerText.includes('It is dropped')")
    assert daemon.calls[-1] == ("Explain", {"packet": "tcp 203.0.113.7:4000 > me:80"})


def test_drops_come_as_they_are_told(inside: Tab, daemon: StandIn, site: Serving) -> None:
    """The newest first, with numbers; a packet leads to why it was dropped; a pause holds."""
    inside.open(site.pages + "drops")
    daemon.followed()
    daemon.tell(PACKET, blocked=1)
    inside.until(f"{ROWS} === 1")
    daemon.tell({**PACKET, "packet": "udp 203.0.113.8 > me:53"}, blocked=1_234, lost=1_232)
    inside.until(f"{ROWS} === 2")
    text = inside.text()
    assert text.index("203.0.113.8") < text.index("203.0.113.7")
    assert "1,234 packets were dropped since this is followed, 1,232 of them not told of" in text
    assert inside.evaluate("document.querySelector('#packets a').href").endswith(
        "explain?packet=udp%20203.0.113.8%20%3E%20me%3A53"
    )
    inside.evaluate("document.getElementById('pause').click()")
    daemon.tell(PACKET, PACKET, blocked=1_236)
    inside.until("document.getElementById('summary').innerText.startsWith('1,236')")
    assert inside.evaluate(ROWS) == 2
    assert inside.complaints() == []


def test_a_flood_of_drops_leaves_the_page_short(
    inside: Tab, daemon: StandIn, site: Serving
) -> None:
    """However many come, 200 rows are there, and the last one is among them."""
    inside.open(site.pages + "drops")
    daemon.followed()
    for n in range(100):
        daemon.tell(*[{**PACKET, "packet": f"tcp 10.0.{n}.{m} > me:1"} for m in range(50)])
    daemon.tell({**PACKET, "packet": "tcp 10.9.9.9 > me:1"})
    inside.until("document.querySelector('#packets a')?.innerText === 'tcp 10.9.9.9 > me:1'")
    assert inside.evaluate(ROWS) == 200


def test_a_tab_that_nobody_sees_has_nothing_told(
    inside: Tab, daemon: StandIn, site: Serving
) -> None:
    """When it is seen again, it shows what came meanwhile."""
    inside.open(site.pages + "drops")
    daemon.followed()
    daemon.tell(PACKET)
    inside.until(f"{ROWS} === 1")
    hide = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}});"
    seen = "document.dispatchEvent(new Event('visibilitychange'))"
    inside.evaluate(hide.format("true") + seen)
    daemon.tell(PACKET, {**PACKET, "packet": "udp 203.0.113.8 > me:53"})
    # Another tab is told, so that this one had the time.
    other = inside.sibling()
    other.open(site.pages + "drops")
    other.until(f"{ROWS} === 3")
    assert inside.evaluate(ROWS) == 1
    inside.evaluate(hide.format("false") + seen)
    inside.until(f"{ROWS} === 3")


def test_the_daemon_is_followed_once_and_not_while_nobody_looks(
    browser: Browser, daemon: StandIn, site: Serving
) -> None:
    """Two that watch are one for the daemon."""
    for _ in range(2):
        watching = browser.tab()
        watching.open(site.place)
        assert daemon.followers == 0 or _
        watching.open(site.pages + "drops")
        daemon.followed()
    daemon.tell(PACKET)
    watching.until(f"{ROWS} === 1")
    assert daemon.followers == 1


def test_nothing_of_others_runs(tab: Tab, daemon: StandIn, site: Serving) -> None:
    """On no page does a name become an element, a dialog or a script, in what comes later too."""
    make_hostile(daemon)
    tab.open(site.place)
    for page in PAGES:
        query = f"?name={quote(BAD)}" if page == "list" else QUERIES.get(page, "")
        tab.open(site.pages + page + query)
        assert tab.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
    tab.open(site.pages + "overview")
    assert SHOWN in tab.evaluate("document.body.textContent")
    tab.open(site.pages + "drops")
    daemon.followed()
    daemon.tell(*PACKETS)
    tab.until(f"{ROWS} === 1")
    assert SHOWN in tab.evaluate("document.getElementById('packets').textContent")
    assert tab.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
    link = tab.evaluate("document.querySelector('#packets a').getAttribute('href')")
    assert link.startswith("explain?packet=%3Cscript%3E")
    assert tab.complaints() == []


def test_the_browser_itself_would_stop_a_script(inside: Tab) -> None:
    """If something did get in, the policy of the page forbids it to run, to load and to send."""
    inside.evaluate(
        "document.body.insertAdjacentHTML('beforeend', "
        '\'<img src=x onerror="window.ran = 1"><a id=bad href="javascript:window.ran=1">x</a>\')'
    )
    inside.evaluate("document.getElementById('bad').click()")
    sent = "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'stopped')"
    assert inside.evaluate(sent) == "stopped"
    assert inside.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in inside.complaints())


def test_without_scripts_all_can_be_read(tab: Tab, daemon: StandIn, site: Serving) -> None:
    """Pages, the form and the last packets that were dropped."""
    tab.without_scripts()
    tab.open(site.place)
    assert "Enforcing" in tab.html()
    for page in PAGES:
        tab.open(site.pages + page + QUERIES.get(page, ""))
        assert f"<h1>{PAGES[page].title}</h1>" in tab.html()
    tab.open(site.pages + "drops")
    daemon.followed()
    daemon.tell(PACKET)
    deadline = time.monotonic() + PATIENCE_S
    while "203.0.113.7:4000" not in tab.html():
        # The page loads itself again.
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_daemon_that_goes_and_comes_back(inside: Tab, daemon: StandIn, directory: Path) -> None:
    """Open pages say so by themselves, both that it is away and what there is again."""
    daemon.path.rename(directory / "away")
    daemon.hang_up()
    inside.until("document.body.innerText.includes('the daemon cannot be reached')")
    (directory / "away").rename(daemon.path)
    inside.until("document.body.innerText.includes('Enforcing')")
    assert inside.evaluate("document.getElementById('gone').hidden")


def test_drops_go_on_after_a_restart_of_the_daemon(
    inside: Tab, daemon: StandIn, site: Serving
) -> None:
    """It is followed again, and what came before stays."""
    inside.open(site.pages + "drops")
    daemon.followed()
    daemon.tell(PACKET)
    inside.until(f"{ROWS} === 1")
    daemon.hang_up()
    inside.until("!document.getElementById('trouble').hidden")
    daemon.followed()
    daemon.tell({**PACKET, "packet": "udp 203.0.113.8 > me:53"})
    inside.until(f"{ROWS} === 2 && document.getElementById('trouble').hidden")


def test_a_page_that_is_not_served_any_more_says_so(tab: Tab, daemon: StandIn) -> None:
    """What is shown stays, with the time that it is of."""
    with serving(daemon.path) as ending:
        tab.open(ending.place)
    tab.until("document.body.innerText.includes('This page does not answer any more')")
    assert "Enforcing" in tab.text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_states_can_be_read_in_both_schemes(inside: Tab, site: Serving, scheme: str) -> None:
    """The words of a state, an action and a link have contrast enough (WCAG 2.2, 1.4.3)."""
    if scheme == "dark":
        inside.dark()
    inside.open(site.pages + "rules")
    contrast = """((a, b) => { const light = (c) => { const parts = c.match(/[0-9.]+/g).slice(0, 3)
      .map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
      return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2]; };
      const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); })"""
    for chosen in (".action.block", "th a", "tbody a", "nav a", "body"):
        found = inside.evaluate(
            f"""(() => {{ let e = document.querySelector('{chosen}');
            const ink = getComputedStyle(e).color;
            while (getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)') e = e.parentElement;
            return {contrast}(ink, getComputedStyle(e).backgroundColor); }})()"""
        )
        assert found >= 4.5, (chosen, found)
