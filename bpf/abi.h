/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs and the daemon share: the layout of every map, and its limits.
 *
 * The daemon's side is daemon/ipsecd/backend/xdp/abi.py; a test compares both with the type
 * information of the object. A change here needs another IPSECD_ABI.
 *
 * The compiled policy is an array of lines of 64 bytes, one cache line each. Numbers are in the
 * byte order of the host, addresses and ports in that of the network, unless a name says so.
 */
#ifndef IPSECD_ABI_H
#define IPSECD_ABI_H

#include <linux/types.h>

#define IPSECD_ABI 8

#define LINE_BYTES 64
#define HOST_LINE_BITS 14
#define HOST_LINES (1 << HOST_LINE_BITS) /* of one IP version, in one half of the map */
#define HOST_PROBES 8
#define HASH_PROBES 8
#define MAX_STEPS 4096 /* of one point and IP version */
#define MAX_STEPS_UNROLLED 16 /* where the kernel has no bpf_loop (before Linux 5.17) */
#define MAX_PATTERNS 16 /* of one point and IP version */
#define MAX_EXTENSION_HEADERS 8
#define IMAGES 16
#define EXEMPT_BITS 64

enum family { FAMILY_IPV4, FAMILY_IPV6, FAMILIES };

enum point { POINT_ARRIVING, POINT_SENDING, POINT_LEAVING, POINTS };

enum interface_type { INTERFACE_ANY, INTERFACE_LAN, INTERFACE_DIALUP };

/* One outcome of parsing; each has a counter. All but PARSED and NOT_IP are "unparsable". */
enum parse_result {
	PARSED,
	NOT_IP,
	LINK_TRUNCATED,
	NETWORK_TRUNCATED,
	NETWORK_INVALID,
	TOO_MANY_HEADERS,
	HEADERS_TRUNCATED,
	TRANSPORT_TRUNCATED,
	PARSE_RESULTS,
};

struct key4 {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 zero[3];
};

struct key6 {
	__be32 saddr[4];
	__be32 daddr[4];
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 zero[3];
};

union key {
	struct key4 v4;
	struct key6 v6;
	__u64 words[5];
	__u32 halves[10];
};

/* By protocol, which destination ports may be exempt: bit N stands for all ports that leave N when
 * they are divided by EXEMPT_BITS. ICMP has type and code there, and what has no ports has port 0.
 */
enum exempt_word { EXEMPT_UDP, EXEMPT_TCP, EXEMPT_OTHER, EXEMPT_WORDS };

/* The first lines of the state map: line `point * FAMILIES + family`. */
struct head {
	__u32 first_step; /* a line of the state map */
	__u32 steps;
	__u32 first_pattern; /* likewise; what is exempt, looked at before a packet is dropped */
	__u32 patterns;
	__u32 drop_unparsable;
	__u32 first_host; /* which half of the hosts map counts: its first line */
	__u64 generation; /* which dynamic entries count: since <= generation < until */
	__u32 pass_fragments; /* whether the later ones are left to whoever sees datagrams whole */
	__u32 zero; /* always, of which the verifier knows nothing */
	__u64 exempt[EXEMPT_WORDS];
};

/* The line after the heads: the digest of the classifier that the state was made from. */
struct mark {
	__u8 digest[32];
	__u8 unused[32];
};

enum step_kind {
	STEP_HASH, /* one key, in the hash lines of an image */
	STEP_RANGES, /* one address, in the sorted ranges of an image */
	STEP_DYNAMIC, /* one key, in the map of dynamic entries */
};

enum condition {
	IF_PORTS = 1, /* the packet has ports (or type and code), each in the range of the step */
	IF_SOURCE_ME = 2,
	IF_DESTINATION_ME = 4,
	IF_PROTOCOL = 8, /* ranges only: elsewhere it is part of the key */
	OF_DESTINATION = 16, /* ranges are of the destination, not of the source */
	BLOCKS = 32,
	COUNTS = 64, /* what the step finds is counted here, and not by whoever judges after it */
	AUDITS = 128, /* decides nothing, and counts if it COUNTS or the packet is dropped */
};

/* Where the sorted, disjoint ranges of a step lie: `index` holds for each bucket of the address
 * space `first << 5 | log2` of the window of ranges that can hold its addresses, `entries` the
 * ranges, `rules` the counter of each. Addresses of IPv6 count by their upper 64 bits. Windows of
 * lists may lie anywhere among the entries, with their last range repeated to the end. */
struct ranges {
	__u64 origin; /* the least address that any range holds, upper 64 bits */
	__u32 buckets;
	__u32 index; /* first lines in the image */
	__u32 entries;
	__u32 rules; /* 0: all have the rule of the step */
	__u32 count; /* of ranges, with the room for more */
	__u8 shift; /* bits of an address within one bucket */
	__u8 protocol; /* for IF_PROTOCOL */
	__u8 unused[10];
};

#define NO_RANGES 31 /* log2 of a bucket without ranges */

