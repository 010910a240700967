/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the headers of one frame; must not know what is done with the packet.
 *
 * Reads nothing beyond the linear part of the frame, and nothing beyond what the IP header says
 * is the packet: what pads a short frame is never read as ports.
 */
#ifndef IPSECD_PARSE_H
#define IPSECD_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_DESTINATION 60

#define MAX_PLAIN_PACKET 65535

enum fragment { NOT_FRAGMENT, FIRST_FRAGMENT, LATER_FRAGMENT };

#define NO_ICMP_TYPE 256

struct packet {
	union key key; /* without ports they are 0; ICMP has type and code as destination port */
	__u32 bytes;
	__u32 id; /* of the datagram that a fragment belongs to */
	__u16 icmp_type;
	__u8 has_ports; /* or type and code */
	__u8 hop_limit;
	__u8 fragment;
	__u8 family;
};

/* A global function is verified once, by itself, and not anew for each of its callers. */
#define GLOBAL __attribute__((noinline))

/* The same number, of which the verifier knows nothing: the ways to read one header meet again
 * before the next, and their number does not multiply. */
GLOBAL __u32 forget(__u32 number)
{
	asm volatile("" : "+r"(number));
	return number;
}

/* Keep the compiler from proving a bound that the verifier then cannot see. */
#define OPAQUE(value) asm volatile("" : "+r"(value))

static __always_inline int has_port_numbers(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_DCCP ||
	       protocol == IPPROTO_SCTP || protocol == IPPROTO_UDPLITE;
}

static __always_inline int is_extension_header(__u8 next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
	       next == NEXT_AUTHENTICATION || next == NEXT_DESTINATION;
}

/* Ports, or type and code of ICMP: `transport` bytes into the packet, which ends at `limit`. Both
 * lie in the first four bytes, and what ends within them cannot be judged. */
static __always_inline enum parse_result parse_transport(void *network, void *end, __u32 transport,
							 __u32 limit, __u8 protocol, int icmp,
							 struct packet *packet)
{
	__be16 *ports, source, destination;

	packet->icmp_type = NO_ICMP_TYPE;
	if (packet->fragment == LATER_FRAGMENT)
		return PARSED;
	transport &= 0x7fff;
	OPAQUE(transport);
	transport &= 0x7fff;
	if (!has_port_numbers(protocol) && protocol != icmp)
		return PARSED;
	ports = network + transport;
	if (transport + 4 > limit || (void *)(ports + 2) > end)
		return TRANSPORT_TRUNCATED;
	source = ports[0];
	destination = ports[1];
	if (protocol == icmp) {
		packet->icmp_type = *(__u8 *)ports;
		destination = source;
		source = 0;
	}
	if (packet->family == FAMILY_IPV4) {
		packet->key.v4.sport = source;
		packet->key.v4.dport = destination;
	} else {
		packet->key.v6.sport = source;
		packet->key.v6.dport = destination;
	}
	packet->has_ports = 1;
	return PARSED;
}

static __always_inline enum parse_result parse_ipv4(void *network, void *end, struct packet *packet)
{
	struct iphdr *ip = network;
	__u32 header, limit;
	__u16 fragment;

	if ((void *)(ip + 1) > end)
		return NETWORK_TRUNCATED;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return NETWORK_INVALID;
	packet->family = FAMILY_IPV4;
	packet->key.v4.saddr = ip->saddr;
	packet->key.v4.daddr = ip->daddr;
	packet->key.v4.protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->id = ip->id;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IPV4_FRAGMENT_OFFSET)
		packet->fragment = LATER_FRAGMENT;
	else if (fragment & IPV4_MORE_FRAGMENTS)
		packet->fragment = FIRST_FRAGMENT;
	limit = bpf_ntohs(ip->tot_len);
	if (!limit) /* offloaded segments that are more than the field can say */
		limit = end - network;
	packet->bytes = limit;
	if (limit < header)
		return NETWORK_INVALID;
	return parse_transport(network, end, header, limit, ip->protocol, IPPROTO_ICMP, packet);
}

