// SPDX-License-Identifier: GPL-2.0-only
/* What the programs are compared with: the least that a filter can do, and one look-up. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "../bpf/abi.h"
#include "../bpf/parse.h"

struct port_key {
	__u32 protocol;
	__u32 dport;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct port_key);
	__type(value, __u64);
} ports SEC(".maps");

struct prefix {
	__u32 length;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 21);
	__type(key, struct prefix);
	__type(value, __u64);
} prefixes SEC(".maps");

SEC("xdp") int drop_at_once(struct xdp_md *frame)
{
	return frame->data_end > frame->data ? XDP_DROP : XDP_PASS;
}

SEC("xdp") int one_hash(struct xdp_md *frame)
{
	struct packet packet;
	struct port_key key = {};

	if (parse((void *)(long)frame->data, (void *)(long)frame->data_end, 0, &packet) != PARSED)
		return XDP_PASS;
	key.protocol = packet.key.v4.protocol;
	key.dport = packet.key.v4.dport;
	return bpf_map_lookup_elem(&ports, &key) ? XDP_DROP : XDP_PASS;
}

SEC("xdp") int one_trie(struct xdp_md *frame)
{
	struct packet packet;
	struct prefix key = { .length = 32 };

	if (parse((void *)(long)frame->data, (void *)(long)frame->data_end, 0, &packet) != PARSED)
		return XDP_PASS;
	key.address = packet.key.v4.saddr;
	return bpf_map_lookup_elem(&prefixes, &key) ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
