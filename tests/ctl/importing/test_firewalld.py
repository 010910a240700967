"""firewalld: whose traffic a zone has, what comes first in it, and files of strangers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecctl.importing.firewalld_source import paths, read
from ipsecctl.importing.source import Given, InputFile
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family
from tests.ctl.importing.expected import CORPUS, files_in, imported
from tests.ctl.importing.judged import is_as_said, notes, passes, verdicts

SERVER = files_in(CORPUS / "firewalld" / "server")


def zone(content: str, target: str = "", name: str = "public") -> list[InputFile]:
    """The files of a host with one zone, which is the default."""
    attribute = f' target="{target}"' if target else ""
    return [
        InputFile("firewalld.conf", f"DefaultZone={name}\nIPv6_rpfilter=no\n"),
        InputFile(f"zones/{name}.xml", f"<zone{attribute}>\n{content}\n</zone>\n"),
    ]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("tcp in 8.8.8.8 443", {"permit", "block"}),  # by the hardware address, perhaps
        ("tcp in 192.0.2.7 5432", {"permit"}),  # the office comes before the link
        ("tcp in 192.0.2.7 3306", {"block"}),
        ("tcp in 203.0.113.17 5432 on stor1", {"permit"}),  # the office, by its ipset
        ("tcp in 192.0.2.250 22", {"permit"}),
        ("tcp out 8.8.8.8 25", {"block"}),
        ("tcp out 8.8.8.8 26", {"permit"}),
        ("tcp in 8.8.8.8 443 known", {"permit"}),
        ("tcp through 192.0.2.7 80", {"permit"}),
    ],
)
def test_a_packet_gets_into_the_zone_of_its_source_first(text: str, verdict: set[str]) -> None:
    """Sources come before links, and those before the default zone."""
    assert verdicts("firewalld", SERVER, text) == verdict


def test_what_denies_comes_before_what_allows() -> None:
    """Whatever the order in the file is; a priority below zero comes before both."""
    files = zone(
        '<port port="80" protocol="tcp"/>'
        '<rule><port port="80" protocol="tcp"/><drop/></rule>'
        '<rule family="ipv4" priority="-1"><source address="192.0.2.7"/><accept/></rule>'
    )
    assert not passes("firewalld", files, "tcp in 8.8.8.8 80")
    assert passes("firewalld", files, "tcp in 192.0.2.7 80")


def test_a_priority_above_zero_comes_after_what_allows() -> None:
    """It denies the rest alone."""
    files = zone(
        '<port port="80" protocol="tcp"/>'
        '<rule priority="1"><port port="1-1023" protocol="tcp"/><drop/></rule>',
        target="ACCEPT",
    )
    assert passes("firewalld", files, "tcp in 8.8.8.8 80")
    assert not passes("firewalld", files, "tcp in 8.8.8.8 81")
    assert passes("firewalld", files, "tcp in 8.8.8.8 8080")


@pytest.mark.parametrize(
    ("target", "content", "echo", "port"),
    [
        ("", "", True, False),
        ("", "<icmp-block-inversion/>", False, False),
        ("", '<icmp-block name="echo-request"/>', False, False),
        ("%%REJECT%%", "", False, False),
        ("DROP", "", False, False),
        ("DROP", '<icmp-block-inversion/><icmp-block name="echo-request"/>', True, False),
        ("ACCEPT", "", True, True),
        ("ACCEPT", "<icmp-block-inversion/>", False, True),
    ],
)
def test_a_target_says_what_becomes_of_the_rest(
    target: str, content: str, echo: bool, port: bool
) -> None:
    """The default target rejects and lets ICMP pass; an inversion names what passes."""
    files = zone(content, target)
    assert passes("firewalld", files, "icmp in 8.8.8.8 8") is echo
    assert passes("firewalld", files, "tcp in 8.8.8.8 22") is port


def test_a_link_of_the_default_zone_is_kept_apart_from_a_wider_name() -> None:
    """Zones come in the order of their names, and a name may end in + for any ending."""
    files = [
        *zone('<interface name="eth1"/><port port="80" protocol="tcp"/>', name="own"),
        InputFile("zones/wide.xml", '<zone target="ACCEPT"><interface name="eth+"/></zone>'),
    ]
    assert not passes("firewalld", files, "tcp in 8.8.8.8 81 on eth1")
    assert passes("firewalld", files, "tcp in 8.8.8.8 81 on eth2")
    assert not passes("firewalld", files, "tcp in 8.8.8.8 81 on wlan0")


def test_what_this_host_sends_is_not_judged_by_zones() -> None:
    """Only a policy from HOST judges it."""
    assert passes("firewalld", zone("", "DROP"), "tcp out 8.8.8.8 22")


def test_what_passes_through_is_blocked_unless_a_zone_accepts() -> None:
    """A target of ACCEPT lets it through, that of the zone it comes from or goes to."""
    assert not passes(
        "firewalld", zone('<port port="80" protocol="tcp"/>'), "tcp through 8.8.8.8 80"
    )
    assert passes("firewalld", zone("", "ACCEPT"), "tcp through 8.8.8.8 80")


def test_a_limited_permit_is_none_and_a_limited_block_is_one() -> None:
    """The policy is not weaker by either; both are said."""
    said = notes(
        "firewalld",
        zone(
            '<rule><service name="ssh"/><accept><limit value="1/m"/></accept></rule>\n'
            '<rule><service name="http"/><drop><limit value="1/m"/></drop></rule>'
        ),
    )
    assert [weaker for text, weaker in said.items() if "rate" in text] == [False, False]


def test_what_no_packet_tells_is_named_with_what_it_costs() -> None:
    """To leave out a block by hardware address makes the policy weaker; a permit does not."""
    said = notes(
        "firewalld",
        zone(
            '<rule><source mac="02:00:00:00:00:01"/><accept/></rule>\n'
            '<rule><source mac="02:00:00:00:00:02"/><drop/></rule>'
        ),
    )
    costs = {text.split(":")[1]: weaker for text, weaker in said.items() if "hardware" in text}
    assert costs == {"2": False, "3": True}


def test_a_set_that_only_the_host_knows_can_be_given() -> None:
    """Without it, the rule is left out and named; with it, the rule is translated."""
    files = zone('<rule><source ipset="crowd"/><drop/></rule>', "ACCEPT")
    assert any("ipset 'crowd' is not described" in text for text in notes("firewalld", files))
    crowd = Given(sets={"crowd": [(Family.IPV4, 0xCB007100, 24)]})
    assert not passes("firewalld", files, "tcp in 203.0.113.7 80", crowd)
    assert not any("ipset" in text for text in notes("firewalld", files, crowd))


def test_a_service_is_taken_as_the_first_directory_has_it() -> None:
    """/etc/firewalld comes before /usr/lib/firewalld, and that before what is known here."""
    own = InputFile("etc/services/ssh.xml", '<service><port port="2222" protocol="tcp"/></service>')
    other = InputFile("lib/services/ssh.xml", '<service><port port="22" protocol="tcp"/></service>')
    files = [*zone('<service name="ssh"/>'), own, other]
    assert passes("firewalld", files, "tcp in 8.8.8.8 2222")
    assert not passes("firewalld", files, "tcp in 8.8.8.8 22")


def test_a_service_that_is_not_known_is_named() -> None:
    """Nothing is taken for it."""
    said = notes("firewalld", zone('<service name="nobodys"/>'))
    assert any("service 'nobodys' is not known" in text for text in said)


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        ('<!DOCTYPE zone [<!ENTITY a "b">]><zone>&a;</zone>', "declares a document type", 1),
        ("<zone>\n<service/></zone>", "has no name", 2),
        ("<zone>\n\n<port port='x' protocol='tcp'/></zone>", "is not a port", 3),
        ("<zone>\n<port port='1-2-3' protocol='tcp'/></zone>", "is not a port", 2),
        ("<zone>\n<port port='1' protocol='icmp'/></zone>", "has no ports", 2),
        ("<zone target='OPEN'/>", "'OPEN' is not a target", 1),
        ("<zone>\n<source address='10.0.0.0/33'/></zone>", "prefix length", 2),
        ("<zone>\n<source/></zone>", "has nothing", 2),
        ("<zone>\n<rule><drop/>\n<accept/></rule></zone>", "one too many", 3),
        ("<zone>\n<rule priority='x'><drop/></rule></zone>", "is not a priority", 2),
        ("<zone>\n<rule>\n<weather/><drop/></rule></zone>", "is not known in a rich rule", 3),
        ("<zone>\n<icmp-block name='nothing'/></zone>", "is not a known type", 2),
        ("<policy/>", "is 'policy', and not 'zone'", 1),
        ("<zone>\n<service name='ssh'></zone>", "this is not XML", 2),
        ("<zone>" + "<a>" * 40 + "</a>" * 40 + "</zone>", "nested deeper", 1),
        ("", "this is not XML", 1),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(content: str, message: str, line: int) -> None:
    """By its name and line; no entity is expanded."""
    with pytest.raises(InvalidInput) as caught:
        read([InputFile("zones/public.xml", content)], Given())
    assert message in caught.value.message
    assert (caught.value.source, caught.value.line) == ("zones/public.xml", line)


def test_a_default_zone_that_is_not_there_is_refused() -> None:
    """What would become of most packets is not known then."""
    files = [InputFile("firewalld.conf", "\nDefaultZone=campus\n")]
    with pytest.raises(InvalidInput, match="'campus' is not described") as caught:
        read(files, Given())
    assert caught.value.line == 2


def test_a_directory_stands_for_the_files_in_it() -> None:
    """The expectation beside them is none of firewalld's."""
    found = paths(str(CORPUS / "firewalld" / "public"))
    assert [path.rpartition("/public/")[2] for path in found] == [
        "firewalld.conf",
        "zones/public.xml",
    ]


