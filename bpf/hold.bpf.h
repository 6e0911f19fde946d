// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Holds the SYN of the first connects in a new namespace until the agent listens there.
//
// A held SYN carries a TCP MD5 option (kind 19). Nobody answers it: the kernel sends no reset for such a SYN, and no
// listener without that key accepts it (RFC 2385, section 2.0). TCP repeats the SYN by itself; the first one after the
// agent listens at the SYN's port goes without the option. A SYN is never released because time is up: somebody else
// may listen there. If something goes wrong here (no room for the option, a kernel without CONFIG_TCP_MD5SIG, another
// program that clears the flags), the SYN becomes a plain one to a loopback port where nobody listens: ECONNREFUSED.
#ifndef KVEIL_BPF_HOLD_BPF_H
#define KVEIL_BPF_HOLD_BPF_H

#include "endpoints.bpf.h"
#include "maps.bpf.h"

enum {
	SOL_TCP = 6,
	TCP_SYNCNT = 7,
	TCP_FLAG_SYN = 2,
	MAX_SYN_COUNT = 127, // the most that TCP_SYNCNT takes
	INITIAL_WINDOW = 10, // TCP_INIT_CWND; repeated SYNs make it smaller
	MD5_OPTION_LENGTH = 18,
	HOLD_FLAGS = BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG,
};

static const __u64 first_timeout = 4000000; // ns

static __always_inline void set_flags(struct bpf_sock_ops *ctx, __u32 add, __u32 remove)
{
	bpf_sock_ops_cb_flags_set(ctx, (ctx->bpf_sock_ops_cb_flags & ~remove) | add);
}

static __always_inline void set_syn_count(struct bpf_sock_ops *ctx, int count)
{
	bpf_setsockopt(ctx, SOL_TCP, TCP_SYNCNT, &count, sizeof(count));
}

static __always_inline struct kveil_held *held_state(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk ? bpf_sk_storage_get(&held, sk, 0, 0) : 0;
}

static __always_inline void begin_hold(struct bpf_sock_ops *ctx, struct kveil_held *state)
{
	int value = 0;

	if (!state->syn_count && bpf_getsockopt(ctx, SOL_TCP, TCP_SYNCNT, &value, sizeof(value)) == 0)
		state->syn_count = value;
	// A small count set by the application or a sysctl would end the hold early.
	set_syn_count(ctx, MAX_SYN_COUNT);
	set_flags(ctx, HOLD_FLAGS, 0);
}

// How long until the first SYN is repeated, in jiffies.
static __always_inline void set_first_timeout(struct bpf_sock_ops *ctx)
{
	if (ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG && held_state(ctx))
		ctx->reply = (first_timeout + jiffy - 1) / jiffy;
}

// Called before each packet, and by tcp_current_mss without one.
static __always_inline void reserve_option(struct bpf_sock_ops *ctx)
{
	struct kveil_endpoint peer = {};

	if (!(ctx->skb_tcp_flags & TCP_FLAG_SYN) || !held_state(ctx))
		return;
	set_remote(ctx, &peer);
	// Checked for each SYN: by the next one the listener may be gone again, and a stranger in its place.
	if (agents_port(bpf_get_netns_cookie(ctx), peer.family) != peer.port)
		bpf_reserve_hdr_opt(ctx, MD5_OPTION_LENGTH, 0);
}

static __always_inline void write_option(struct bpf_sock_ops *ctx)
{
	const __u8 option[MD5_OPTION_LENGTH] = { 19, MD5_OPTION_LENGTH };

	if (ctx->skb_tcp_flags & TCP_FLAG_SYN && held_state(ctx))
		bpf_store_hdr_opt(ctx, option, sizeof(option), 0);
}

// The timer has expired, after args[1] jiffies; the next one takes twice as long.
static __always_inline void on_timeout(struct bpf_sock_ops *ctx)
{
	struct kveil_held *state = held_state(ctx);

	if (!state || state->ending || bpf_ktime_get_ns() + 2 * jiffy * ctx->args[1] <= state->deadline)
		return;
	set_syn_count(ctx, 1); // TCP gives up next time: ETIMEDOUT
	state->ending = 1;
}

// Restores the socket as if it had never been held, and counts it.
static __always_inline void end_hold(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u64 *count)
{
	struct kveil_held *state = bpf_sk_storage_get(&held, sk, 0, 0);

	if (!state)
		return;
	set_flags(ctx, 0, HOLD_FLAGS);
	if (state->syn_count)
		set_syn_count(ctx, state->syn_count);
	bpf_sk_storage_delete(&held, sk);
	__sync_fetch_and_add(count, 1);
}

static __always_inline void on_established(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	int window = INITIAL_WINDOW;

	// Only redirected sockets have this flag.
	if (!sk || !(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG) || !held_state(ctx))
		return;
	end_hold(ctx, sk, &hold_counts.released);
	bpf_setsockopt(ctx, SOL_TCP, TCP_BPF_IW, &window, sizeof(window));
}

#endif