/* One look-up. They are in the order of rank, and the first that finds something decides, but for
 * audits: if one of these is the first, the next that is none. */
struct step {
	__u8 kind;
	__u8 conditions;
	__u8 interface_type;
	__u8 image; /* which image holds the lines */
	__u32 rule; /* the counter of what is found, unless entries have their own */
	__u32 first; /* hash: the first line; dynamic: the number of the table */
	__u32 lines; /* hash: how many, less one; a power of two before that */
	__u16 sport_first; /* ports in the byte order of the host */
	__u16 sport_last;
	__u16 dport_first;
	__u16 dport_last;
	union {
		union key mask; /* hash and dynamic: what of the packet's key counts */
		struct ranges ranges;
	};
};

enum cast { CAST_ANY, CAST_MULTICAST, CAST_BROADCAST };

enum pattern_field {
	HAS_PROTOCOL = 1,
	HAS_SPORT = 2,
	HAS_DPORT = 4,
	HAS_HOP_LIMIT = 8,
	HAS_ICMP_TYPES = 16,
};

/* One kind of exempt packet. */
struct pattern {
	__u8 fields;
	__u8 protocol;
	__u8 hop_limit;
	__u8 cast;
	__be16 sport;
	__be16 dport;
	__u8 icmp_types[4]; /* the last repeated where there are fewer */
	__u8 unused[52];
};

/* A line of hash entries: `used` of them, and HASH_CONTINUES if the next line has more. */
#define HASH_CONTINUES 0x80000000u

struct hash4 {
	struct key4 keys[3];
	__u32 rules[3];
	__u32 used;
};

struct hash6 {
	struct key6 key;
	__u32 rule;
	__u32 used;
	__u8 unused[16];
};

struct range4 {
	__u32 first; /* addresses in the byte order of the host, both included */
	__u32 last;
};

struct range6 {
	__u64 first_high, first_low;
	__u64 last_high, last_low;
};

enum local { LOCAL_OWN = 1, LOCAL_BROADCAST = 2 };

struct host4 {
	__be32 addresses[12];
	__u8 local[12];
	__u32 used;
};

struct host6 {
	struct {
		__u64 words[2]; /* as the packet has them */
	} addresses[3];
	__u8 local[4];
	__u32 zero[2];
	__u32 used;
};

struct line {
	__u32 words[LINE_BYTES / 4];
};

/* What is known of an arriving packet by its IP version, protocol and destination port alone.
 * One word for each: the outcome in the low bits, above them the rule that counts the packet. */
enum shortcut {
	SHORTCUT_NONE, /* the steps have to be walked */
	SHORTCUT_PASS, /* no step can find anything */
	SHORTCUT_DROP, /* the rule drops it, from wherever to wherever it goes */
	SHORTCUT_DROP_ME, /* the rule drops it if it is for this host, else the steps are walked */
};

#define SHORTCUT_BITS 2
#define SHORTCUT_PORTS 4096 /* lines of one IP version and protocol */
#define SHORTCUT_PROTOCOLS 2 /* TCP, UDP */
#define SHORTCUT_LINES (FAMILIES * SHORTCUT_PROTOCOLS * SHORTCUT_PORTS)

struct dynamic4 {
	__u32 table;
	union {
		struct key4 key;
		__u32 words[4];
	};
};

struct dynamic6 {
	__u32 table;
	union {
		struct key6 key;
		__u32 words[10];
	};
};

struct dynamic_entry {
	__u64 deadline; /* nanoseconds of CLOCK_MONOTONIC; 0 for none */
	__u64 since; /* generations of the state */
	__u64 until;
	__u64 packets;
	__u64 bytes;
};

struct count {
	__u64 packets;
	__u64 bytes; /* of the network layer, header included */
};

/* What the daemon asks to be told of drops. `limit` is its own to write, and 0 for nothing at all.
 */
struct reporting {
	__u64 limit;
	__u64 told; /* never more reports than `limit`; it may count some that it then did not let
		       by */
	__u8 unused[48];
};

#define REPORT_RING_BYTES (1 << 20)
#define REPORTED_BYTES 152 /* of a frame: Ethernet, two tags, and 128 of the packet */

/* What became of a frame. An audit counts here what is dropped, and all where no backend judges
 * after the programs. */
enum outcome { PASSED, DROPPED = 1, AUDITED = 2 };

/* One frame that was dropped, or that an audit has counted, or both. */
struct report {
	__u64 at; /* nanoseconds of CLOCK_MONOTONIC */
	__u64 generation;
	__u32 interface;
	__u32 length; /* of the frame; at XDP of its linear part */
	__u16 captured; /* how many of its first bytes follow */
	__u8 point;
	__u8 bare; /* whether the frame begins with the IP header */
	__u8 outcome;
	__u8 unused[3];
	__u8 frame[REPORTED_BYTES];
};

/* What became of the first fragment of a datagram that this host sends, for the later ones. */
struct datagram {
	__be32 saddr[4];
	__be32 daddr[4];
	__be32 id;
	__u32 protocol;
};

#endif
