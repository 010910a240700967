// SPDX-License-Identifier: GPL-2.0-or-later
/* The programs: for each way in which a link delivers packets, and each type of interface.
 *
 * A frame arrives at XDP, or at tc ingress where a link has an XDP program of somebody else;
 * it leaves at tc egress. Which of them an interface gets does not change while it exists, so
 * no packet has to look it up.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "classify.h"
#include "maps.h"
#include "parse.h"
#include "report.h"
#include "shortcut.h"

#define MAX_HEADERS 2048

static __always_inline int receive(struct xdp_md *frame, int bare, enum interface_type type)
{
	void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
	int action = bare ? XDP_ABORTED : take_shortcut(data, end);
	enum outcome outcome = DROPPED;
	enum parse_result result;
	struct packet packet;

	if (action == XDP_PASS)
		return XDP_PASS;
	if (action == XDP_ABORTED) {
		result = parse(data, end, bare, &packet);
		outcome = result == PARSED ? classify(&packet, POINT_ARRIVING, type) :
					     judge_unparsed(result, POINT_ARRIVING);
	}
	if (outcome && is_watched())
		report_received(frame, bare, outcome);
	return outcome & DROPPED ? XDP_DROP : XDP_PASS;
}

static __always_inline int filter(struct __sk_buff *frame, int bare, enum interface_type type,
				  int egress)
{
	enum point point = POINT_ARRIVING;
	enum parse_result result;
	struct packet packet;
	enum outcome outcome;

	/* The stack drops it, or a link above takes it, in another namespace maybe. */
	if (!egress && !bare && frame->pkt_type == PACKET_OTHERHOST)
		return TC_ACT_UNSPEC;
	if (egress)
		point = frame->ingress_ifindex ? POINT_LEAVING : POINT_SENDING;
	result = parse((void *)(long)frame->data, (void *)(long)frame->data_end, bare, &packet);
	if (result != PARSED && result != NOT_IP && frame->data_end - frame->data < frame->len) {
		__u32 wanted = frame->len < MAX_HEADERS ? frame->len : MAX_HEADERS;

		bpf_skb_pull_data(frame, wanted);
		result = parse((void *)(long)frame->data, (void *)(long)frame->data_end, bare,
			       &packet);
	}
	if (result != PARSED)
		outcome = judge_unparsed(result, point);
	else if (egress)
		outcome = classify_leaving(&packet, point, type);
	else
		outcome = classify(&packet, point, type);
	if (outcome && is_watched())
		report_filtered(frame, egress, bare, outcome);
	return outcome & DROPPED ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

#define PROGRAMS(name, bare, type)                                                                 \
	SEC("xdp.frags") int receive_##name(struct xdp_md *frame)                                  \
	{                                                                                          \
		return receive(frame, bare, type);                                                 \
	}                                                                                          \
	SEC("tc") int arrive_##name(struct __sk_buff *frame)                                       \
	{                                                                                          \
		return filter(frame, bare, type, 0);                                               \
	}                                                                                          \
	SEC("tc") int leave_##name(struct __sk_buff *frame)                                        \
	{                                                                                          \
		return filter(frame, bare, type, 1);                                               \
	}

PROGRAMS(lan, 0, INTERFACE_LAN)
PROGRAMS(lan_bare, 1, INTERFACE_LAN)
PROGRAMS(dialup, 0, INTERFACE_DIALUP)
PROGRAMS(dialup_bare, 1, INTERFACE_DIALUP)

char LICENSE[] SEC("license") = "GPL";
