/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The maps, their sizes, and the settings that are fixed when the programs are loaded.
 *
 * What a policy consists of is replaced whole, by one update of an outer map, and never edited, but
 * for the ranges of lists: these are, while no packet looks at any step.
 */
#ifndef IPSECD_MAPS_H
#define IPSECD_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"

#define INNER_LINES                                                                                \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE);                               \
		__uint(max_entries, 1);                                                            \
		__uint(key_size, sizeof(__u32));                                                   \
		__uint(value_size, sizeof(struct line));                                           \
	}

/* Heads, mark, steps and patterns. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, INNER_LINES);
} state SEC(".maps");

/* What the steps of a policy look into. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, IMAGES);
	__type(key, __u32);
	__array(values, INNER_LINES);
} images SEC(".maps");

/* The addresses of this host, in two halves of which one counts: the lines of IPv4, then those
 * of IPv6. Not a map in a map: this look-up is on the way of every packet that is dropped. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * FAMILIES * HOST_LINES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct line));
} hosts SEC(".maps");

/* By IP version, protocol and destination port; and a last line: first the line of `hosts`
 * from which addresses count, and from byte 32 the digest of the policy, for the daemon. What no
 * shortcut is known for is always right: it says so of everything while the state is replaced. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SHORTCUT_LINES + 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct line));
} shortcuts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct dynamic4);
	__type(value, struct dynamic_entry);
} dynamic_ipv4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct dynamic6);
	__type(value, struct dynamic_entry);
} dynamic_ipv6 SEC(".maps");

/* By the number of the rule; the daemon says how many there can be. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct count);
} counters SEC(".maps");

/* Where each rule was written, by its number: text, in lines. The programs do not read it: it
 * leads from a counter back to what a person wrote. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, INNER_LINES);
} origins SEC(".maps");

/* By parse_result; PARSED counts nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PARSE_RESULTS);
	__type(key, __u32);
	__type(value, __u64);
} parsing SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct datagram);
	__type(value, __u32);
} datagrams SEC(".maps");

/* What is told: one entry, which the daemon has as memory. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reporting);
} reporting SEC(".maps");

/* How many frames were dropped, and how many audits have counted, while it was asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} drops SEC(".maps");

/* Each is a struct report. Every kernel that takes the programs has rings (Linux 5.8). */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, REPORT_RING_BYTES);
} reports SEC(".maps");

/* Whether the kernel has bpf_loop, and so takes more steps than can be unrolled. */
const volatile __u8 has_loop = 1;

#endif
