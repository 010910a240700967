/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds what decides about a parsed packet; must not know where the packet came from.
 *
 * The steps of the packet's point and IP version are walked in the order of rank, and the first
 * that finds something decides. An audit decides nothing: if it is the first, it counts the packet.
 * Whether an address is this host's is asked last and once: most packets match no key, and then it
 * costs nothing.
 */
#ifndef IPSECD_CLASSIFY_H
#define IPSECD_CLASSIFY_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "maps.h"
#include "parse.h"

#define MIX_1 0x9e3779b97f4a7c15ull
#define MIX_2 0xbf58476d1ce4e5b9ull

#define NO_RULE 0xffffffffu

static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * MIX_1;
	return hash ^ hash >> 32;
}

struct walk {
	struct packet *packet;
	void *state;
	__u64 generation;
	__u32 first_host;
	__u32 first_step;
	__u32 interface_type;
	__u32 decided; /* by the step in this line; 0 for none */
	__u32 audited; /* the first that found something is the audit in this line; 0 for none */
	__u32 outcome; /* of that step */
	__u32 uncertain; /* an address that is not known here may yet be this host's */
};

/* What came of looking a packet up in a step. */
enum match { NO_MATCH, MATCH, NOT_OF_ME };

static __always_inline int is_multicast(const struct packet *packet)
{
	if (packet->family == FAMILY_IPV4)
		return (packet->key.v4.daddr & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
	return (packet->key.v6.daddr[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* What the kernel itself takes for broadcast: inet_addr_type in net/ipv4/fib_frontend.c. */
static __always_inline int is_limited_broadcast(const struct packet *packet)
{
	return packet->family == FAMILY_IPV4 && (packet->key.v4.daddr == 0xffffffff ||
						 !(packet->key.v4.daddr & bpf_htonl(0xff000000)));
}

/* What the host has in a line and those that follow it; 0 if the address is not there. */
GLOBAL int search_local4(__u32 address, __u32 first, __u32 line)
{
	for (int i = 0; i < HOST_PROBES; i++) {
		__u32 at = first + line;
		struct host4 *host = bpf_map_lookup_elem(&hosts, &at);

		if (!host)
			return 0;
		for (__u32 j = 0; j < 12; j++) {
			if (j >= (host->used & 15))
				break;
			if (host->addresses[j] == address)
				return host->local[j];
		}
		if (!(host->used & HASH_CONTINUES))
			return 0;
		line = (line + 1) & (HOST_LINES - 1);
	}
	return 0;
}

static __always_inline int look_up_local4(__u32 address, __u32 first)
{
	__u32 line = (address * 0x9e3779b1u) >> (32 - HOST_LINE_BITS), at = first + line;
	struct host4 *host = bpf_map_lookup_elem(&hosts, &at);

	if (!host)
		return 0;
	if (host->addresses[0] == address)
		return host->local[0];
	return host->used <= 1 ? 0 : search_local4(address, first, line);
}

GLOBAL int look_up_local6(__u64 high, __u64 low, __u32 first)
{
	/* Once more than there are words, or the last byte of an address would not count. */
	__u32 line = mix(mix(mix(MIX_2, high), low), 0) & (HOST_LINES - 1);

	for (int i = 0; i < HOST_PROBES; i++) {
		__u32 at = first + HOST_LINES + line;
		struct host6 *host = bpf_map_lookup_elem(&hosts, &at);

		if (!host)
			return 0;
		for (__u32 j = 0; j < 3; j++) {
			if (j >= (host->used & 3))
				break;
			if (host->addresses[j].words[0] == high &&
			    host->addresses[j].words[1] == low)
				return host->local[j];
		}
		if (!(host->used & HASH_CONTINUES))
			return 0;
		line = (line + 1) & (HOST_LINES - 1);
	}
	return 0;
}

static __always_inline int source_local(const struct packet *packet, __u32 first_host)
{
	return packet->family == FAMILY_IPV4 ?
		       look_up_local4(packet->key.v4.saddr, first_host) :
		       look_up_local6(packet->key.words[0], packet->key.words[1], first_host);
}

static __always_inline int destination_local(const struct packet *packet, __u32 first_host)
{
	return packet->family == FAMILY_IPV4 ?
		       look_up_local4(packet->key.v4.daddr, first_host) :
		       look_up_local6(packet->key.words[2], packet->key.words[3], first_host);
}

/* Whether the addresses are this host's as far as a step asks. */
static __always_inline int is_of_me(const struct packet *packet, __u32 conditions, __u32 first_host)
{
	if (conditions & IF_SOURCE_ME && !(source_local(packet, first_host) & LOCAL_OWN))
		return 0;
	if (conditions & IF_DESTINATION_ME &&
	    !(destination_local(packet, first_host) & (LOCAL_OWN | LOCAL_BROADCAST)) &&
	    !is_multicast(packet) && !is_limited_broadcast(packet))
		return 0;
	return 1;
}

static __always_inline void *image_of(const struct step *step)
{
	__u32 number = step->image;

	return bpf_map_lookup_elem(&images, &number);
}

/* The rule of the entry under the packet's key in the lines of a step; NO_RULE if there is none. */
static __always_inline __u32 find_hash4(const struct packet *packet, const struct step *step)
{
	__u64 low, high;
	__u32 line;
	void *image;

	image = image_of(step);
	if (!image)
		return NO_RULE;
	low = packet->key.words[0] & step->mask.words[0];
	high = packet->key.words[1] & step->mask.words[1];
	line = mix(mix(MIX_2, low), high);
	for (int i = 0; i < HASH_PROBES; i++) {
		__u32 at = step->first + (line & step->lines);
		struct hash4 *found = bpf_map_lookup_elem(image, &at);

		if (!found)
			return NO_RULE;
		for (int j = 0; j < 3; j++) {
			const __u64 *words = (const __u64 *)&found->keys[j];

			if (j >= (found->used & 3))
				break;
			if (words[0] == low && words[1] == high) {
				return found->rules[j];
			}
		}
		if (!(found->used & HASH_CONTINUES))
			return NO_RULE;
		line++;
	}
	return NO_RULE;
}

GLOBAL __u32 find_hash6(const struct packet *packet, const struct step *step)
{
	__u64 words[5], hash = MIX_2;
	__u32 line;
	void *image;

	if (!packet || !step || !(image = image_of(step)))
		return NO_RULE;
#pragma unroll
	for (int i = 0; i < 5; i++) {
		words[i] = packet->key.words[i] & step->mask.words[i];
		hash = mix(hash, words[i]);
	}
	line = hash;
	for (int i = 0; i < HASH_PROBES; i++) {
		__u32 at = step->first + (line & step->lines);
		struct hash6 *found = bpf_map_lookup_elem(image, &at);
		const __u64 *key;

		if (!found)
			return NO_RULE;
		key = (const __u64 *)&found->key;
		if (found->used & 1 && key[0] == words[0] && key[1] == words[1] &&
		    key[2] == words[2] && key[3] == words[3] && key[4] == words[4])
			return found->rule;
		if (!(found->used & HASH_CONTINUES))
			return NO_RULE;
		line++;
	}
	return NO_RULE;
}

/* The window of ranges that can hold an address whose upper part is `upper`. */
static __always_inline int find_window(const struct ranges *ranges, void *image, __u64 upper,
				       __u32 *first, __u32 *width)
{
	__u64 bucket = (upper - ranges->origin) >> (ranges->shift & 63);
	__u32 at = ranges->index + (bucket >> 4), word;
	struct line *line;

	if (upper < ranges->origin || bucket >= ranges->buckets)
		return 0;
	line = bpf_map_lookup_elem(image, &at);
	if (!line)
		return 0;
	word = line->words[bucket & 15];
	if ((word & 31) == NO_RANGES)
		return 0;
	*first = word >> 5;
	*width = 1u << (word & 31);
	return 1;
}

static __always_inline __u32 rule_of_range(const struct ranges *ranges, void *image, __u32 number,
					   __u32 common)
{
	__u32 at = ranges->rules + (number >> 4);
	struct line *line;

	if (!ranges->rules)
		return common;
	line = bpf_map_lookup_elem(image, &at);
	return line ? line->words[number & 15] : common;
}

GLOBAL __u32 find_range4(const struct packet *packet, const struct step *step)
{
	__u32 address, number, width;
	const struct ranges *ranges;
	void *image;

	if (!packet || !step || !(image = image_of(step)))
		return NO_RULE;
	ranges = &step->ranges;
	address = bpf_ntohl(step->conditions & OF_DESTINATION ? packet->key.v4.daddr :
								packet->key.v4.saddr);
	if (!find_window(ranges, image, address, &number, &width))
		return NO_RULE;
	for (int i = 0; i < 24; i++) {
		__u32 next = number + (width >> 1), at = ranges->entries + (next >> 3);
		struct range4 *entries;

		width >>= 1;
		if (!width)
			break;
		if (next >= ranges->count)
			continue;
		entries = bpf_map_lookup_elem(image, &at);
		if (!entries)
			return NO_RULE;
		if (entries[next & 7].first <= address)
			number = next;
	}
	{
		__u32 at = ranges->entries + (number >> 3);
		struct range4 *entries = bpf_map_lookup_elem(image, &at);

		if (!entries || address < entries[number & 7].first ||
		    address > entries[number & 7].last)
			return NO_RULE;
	}
	return rule_of_range(ranges, image, number, step->rule);
}

static __always_inline int is_before(__u64 high, __u64 low, __u64 other_high, __u64 other_low)
{
	return high < other_high || (high == other_high && low < other_low);
}

GLOBAL __u32 find_range6(const struct packet *packet, const struct step *step)
{
	const struct ranges *ranges;
	__u32 number, width;
	__u64 high, low;
	void *image;

	if (!packet || !step || !(image = image_of(step)))
		return NO_RULE;
	ranges = &step->ranges;
	if (step->conditions & OF_DESTINATION) {
		high = bpf_be64_to_cpu(packet->key.words[2]);
		low = bpf_be64_to_cpu(packet->key.words[3]);
	} else {
		high = bpf_be64_to_cpu(packet->key.words[0]);
		low = bpf_be64_to_cpu(packet->key.words[1]);
	}
	if (!find_window(ranges, image, high, &number, &width))
		return NO_RULE;
	for (int i = 0; i < 24; i++) {
		__u32 next = number + (width >> 1), at = ranges->entries + (next >> 1);
		struct range6 *entries;

		width >>= 1;
		if (!width)
			break;
		if (next >= ranges->count)
			continue;
		entries = bpf_map_lookup_elem(image, &at);
		if (!entries)
			return NO_RULE;
		if (!is_before(high, low, entries[next & 1].first_high,
			       entries[next & 1].first_low))
			number = next;
	}
	{
		__u32 at = ranges->entries + (number >> 1);
		struct range6 *entries = bpf_map_lookup_elem(image, &at);

		if (!entries ||
		    is_before(high, low, entries[number & 1].first_high,
			      entries[number & 1].first_low) ||
		    is_before(entries[number & 1].last_high, entries[number & 1].last_low, high,
			      low))
			return NO_RULE;
	}
	return rule_of_range(ranges, image, number, step->rule);
}

static __always_inline struct dynamic_entry *find_dynamic(const struct packet *packet,
							  const struct step *step)
{
	if (packet->family == FAMILY_IPV4) {
		struct dynamic4 key = { .table = step->first };

#pragma unroll
		for (int i = 0; i < 4; i++)
			key.words[i] = packet->key.halves[i] & step->mask.halves[i];
		return bpf_map_lookup_elem(&dynamic_ipv4, &key);
	} else {
		struct dynamic6 key = { .table = step->first };

#pragma unroll
		for (int i = 0; i < 10; i++)
			key.words[i] = packet->key.halves[i] & step->mask.halves[i];
		return bpf_map_lookup_elem(&dynamic_ipv6, &key);
	}
}

/* What a dynamic entry has for the packet. It counts `weight` packets if it matches: 1, 0 where
 * it should not count, and -1 to take back what it did. */
GLOBAL int match_dynamic(const struct packet *packet, const struct step *step, __u64 generation,
			 __u32 first_host, __u64 weight)
{
	struct dynamic_entry *entry;

	if (!packet || !step)
		return NO_MATCH;
	entry = find_dynamic(packet, step);
	if (!entry || generation < entry->since || generation >= entry->until ||
	    (entry->deadline && bpf_ktime_get_ns() >= entry->deadline))
		return NO_MATCH;
	if (!is_of_me(packet, step->conditions, first_host))
		return NOT_OF_ME;
	if (weight) {
		__sync_fetch_and_add(&entry->packets, weight);
		__sync_fetch_and_add(&entry->bytes, weight * packet->bytes);
	}
	return MATCH;
}

/* What the entries of the policy have for the packet; the rule counts as dynamic entries do. */
static __always_inline int match_policy(const struct packet *packet, const struct step *step,
					__u32 first_host, __u64 weight)
{
	struct count *count;
	__u32 rule;

	if (step->kind == STEP_HASH)
		rule = packet->family == FAMILY_IPV4 ? find_hash4(packet, step) :
						       find_hash6(packet, step);
	else
		rule = packet->family == FAMILY_IPV4 ? find_range4(packet, step) :
						       find_range6(packet, step);
	if (rule == NO_RULE)
		return NO_MATCH;
	if (!is_of_me(packet, step->conditions, first_host))
		return NOT_OF_ME;
	if (!weight)
		return MATCH;
	count = bpf_map_lookup_elem(&counters, &rule);
	if (count) {
		count->packets += weight;
		count->bytes += weight * packet->bytes;
	}
	return MATCH;
}

GLOBAL int match_policy_apart(const struct packet *packet, const struct step *step,
			      __u32 first_host, __u64 weight)
{
	return packet && step ? match_policy(packet, step, first_host, weight) : NO_MATCH;
}

/* Whether ports, protocol and interface type are those of the step. */
static __always_inline int meets(const struct walk *walk, const struct step *step)
{
	const struct packet *packet = walk->packet;

	if (step->interface_type && step->interface_type != walk->interface_type)
		return 0;
	if (step->conditions & IF_PORTS) {
		__u16 sport, dport;

		if (!packet->has_ports)
			return 0;
		sport = bpf_ntohs(packet->family == FAMILY_IPV4 ? packet->key.v4.sport :
								  packet->key.v6.sport);
		dport = bpf_ntohs(packet->family == FAMILY_IPV4 ? packet->key.v4.dport :
								  packet->key.v6.dport);
		if (sport < step->sport_first || sport > step->sport_last ||
		    dport < step->dport_first || dport > step->dport_last)
			return 0;
	}
	if (step->conditions & IF_PROTOCOL) {
		__u8 protocol = packet->family == FAMILY_IPV4 ? packet->key.v4.protocol :
								packet->key.v6.protocol;

		return protocol == step->ranges.protocol;
	}
	return 1;
}

/* One step; returns 1 when it decided, which ends the walk (bpf_loop's convention). In the first
 * of a packet the look-up stands in line; the others call it, and the verifier sees it once. */
static __always_inline long take_step(__u32 number, struct walk *walk, int in_line)
{
	__u32 at = walk->first_step + number;
	struct step *step = bpf_map_lookup_elem(walk->state, &at);
	__u64 weight;
	int found;

	if (!step)
		return 1;
	if (has_loop && step->conditions & AUDITS && walk->audited)
		return 0;
	if (!meets(walk, step))
		return 0;
	/* Whether an audit counts is known at the end. */
	weight = (step->conditions & (COUNTS | AUDITS)) == COUNTS && !walk->uncertain;
	if (step->kind == STEP_DYNAMIC)
		found = match_dynamic(walk->packet, step, walk->generation, walk->first_host,
				      weight);
	else if (in_line)
		found = match_policy(walk->packet, step, walk->first_host, weight);
	else
		found = match_policy_apart(walk->packet, step, walk->first_host, weight);
	/* A permit, or audit, that is not counted here is one of those that nftables judges by once
	 * more, and nftables asks the routing tables what is this host's: what it may let through,
	 * or count, is not dropped. */
	if (found == NOT_OF_ME && !(step->conditions & (BLOCKS | COUNTS)))
		walk->uncertain = 1;
	if (found != MATCH)
		return 0;
	if (step->conditions & AUDITS) {
		/* Without bpf_loop the verifier looks at every way through the steps, and would
		 * look at twice as many: whoever judges after the programs has the packet then. */
		if (!has_loop)
			return 1;
		walk->audited = at;
		return 0;
	}
	walk->decided = at;
	walk->outcome = step->conditions & BLOCKS ? DROPPED : PASSED;
	return 1;
}

/* Have a step count a packet that it found, once more or (with a `weight` of -1) no more. It does
 * so if it has one of these conditions; returns whether it has. */
static __always_inline int count_again(const struct walk *walk, __u32 at, __u32 conditions,
				       __u64 weight)
{
	struct step *step = bpf_map_lookup_elem(walk->state, &at);

	if (!step || !(step->conditions & conditions))
		return 0;
	if (step->kind == STEP_DYNAMIC)
		match_dynamic(walk->packet, step, walk->generation, walk->first_host, weight);
	else
		match_policy_apart(walk->packet, step, walk->first_host, weight);
	return 1;
}

static long take_step_callback(__u32 number, void *walk)
{
	return take_step(number + 1, walk, 0);
}

/* Whether the head says that packets with this protocol and destination port may be exempt. */
static __always_inline int may_be_exempt(const struct head *head, __u8 protocol, __be16 dport)
{
	__u64 ports = head->exempt[EXEMPT_OTHER];

	if (protocol == IPPROTO_UDP)
		ports = head->exempt[EXEMPT_UDP];
	else if (protocol == IPPROTO_TCP)
		ports = head->exempt[EXEMPT_TCP];
	return ports >> (bpf_ntohs(dport) & (EXEMPT_BITS - 1)) & 1;
}

/* Whether a pattern matches the packet. */
static __always_inline int is_exempt(struct walk *walk, const struct head *head)
{
	const struct packet *packet = walk->packet;
	int v4 = packet->family == FAMILY_IPV4;
	__u8 protocol = v4 ? packet->key.v4.protocol : packet->key.v6.protocol;
	__u32 first = head->first_pattern, patterns = head->patterns;

	/* Most packets have a port that none matches, and are spared the look-up of each. Without
	 * bpf_loop the verifier has enough to look at. */
	if (has_loop &&
	    !may_be_exempt(head, protocol, v4 ? packet->key.v4.dport : packet->key.v6.dport))
		return 0;
	for (int i = 0; i < MAX_PATTERNS; i++) {
		__u32 at = first + i;
		struct pattern *pattern;

		if (i >= patterns)
			break;
		pattern = bpf_map_lookup_elem(walk->state, &at);
		if (!pattern)
			break;
		if (pattern->fields & HAS_PROTOCOL && pattern->protocol != protocol)
			continue;
		if (pattern->fields & (HAS_SPORT | HAS_DPORT) && !packet->has_ports)
			continue;
		if (pattern->fields & HAS_SPORT &&
		    pattern->sport != (v4 ? packet->key.v4.sport : packet->key.v6.sport))
			continue;
		if (pattern->fields & HAS_DPORT &&
		    pattern->dport != (v4 ? packet->key.v4.dport : packet->key.v6.dport))
			continue;
		if (pattern->fields & HAS_HOP_LIMIT && pattern->hop_limit != packet->hop_limit)
			continue;
		if (pattern->fields & HAS_ICMP_TYPES &&
		    pattern->icmp_types[0] != packet->icmp_type &&
		    pattern->icmp_types[1] != packet->icmp_type &&
		    pattern->icmp_types[2] != packet->icmp_type &&
		    pattern->icmp_types[3] != packet->icmp_type)
			continue;
		if (pattern->cast == CAST_MULTICAST && !is_multicast(packet))
			continue;
		if (pattern->cast == CAST_BROADCAST && !is_limited_broadcast(packet) &&
		    !(v4 && destination_local(packet, walk->first_host) & LOCAL_BROADCAST))
			continue;
		return 1;
	}
	return 0;
}

static __always_inline struct head *head_of(void *state, enum point point, __u8 family)
{
	__u32 line = point * FAMILIES + (family == FAMILY_IPV6);

	return bpf_map_lookup_elem(state, &line);
}

/* What becomes of a packet that was parsed. Exempt packets are looked for only among those
 * that would be dropped: the outcome is the same, and what passes need not pay for it. */
static __always_inline enum outcome classify(struct packet *packet, enum point point,
					     enum interface_type type)
{
	struct walk walk = { .packet = packet, .interface_type = type };
	__u32 zero = 0, outcome;
	struct head *head;

	walk.state = bpf_map_lookup_elem(&state, &zero);
	if (!walk.state)
		return PASSED;
	head = head_of(walk.state, point, packet->family);
	if (!head || !head->steps)
		return PASSED;
	/* nftables sees a datagram whole where it is put together before, and then it has ports. Of
	 * one that is blocked the first fragment does not pass. */
	if (packet->fragment == LATER_FRAGMENT && head->pass_fragments)
		return PASSED;
	walk.generation = head->generation;
	walk.first_host = head->first_host;
	walk.first_step = head->first_step;
	/* Most policies that drop a packet do so in the first step; it is spared the call. */
	if (take_step(0, &walk, 1) || head->steps == 1) {
		;
	} else if (has_loop) {
		bpf_loop(head->steps - 1, take_step_callback, &walk, 0);
	} else {
		for (__u32 i = 1; i < MAX_STEPS_UNROLLED; i++) {
			if (i >= head->steps || take_step(i, &walk, 0))
				break;
		}
	}
	if (!has_loop) {
		/* There are no audits here, and what the verifier of such kernels takes is little.
		 */
		if (!walk.decided || walk.outcome == PASSED || walk.uncertain)
			return PASSED;
		if (!is_exempt(&walk, head))
			return DROPPED;
		count_again(&walk, walk.decided, COUNTS, -1);
		return PASSED;
	}
	outcome = walk.decided && walk.outcome == DROPPED && !walk.uncertain ? DROPPED : PASSED;
	outcome |= walk.audited ? AUDITED : PASSED;
	if (!outcome)
		return PASSED;
	/* Which packets are exempt has nothing to do with what was found: the verifier looks at it
	 * once, and not anew for all that can have been found. A call costs more than a word. */
	outcome ^= head->zero;
	walk.audited ^= head->zero;
	walk.decided ^= head->zero;
	if (is_exempt(&walk, head)) {
		if (outcome & DROPPED)
			count_again(&walk, walk.decided, COUNTS, -1);
		return PASSED;
	}
	if (outcome & AUDITED &&
	    !count_again(&walk, walk.audited, outcome & DROPPED ? AUDITS : COUNTS, 1))
		outcome &= ~AUDITED;
	return outcome;
}

static __always_inline void datagram_of(const struct packet *packet, struct datagram *datagram)
{
	__builtin_memset(datagram, 0, sizeof(*datagram));
	datagram->id = packet->id;
	if (packet->family == FAMILY_IPV4) {
		datagram->saddr[0] = packet->key.v4.saddr;
		datagram->daddr[0] = packet->key.v4.daddr;
		datagram->protocol = packet->key.v4.protocol;
	} else {
		__builtin_memcpy(datagram->saddr, packet->key.v6.saddr, 16);
		__builtin_memcpy(datagram->daddr, packet->key.v6.daddr, 16);
		datagram->protocol = 256 + packet->key.v6.protocol;
	}
}

/* A datagram that leaves was fragmented after the point at which it is judged as one: its
 * later fragments share the fate of the first, which goes out before them. */
static __always_inline enum outcome classify_leaving(struct packet *packet, enum point point,
						     enum interface_type type)
{
	struct datagram datagram = {};
	__u32 *known, outcome;

	if (packet->fragment != NOT_FRAGMENT)
		datagram_of(packet, &datagram);
	if (packet->fragment == LATER_FRAGMENT) {
		known = bpf_map_lookup_elem(&datagrams, &datagram);
		if (known)
			return *known & DROPPED;
	}
	/* It stands here once, or the verifier would look at all of it three times. */
	outcome = classify(packet, point, type);
	if (packet->fragment == FIRST_FRAGMENT)
		bpf_map_update_elem(&datagrams, &datagram, &outcome, BPF_ANY);
	return outcome;
}

/* What becomes of a frame that was not parsed; it is counted by what was wrong. */
static __always_inline enum outcome judge_unparsed(enum parse_result result, enum point point)
{
	__u32 zero = 0, line = result;
	__u64 *count = bpf_map_lookup_elem(&parsing, &line);
	void *inner = bpf_map_lookup_elem(&state, &zero);
	struct head *head;

	if (count)
		(*count)++;
	if (result == NOT_IP || !inner)
		return PASSED;
	head = head_of(inner, point, FAMILY_IPV4);
	return head && head->drop_unparsable ? DROPPED : PASSED;
}

#endif
