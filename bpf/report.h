/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tells the daemon which packets are dropped, or counted by audits, as far as it asks; must not
 * know why they are.
 *
 * Nobody asks most of the time: then a drop costs one look at a word that does not change. How many
 * packets may be told of is a number that the daemon raises ten times a second, so no program reads
 * a clock for it. A flood reaches that number, and costs a comparison and a count from then on.
 */
#ifndef IPSECD_REPORT_H
#define IPSECD_REPORT_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "maps.h"
#include "parse.h"

#define WORD_BYTES 8

/* Whether somebody watches. */
static __always_inline int is_watched(void)
{
	__u32 zero = 0;
	struct reporting *asked = bpf_map_lookup_elem(&reporting, &zero);

	return asked && *(volatile __u64 *)&asked->limit;
}

/* The generation of the state in force. It stands in every head. */
static __always_inline __u64 generation_in_force(void)
{
	__u32 zero = 0;
	void *lines = bpf_map_lookup_elem(&state, &zero);
	struct head *head = lines ? bpf_map_lookup_elem(lines, &zero) : 0;

	return head ? head->generation : 0;
}

/* Count what became of a frame, and begin to tell of it; 0 where there is no room, or no more is
 * asked for. */
static __always_inline struct report *begin_report(__u32 interface, __u32 length, __u32 point,
						   __u32 bare, __u32 outcome)
{
	__u32 zero = 0;
	struct reporting *asked = bpf_map_lookup_elem(&reporting, &zero);
	__u64 *count = bpf_map_lookup_elem(&drops, &zero), limit;
	struct report *report;

	if (count)
		*count += !!(outcome & DROPPED) + !!(outcome & AUDITED);
	if (!asked)
		return 0;
	limit = *(volatile __u64 *)&asked->limit;
	/* What is reached is only read: processors do not take the line from each other then. */
	if (*(volatile __u64 *)&asked->told >= limit ||
	    __sync_fetch_and_add(&asked->told, 1) >= limit)
		return 0;
	report = bpf_ringbuf_reserve(&reports, sizeof(*report), 0);
	if (!report)
		return 0;
	report->at = bpf_ktime_get_ns();
	report->generation = generation_in_force();
	report->interface = interface;
	report->length = length;
	report->captured = 0;
	report->point = point;
	report->bare = bare;
	report->outcome = outcome;
	return report;
}

/* Append so many bytes to `report`, if they lie before the `end` of the frame. */
#define COPY_IF_THERE(bytes)                                                                       \
	if (data + (bytes) <= end) {                                                               \
		__builtin_memcpy(report->frame + captured, data, bytes);                           \
		data += (bytes);                                                                   \
		captured += (bytes);                                                               \
	}

/* A frame at XDP, of which the linear part can be read. */
GLOBAL int report_received(struct xdp_md *frame, __u32 bare, __u32 outcome)
{
	void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
	struct report *report;
	__u32 captured = 0;

	report = begin_report(frame->ingress_ifindex, end - data, POINT_ARRIVING, bare, outcome);
	if (!report)
		return 0;
#pragma unroll
	for (int i = 0; i < REPORTED_BYTES / WORD_BYTES; i++) {
		if (data + WORD_BYTES > end)
			break;
		COPY_IF_THERE(WORD_BYTES);
	}
	/* Less than a word is left. */
	if (captured < REPORTED_BYTES) {
		COPY_IF_THERE(4);
		COPY_IF_THERE(2);
		COPY_IF_THERE(1);
	}
	report->captured = captured;
	bpf_ringbuf_submit(report, 0);
	return 0;
}

/* A frame at tc, where the kernel reads what is not in the linear part. It finds
 * the point by itself: what the caller keeps for it doubles what the verifier has to look at. */
GLOBAL int report_filtered(struct __sk_buff *frame, __u32 egress, __u32 bare, __u32 outcome)
{
	struct report *report;
	enum point point = POINT_ARRIVING;
	__u32 last = frame->len;

	if (egress)
		point = frame->ingress_ifindex ? POINT_LEAVING : POINT_SENDING;
	report = begin_report(frame->ifindex, last, point, bare, outcome);
	if (!report)
		return 0;
	/* Linux 6.1 does not learn from a comparison with 0 that a number is at least 1. */
	last = (last < REPORTED_BYTES ? last : REPORTED_BYTES) - 1;
	OPAQUE(last);
	if (last < REPORTED_BYTES && !bpf_skb_load_bytes(frame, 0, report->frame, last + 1))
		report->captured = last + 1;
	bpf_ringbuf_submit(report, 0);
	return 0;
}

#endif
