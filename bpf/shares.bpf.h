// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Bounds what one workload may take of what all share: entries of `interim`, and events.
//
// A workload is what no unprivileged process can leave: its cgroup at `workload_level` below the intercepted one (a
// pod; a container; the manager of a user, with all that it starts), or its own cgroup if that is higher up. All below
// one cgroup of the first level also have a bound together, because some may make cgroups at the workloads' level. The
// agent counts in the same way, but also sees who owns a cgroup: identity::ShareOf.
#ifndef KVEIL_BPF_SHARES_BPF_H
#define KVEIL_BPF_SHARES_BPF_H

#include "maps.bpf.h"

enum {
	DEEPEST_LEVEL = 64,
	NANOSECONDS_PER_SECOND = 1000000000,
};

// The id of the caller's cgroup at this level below the intercepted one, or of its own if that is higher up. Searches
// for the intercepted cgroup's level, which the agent cannot know in a cgroup namespace. For a caller outside the
// intercepted cgroup, levels count from the root. Not static, so that the verifier goes through the loop once, not once
// per caller.
__noinline __u64 cgroup_at(int level)
{
	int intercepted = 0;
	__u64 id;

	for (int above = 0; above < DEEPEST_LEVEL; above++) {
		id = bpf_get_current_ancestor_cgroup_id(above);
		if (id == intercepted_cgroup)
			intercepted = above;
		if (!id || id == intercepted_cgroup)
			break;
	}
	id = bpf_get_current_ancestor_cgroup_id(intercepted + level);
	return id ? id : bpf_get_current_cgroup_id();
}

static __always_inline __u64 rotated(__u64 value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static __always_inline void sip_rounds(__u64 v[4], int count)
{
	for (int i = 0; i < count; i++) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotated(v[1], 13) ^ v[0];
		v[3] = rotated(v[3], 16) ^ v[2];
		v[0] = rotated(v[0], 32) + v[3];
		v[2] += v[1];
		v[3] = rotated(v[3], 21) ^ v[0];
		v[1] = rotated(v[1], 17) ^ v[2];
		v[2] = rotated(v[2], 32);
	}
}

// SipHash-2-4 of one number (Aumasson and Bernstein 2012).
__noinline __u64 keyed_hash(__u64 value)
{
	const __u64 length = 8ULL << 56;
	__u64 v[4] = { slot_key[0] ^ 0x736f6d6570736575ULL, slot_key[1] ^ 0x646f72616e646f6dULL,
		       slot_key[0] ^ 0x6c7967656e657261ULL, slot_key[1] ^ 0x7465646279746573ULL };

	v[3] ^= value;
	sip_rounds(v, 2);
	v[0] ^= value;
	v[3] ^= length;
	sip_rounds(v, 2);
	v[0] ^= length;
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

// Hashes ids to fixed slots, so that nobody can fill the table of the shares. Two workloads in the same slot have one
// share together. Ids are given in order: if slots could be predicted, anyone who may make cgroups could get one in a
// victim's slot. So each load of the programs has other slots. That mixes up no counts: a waiting connection carries
// the slots that count it.
static __always_inline __u32 slot_of(__u64 cgroup_id, __u32 bits)
{
	return keyed_hash(cgroup_id) >> (64 - bits);
}

// The connecting process, and what it counts towards.
struct caller {
	__u64 cgroup, share_cgroup;
	__u16 share, top_share;
};

static __always_inline struct caller this_caller(void)
{
	struct caller caller = {
		.cgroup = bpf_get_current_cgroup_id(),
		.share_cgroup = cgroup_at(workload_level),
	};

	caller.share = slot_of(caller.share_cgroup, KVEIL_SHARE_BITS);
	caller.top_share = KVEIL_SHARES + slot_of(cgroup_at(KVEIL_TOP_LEVEL), KVEIL_TOP_SHARE_BITS);
	return caller;
}

static __always_inline struct kveil_share *share_at(__u32 slot)
{
	return bpf_map_lookup_elem(&shares, &slot);
}

// Only the agent makes probes. They are not bounded: if one failed because workloads had used up its slot, the node
// would not be ready.
static __always_inline bool is_probe(__u64 cgroup_id)
{
	return cgroup_id == agent_cgroup;
}

static __always_inline bool has_room(__u64 cgroup_id, __u16 share, __u16 top_share)
{
	const struct kveil_share *own = share_at(share), *top = share_at(top_share);

	if (is_probe(cgroup_id))
		return true;
	return own && own->waiting < KVEIL_MAX_WAITING && top && top->waiting < KVEIL_MAX_TOP_WAITING;
}

static __always_inline void count_waiting(__u16 slot, __s32 change)
{
	struct kveil_share *share = share_at(slot);

	if (share)
		__sync_fetch_and_add(&share->waiting, change);
}

// Whether the workload may tell the agent one more thing in this second. Two CPUs that begin a second at the same time
// may let a few more pass.
static __always_inline bool may_report(__u64 cgroup_id, __u16 slot)
{
	struct kveil_share *share = share_at(slot);
	__u32 second = bpf_ktime_get_ns() / NANOSECONDS_PER_SECOND;

	if (is_probe(cgroup_id))
		return true;
	if (!share)
		return false;
	if (share->second != second) {
		share->second = second;
		share->events = 0;
		share->reported = 0;
	}
	return __sync_fetch_and_add(&share->events, 1) < KVEIL_MAX_EVENTS;
}

// Connects from one namespace at the same time need to be reported only once.
static __always_inline void note_reported(__u16 slot, __u64 netns_cookie)
{
	struct kveil_share *share = share_at(slot);

	if (share)
		share->reported = netns_cookie;
}

// Call it after may_report.
static __always_inline bool was_reported(__u16 slot, __u64 netns_cookie)
{
	const struct kveil_share *share = share_at(slot);

	return share && share->reported == (__u32)netns_cookie;
}

// Removes the entry, and gives its place back to the workload.
static __always_inline void stop_waiting(const struct kveil_interim_key *key)
{
	const struct kveil_waiting *waiting = bpf_map_lookup_elem(&interim, key);
	__u16 share, top_share;

	if (!waiting)
		return;
	share = waiting->origin.share;
	top_share = waiting->origin.top_share;
	if (bpf_map_delete_elem(&interim, key))
		return; // somebody else did
	count_waiting(share, -1);
	count_waiting(top_share, -1);
}

// Checks for room once more: with TCP_FASTOPEN_CONNECT, connect() counts nothing and the SYN leaves with the first
// send(). Returns 0, or enum kveil_refusal: then an accepted socket will have no origin.
static __always_inline int begin_waiting(const struct kveil_interim_key *key, const struct kveil_origin *origin)
{
	struct kveil_waiting waiting = { .origin = *origin, .since = bpf_ktime_get_ns() };

	stop_waiting(key); // left by a socket whose end was not seen
	if (!has_room(origin->cgroup_id, origin->share, origin->top_share))
		return KVEIL_TOO_MANY;
	if (bpf_map_update_elem(&interim, key, &waiting, BPF_NOEXIST))
		return KVEIL_NO_MEMORY;
	count_waiting(origin->share, 1);
	count_waiting(origin->top_share, 1);
	return 0;
}

#endif
