// SPDX-License-Identifier: GPL-2.0-or-later
/* What it costs that an XDP program asks for a packet's connection, beside dropping at once. */
#include "floor.bpf.c"

/* net/netfilter/nf_conntrack_bpf.c of Linux 6.10 and later; before that it ends after `dir`. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u16 ct_zone_id;
	__u8 ct_zone_dir;
	__u8 reserved[3];
};

/* Never looked into, but libbpf compares functions by the kinds of what they are given. */
struct nf_conn {
	__u64 unread;
};

struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *frame, struct bpf_sock_tuple *tuple,
				  __u32 tuple__sz, struct bpf_ct_opts *opts, __u32 opts__sz) __ksym;
void bpf_ct_release(struct nf_conn *connection) __ksym;

static __always_inline int has_connection(struct xdp_md *frame, const struct packet *packet)
{
	struct bpf_ct_opts opts = { .netns_id = BPF_F_CURRENT_NETNS };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *connection;

	tuple.ipv4.saddr = packet->key.v4.saddr;
	tuple.ipv4.daddr = packet->key.v4.daddr;
	tuple.ipv4.sport = packet->key.v4.sport;
	tuple.ipv4.dport = packet->key.v4.dport;
	opts.l4proto = packet->key.v4.protocol;
	connection = bpf_xdp_ct_lookup(frame, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	if (!connection)
		return 0;
	bpf_ct_release(connection);
	return 1;
}

SEC("xdp") int drop_parsed(struct xdp_md *frame)
{
	struct packet packet;

	return parse((void *)(long)frame->data, (void *)(long)frame->data_end, 0, &packet) ==
			       PARSED ?
		       XDP_DROP :
		       XDP_PASS;
}

SEC("xdp") int ask(struct xdp_md *frame)
{
	struct packet packet;

	if (parse((void *)(long)frame->data, (void *)(long)frame->data_end, 0, &packet) != PARSED)
		return XDP_PASS;
	return has_connection(frame, &packet) ? XDP_PASS : XDP_DROP;
}

/* What ipsecd's programs pass on is asked about; what a policy permits, too, so it is no firewall.
 */
SEC("xdp") int ipsecd_then_ask(struct xdp_md *frame)
{
	int action = receive(frame, 0, INTERFACE_LAN);
	struct packet packet;

	if (action != XDP_PASS ||
	    parse((void *)(long)frame->data, (void *)(long)frame->data_end, 0, &packet) != PARSED)
		return action;
	return has_connection(frame, &packet) ? XDP_PASS : XDP_DROP;
}
