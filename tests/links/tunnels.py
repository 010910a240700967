"""Owns links whose packets travel inside others over the wire, without encryption by xfrm."""

from __future__ import annotations

from tests.links import devices, ground
from tests.links.ground import Kind, at_host, at_peer, scripts
from tests.netns.site import HERE4, HERE6, PEER4, PEER6

OVER4 = (f"local {HERE4} remote {PEER4}", f"local {PEER4} remote {HERE4}")
OVER6 = (f"local {HERE6} remote {PEER6}", f"local {PEER6} remote {HERE6}")
REMOTE4 = (f"remote {PEER4}", f"remote {HERE4}")


def tunnel(
    title: str, words: str, ends: tuple[str, str] = OVER4, versions: tuple[int, ...] = (4, 6)
) -> Kind:
    """A tunnel by one ``ip link add`` at each end."""
    here, there = (f"link add link0 type {words} {end}" for end in ends)
    return Kind(title, scripts(here + at_host("link0"), there + at_peer("link0")), versions)


def gpe(addressed: str, remote: str, others: tuple[str, str]) -> str:
    """Lines for one end of a VXLAN without Ethernet headers; each route says where it leads."""
    return f"""
        link add link0 type vxlan dstport 4790 gpe external
        {addressed}
        route add {others[0]}/32 encap ip id 5 dst {remote} dev link0
        route add {others[1]}/128 encap ip id 5 dst {remote} dev link0
    """


KINDS = (
    Kind("tun", devices.relayed()),
    Kind("tun with packet information", devices.relayed(information=True)),
    Kind("WireGuard", devices.wireguard),
    tunnel("VXLAN", "vxlan id 5 dstport 4789"),
    tunnel("VXLAN over IPv6", "vxlan id 5 dstport 4789", OVER6),
    Kind(
        "VXLAN with GPE",
        scripts(
            gpe(at_host("link0"), PEER4, (ground.PEER4, ground.PEER6)),
            gpe(at_peer("link0"), HERE4, (ground.HOST4, ground.HOST6)),
        ),
    ),
    tunnel("Geneve", "geneve id 5", REMOTE4),
    tunnel("GRE", "gre"),
    tunnel("GRE with key and sequence", "gre key 7 seq csum"),
    tunnel("gretap", "gretap"),
    tunnel("ERSPAN", "erspan seq key 7 erspan_ver 1 erspan 9"),
    tunnel("ip6gre", "ip6gre", OVER6),
    tunnel("ip6gretap", "ip6gretap", OVER6),
    tunnel("IPIP", "ipip mode ipip", versions=(4,)),
    tunnel("SIT", "sit mode any"),
    tunnel("ip6tnl", "ip6tnl mode any", OVER6),
)
