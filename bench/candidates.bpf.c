// SPDX-License-Identifier: GPL-2.0-or-later
/* Other ways to find an address in a long list of prefixes, each with nothing else around it. */
#include "floor.bpf.c"

#define SHORTEST 9
#define LONGEST 32

/* One bit for each /24, in the order of the address space: set if any prefix reaches into it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 15);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct line));
} blocks SEC(".maps");

/* The same keys as those of the trie, whole. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__type(key, struct prefix);
	__type(value, __u64);
} probes SEC(".maps");

/* Five hash functions, the kernel's own choice. */
struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 1 << 20);
	__type(value, struct prefix);
} bloom SEC(".maps");

static __always_inline int take_packet(struct xdp_md *frame, struct packet *packet)
{
	return take_source(frame) &&
	       parse((void *)(long)frame->data, (void *)(long)frame->data_end, 0, packet) == PARSED;
}

SEC("xdp") int random_bitmap(struct xdp_md *frame)
{
	struct prefix key = { .length = 32 };
	struct packet packet;
	__u32 block, at;
	__u8 *line;

	if (!take_packet(frame, &packet))
		return XDP_ABORTED;
	key.address = packet.key.v4.saddr;
	block = bpf_ntohl(key.address) >> 8;
	at = block >> 9;
	line = bpf_map_lookup_elem(&blocks, &at);
	if (!line || !(line[block >> 3 & 63] >> (block & 7) & 1))
		return XDP_PASS;
	return bpf_map_lookup_elem(&prefixes, &key) ? XDP_DROP : XDP_PASS;
}

/* The longest prefix first, as a list of rules of different actions would need it. */
static __always_inline int probe(struct xdp_md *frame, int ask_bloom)
{
	struct packet packet;
	__u32 address;

	if (!take_packet(frame, &packet))
		return XDP_ABORTED;
	address = bpf_ntohl(packet.key.v4.saddr);
	for (__u32 length = LONGEST; length >= SHORTEST; length--) {
		__u32 rest = LONGEST - length;
		struct prefix key = { .length = length,
				      .address = bpf_htonl(address >> rest << rest) };

		if (ask_bloom && bpf_map_peek_elem(&bloom, &key))
			continue;
		if (bpf_map_lookup_elem(&probes, &key))
			return XDP_DROP;
	}
	return XDP_PASS;
}

SEC("xdp") int random_hash(struct xdp_md *frame)
{
	return probe(frame, 0);
}

SEC("xdp") int random_bloom(struct xdp_md *frame)
{
	return probe(frame, 1);
}
