/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decides by the destination port alone, where the policy allows it; must agree with the walk.
 *
 * Most frames are plain: Ethernet, IP without options or extension headers, TCP or UDP, whole.
 * For these one look-up says what the steps would come to. Every other frame, and every one
 * that the port does not decide, is parsed and classified as if nothing had been tried here.
 */
#ifndef IPSECD_SHORTCUT_H
#define IPSECD_SHORTCUT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "classify.h"
#include "maps.h"
#include "parse.h"

#define IPV4_PLAIN 0x45 /* version 4, a header of five words */
#define PORT_BYTES 4

static __always_inline __u32 first_host_of_shortcuts(void)
{
	__u32 last = SHORTCUT_LINES;
	struct line *line = bpf_map_lookup_elem(&shortcuts, &last);

	return line ? line->words[0] : 0;
}

static __always_inline __u32 shortcut_of(__u8 family, __u8 protocol, __be16 dport)
{
	__u32 table = family * SHORTCUT_PROTOCOLS + (protocol == IPPROTO_UDP);
	__u32 port = bpf_ntohs(dport), at = table * SHORTCUT_PORTS + (port >> 4);
	struct line *line;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return SHORTCUT_NONE;
	line = bpf_map_lookup_elem(&shortcuts, &at);
	return line ? line->words[port & 15] : SHORTCUT_NONE;
}

static __always_inline int drop_by(__u32 word, __u32 bytes)
{
	__u32 rule = word >> SHORTCUT_BITS;
	struct count *count = bpf_map_lookup_elem(&counters, &rule);

	if (count) {
		count->packets++;
		count->bytes += bytes;
	}
	return XDP_DROP;
}

static __always_inline int shortcut4(struct iphdr *ip, void *end)
{
	__be16 *ports = (void *)(ip + 1);
	__u32 word, bytes;

	if ((void *)(ports + 2) > end || *(__u8 *)ip != IPV4_PLAIN ||
	    ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return XDP_ABORTED;
	bytes = bpf_ntohs(ip->tot_len);
	if (bytes < sizeof(*ip) + PORT_BYTES)
		return XDP_ABORTED;
	word = shortcut_of(FAMILY_IPV4, ip->protocol, ports[1]);
	switch (word & ((1 << SHORTCUT_BITS) - 1)) {
	case SHORTCUT_PASS:
		return XDP_PASS;
	case SHORTCUT_DROP_ME:
		if (!(look_up_local4(ip->daddr, first_host_of_shortcuts()) & LOCAL_OWN))
			return XDP_ABORTED;
		return drop_by(word, bytes);
	case SHORTCUT_DROP:
		return drop_by(word, bytes);
	}
	return XDP_ABORTED;
}

static __always_inline int shortcut6(struct ipv6hdr *ip, void *end)
{
	__be16 *ports = (void *)(ip + 1);
	__u32 word, bytes;
	__u64 address[2];

	if ((void *)(ports + 2) > end || ip->version != 6)
		return XDP_ABORTED;
	bytes = bpf_ntohs(ip->payload_len);
	if (bytes < PORT_BYTES)
		return XDP_ABORTED;
	bytes += sizeof(*ip);
	word = shortcut_of(FAMILY_IPV6, ip->nexthdr, ports[1]);
	switch (word & ((1 << SHORTCUT_BITS) - 1)) {
	case SHORTCUT_PASS:
		return XDP_PASS;
	case SHORTCUT_DROP_ME:
		__builtin_memcpy(address, &ip->daddr, sizeof(address));
		if (!(look_up_local6(address[0], address[1], first_host_of_shortcuts()) &
		      LOCAL_OWN))
			return XDP_ABORTED;
		return drop_by(word, bytes);
	case SHORTCUT_DROP:
		return drop_by(word, bytes);
	}
	return XDP_ABORTED;
}

/* XDP_DROP or XDP_PASS where the port decides, XDP_ABORTED where it does not. */
static __always_inline int take_shortcut(struct ethhdr *ethernet, void *end)
{
	void *network = ethernet + 1;

	if (network > end)
		return XDP_ABORTED;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return shortcut4(network, end);
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return shortcut6(network, end);
	return XDP_ABORTED;
}

#endif
