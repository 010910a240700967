// SPDX-License-Identifier: GPL-2.0-or-later
/* What the programs are compared with: the least that a filter can do, and one look-up.
 *
 * The programs named `random_` take the source address of each run from a list, as a flood has
 * it: one packet over and over finds everything in the cache.
 */
#include "../bpf/ipsecd.bpf.c"

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

/* Back out of the interface it came from: what sends a flood. */
SEC("xdp") int transmit(struct xdp_md *frame)
{
	return frame->data_end > frame->data ? XDP_TX : XDP_DROP;
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

#define SOURCES (1 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SOURCES);
	__type(key, __u32);
	__type(value, __u64);
} sources SEC(".maps");

static __u32 next_source;

/* Write the next source address into a frame of Ethernet and IPv4. */
static __always_inline int take_source(struct xdp_md *frame)
{
	struct ethhdr *ethernet = (void *)(long)frame->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	__u32 number = next_source++ & (SOURCES - 1);
	__u64 *source = bpf_map_lookup_elem(&sources, &number);

	if (!source || (void *)(ip + 1) > (void *)(long)frame->data_end)
		return 0;
	ip->saddr = *source;
	return 1;
}

SEC("xdp") int random_floor(struct xdp_md *frame)
{
	return take_source(frame) ? XDP_DROP : XDP_ABORTED;
}

SEC("xdp") int random_trie(struct xdp_md *frame)
{
	struct prefix key = { .length = 32 };
	struct packet packet;

	if (!take_source(frame) ||
	    parse((void *)(long)frame->data, (void *)(long)frame->data_end, 0, &packet) != PARSED)
		return XDP_ABORTED;
	key.address = packet.key.v4.saddr;
	return bpf_map_lookup_elem(&prefixes, &key) ? XDP_DROP : XDP_PASS;
}

SEC("xdp") int random_ipsecd(struct xdp_md *frame)
{
	return take_source(frame) ? receive(frame, 0, INTERFACE_LAN) : XDP_ABORTED;
}