static __always_inline enum parse_result parse_ipv6(void *network, void *end, struct packet *packet)
{
	struct ipv6hdr *ip = network;
	__u32 offset = sizeof(*ip), limit;
	__u8 next;

	if ((void *)(ip + 1) > end)
		return NETWORK_TRUNCATED;
	if (ip->version != 6)
		return NETWORK_INVALID;
	packet->family = FAMILY_IPV6;
	__builtin_memcpy(packet->key.v6.saddr, &ip->saddr, 16);
	__builtin_memcpy(packet->key.v6.daddr, &ip->daddr, 16);
	packet->hop_limit = ip->hop_limit;
	next = ip->nexthdr;
	limit = offset + bpf_ntohs(ip->payload_len);
	/* RFC 2675 has no length here, nor have offloaded segments that are more than it can say.
	 */
	if (!ip->payload_len &&
	    (next == NEXT_HOP_BY_HOP || (__u32)(end - network) > MAX_PLAIN_PACKET))
		limit = end - network;
	packet->bytes = limit;
	/* Unrolled, because Linux 6.1 refuses a loop whose end falls through into its beginning,
	 * and how a compiler lays one out is its own business. */
#pragma unroll
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		struct {
			__u8 next;
			__u8 length;
			__be16 offset;
			__be32 id;
		} * header;
		__u8 this = next;

		if (!is_extension_header(next)) {
			packet->key.v6.protocol = next;
			return parse_transport(network, end, offset, limit, next, IPPROTO_ICMPV6,
					       packet);
		}
		if (i == MAX_EXTENSION_HEADERS)
			break;
		offset &= 0x7fff;
		OPAQUE(offset);
		offset &= 0x7fff;
		header = network + offset;
		if (offset + sizeof(*header) > limit || (void *)(header + 1) > end)
			return HEADERS_TRUNCATED;
		next = header->next;
		if (this == NEXT_FRAGMENT) {
			__u16 fragment = bpf_ntohs(header->offset);

			packet->id = header->id;
			if (fragment & IPV6_FRAGMENT_OFFSET) {
				/* What follows is payload, whatever it is called: the headers lie
				 * in the first fragment (RFC 8200, section 4.5). */
				packet->fragment = LATER_FRAGMENT;
				packet->key.v6.protocol = next;
				packet->icmp_type = NO_ICMP_TYPE;
				return PARSED;
			} else if (fragment & IPV6_MORE_FRAGMENTS) {
				packet->fragment = FIRST_FRAGMENT;
			}
			offset += sizeof(*header);
		} else if (this == NEXT_AUTHENTICATION) {
			offset += (header->length + 2) * 4;
		} else {
			offset += (header->length + 1) * 8;
		}
		offset = forget(offset);
		packet->fragment = forget(packet->fragment);
	}
	return TOO_MANY_HEADERS;
}

/* Fill `packet` from the frame. `bare` says that the link has no header of its own. */
static __always_inline enum parse_result parse(void *data, void *end, int bare,
					       struct packet *packet)
{
	struct ethhdr *ethernet = data;
	void *network = data;
	__be16 type;
	int priority = 0;

	__builtin_memset(packet, 0, sizeof(*packet));
	if (bare) {
		if (data + 1 > end)
			return LINK_TRUNCATED;
		switch (*(__u8 *)data >> 4) {
		case 4:
			return parse_ipv4(network, end, packet);
		case 6:
			return parse_ipv6(network, end, packet);
		default:
			return NOT_IP;
		}
	}
	network = ethernet + 1;
	if (network > end)
		return LINK_TRUNCATED;
	type = ethernet->h_proto;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		struct {
			__be16 tag;
			__be16 type;
		} *vlan = network;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		network = vlan + 1;
		if (network > end)
			return LINK_TRUNCATED;
		type = vlan->type;
		priority |= !(vlan->tag & bpf_htons(0x0fff));
		/* The kernel takes off any number of tags of VLAN 0 and delivers what is inside.
		 * More than two tags of others lead to an interface that has a program of its own.
		 */
		if (i == 2)
			return priority ? TOO_MANY_HEADERS : NOT_IP;
	}
	if (type == bpf_htons(ETH_P_IP))
		return parse_ipv4(network, end, packet);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(network, end, packet);
	return NOT_IP;
}

#endif