PORTS = st.sampled_from(["22", "80", "1-1023", "8080-8090"])
PARTS = st.one_of(
    st.builds('<port port="{}" protocol="{}"/>'.format, PORTS, st.sampled_from(["tcp", "udp"])),
    st.sampled_from(
        [
            '<service name="ssh"/>',
            '<protocol value="gre"/>',
            '<icmp-block name="echo-request"/>',
            "<icmp-block-inversion/>",
            '<source-port port="53" protocol="udp"/>',
            "<forward/>",
        ]
    ),
)
SUBJECTS = st.one_of(
    st.just(""),
    st.builds('<port port="{}" protocol="tcp"/>'.format, PORTS),
    st.sampled_from(['<icmp-type name="echo-request"/>', '<service name="dns"/>']),
)
SOURCES = st.sampled_from(
    [
        "",
        '<source address="192.0.2.0/24"/>',
        '<source address="192.0.2.7"/>',
        '<source address="10.0.0.0/8" invert="true"/>',
        '<source ipset="some"/>',
    ]
)
RICH = st.builds(
    '<rule family="ipv4" priority="{}">{}{}<{}/></rule>'.format,
    st.sampled_from([-2, -1, 0, 0, 0, 1]),
    SOURCES,
    SUBJECTS,
    st.sampled_from(["accept", "drop", "reject"]),
)
OWN_BOUND = st.sampled_from(["", "", '<interface name="eth1"/>', '<interface name="eth+"/>'])
BOUND = st.sampled_from(
    ['<interface name="eth1"/>', '<interface name="wg+"/>', '<source address="192.0.2.0/25"/>']
)
TARGETS = st.sampled_from(["default", "ACCEPT", "DROP", "REJECT"])
SOME = InputFile(
    "ipsets/some.xml",
    '<ipset type="hash:net"><entry>192.0.2.128/25</entry><entry>10.1.1.1</entry></ipset>',
)


def zones(
    default: tuple[str, list[str]], own: str, other: tuple[str, list[str]], bound: str
) -> list[InputFile]:
    """A default zone, and one beside it."""
    beside = f'<zone target="{other[0]}">{bound}{"".join(other[1])}</zone>'
    return [
        *zone(own + "".join(default[1]), default[0]),
        InputFile("zones/beside.xml", beside),
        SOME,
    ]


CONTENT = st.tuples(TARGETS, st.lists(st.one_of(PARTS, RICH), max_size=3))


@settings(max_examples=25, deadline=None)
@given(st.builds(zones, CONTENT, OWN_BOUND, CONTENT, BOUND))
def test_no_translation_differs_from_what_the_rules_say(files: list[InputFile]) -> None:
    """Two zones of any kind become a policy that does the same, or it was said why not."""
    _, proof = imported("firewalld", files, Given(), 250)
    assert is_as_said(proof)
