// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// sockops: carries the origin from the connecting socket to the accepted one, and notes where the agent listens.
#ifndef KVEIL_BPF_SOCKOPS_BPF_H
#define KVEIL_BPF_SOCKOPS_BPF_H

#include "endpoints.bpf.h"
#include "hold.bpf.h"
#include "maps.bpf.h"
#include "shares.bpf.h"

// Has the source address, not only the port: a port can be bound once per address.
static __always_inline void local_end(struct bpf_sock_ops *ctx, struct kveil_interim_key *key)
{
	key->netns_cookie = bpf_get_netns_cookie(ctx);
	set_local(ctx, &key->source);
}

static __always_inline void remote_end(struct bpf_sock_ops *ctx, struct kveil_interim_key *key)
{
	key->netns_cookie = bpf_get_netns_cookie(ctx);
	set_remote(ctx, &key->source);
}

static __always_inline void report_lost(const struct kveil_origin *origin, __u32 reason)
{
	struct kveil_event *event = 0;

	if (may_report(origin->cgroup_id, origin->share))
		event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	event->netns_cookie = origin->netns_cookie;
	event->cgroup_id = origin->cgroup_id;
	event->share_cgroup = origin->share_cgroup;
	event->pid = origin->pid;
	event->uid = origin->uid;
	event->reason = reason;
	event->family = origin->destination.family;
	__builtin_memcpy(&event->destination, &origin->destination, sizeof(event->destination));
	event->share = origin->share;
	bpf_ringbuf_submit(event, 0);
}

// Stops the SYN of a connection without an origin, which would only take a place in the listener's backlog. There is no
// route from an interface that does not exist: EHOSTUNREACH. A socket that is bound to lo already cannot be moved; the
// agent closes what it accepts from it.
static __always_inline void keep_syn(struct bpf_sock_ops *ctx)
{
	int index = NO_IFINDEX;

	bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index));
}

// If lo is down or has lost its address, 127.0.0.1 and ::1 take the default route like any other address, in clear
// text, and the kernel has chosen another interface's address for the socket. This binds such a socket to lo, from
// where there is then no route. An address that the application chose does not show this, and on lo the socket would
// get no answer. In such a namespace, the agent removes its port from `listening`.
static __always_inline void stay_on_loopback(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					     const struct kveil_origin *origin, const struct kveil_endpoint *source)
{
	int index = LOOPBACK_IFINDEX;

	if (!is_loopback(source) && !origin->has_own_address && !sk->bound_dev_if)
		bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index));
}

static __always_inline bool is_tagged(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&own_sockets, sk, 0, 0) != 0;
}

// Whether a socket goes straight to the agent's port. connect4/6 refuses that, but with TCP_FASTOPEN_CONNECT it may
// have run before the agent listened, and the SYN leaves with the first send().
static __always_inline bool goes_to_agent(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct kveil_endpoint peer = {};

	set_remote(ctx, &peer);
	return agent_listens_at(ctx, &peer) && !is_tagged(sk);
}

// The source is chosen and the SYN has not left yet.
static __always_inline void on_connect(struct bpf_sock_ops *ctx)
{
	struct kveil_interim_key key = {};
	const struct kveil_origin *origin;
	struct bpf_sock *sk = ctx->sk;
	struct kveil_held *state;
	int refusal;

	if (!sk)
		return;
	origin = bpf_sk_storage_get(&redirected, sk, 0, 0);
	if (!origin) {
		if (goes_to_agent(ctx, sk))
			keep_syn(ctx);
		return;
	}
	local_end(ctx, &key);
	refusal = begin_waiting(&key, origin);
	if (refusal) {
		report_lost(origin, refusal);
		keep_syn(ctx);
	} else {
		stay_on_loopback(ctx, sk, origin, &key.source);
	}
	// on_state_change cleans up after a connect that nobody accepts.
	set_flags(ctx, BPF_SOCK_OPS_STATE_CB_FLAG, 0);
	state = bpf_sk_storage_get(&held, sk, 0, 0);
	if (state)
		begin_hold(ctx, state);
}

// Accepted sockets inherit their listener's flags, which tells the agent's sockets from most others on the node at no
// cost.
static __always_inline void on_accept(struct bpf_sock_ops *ctx)
{
	struct kveil_interim_key key = {};
	struct bpf_sock *sk = ctx->sk;
	struct kveil_waiting *waiting;

	if (!sk || !(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG))
		return;
	remote_end(ctx, &key);
	if (ctx->local_port != agents_port(key.netns_cookie, ctx->family))
		return;
	set_flags(ctx, 0, BPF_SOCK_OPS_STATE_CB_FLAG);
	waiting = bpf_map_lookup_elem(&interim, &key);
	if (!waiting)
		return;
	// Without memory the socket has no origin, and the agent closes it.
	bpf_sk_storage_get(&accepted, sk, &waiting->origin, BPF_SK_STORAGE_GET_F_CREATE);
	stop_waiting(&key);
}

static __always_inline void on_listen(struct bpf_sock_ops *ctx)
{
	struct kveil_listening_key key = { .family = ctx->family };
	struct bpf_sock *sk = ctx->sk;
	__u16 port = ctx->local_port;

	if (!sk || !is_tagged(sk))
		return;
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	set_flags(ctx, BPF_SOCK_OPS_STATE_CB_FLAG, 0);
	// If there is no room, the agent does not find itself here, and says so.
	bpf_map_update_elem(&listening, &key, &port, BPF_ANY);
}

// Runs before the port is free for another program.
static __always_inline void on_listener_closed(struct bpf_sock_ops *ctx)
{
	struct kveil_listening_key key = { .family = ctx->family };
	struct bpf_sock *sk = ctx->sk;

	if (!sk || !is_tagged(sk))
		return;
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	if (agents_port(key.netns_cookie, key.family) == ctx->local_port)
		bpf_map_delete_elem(&listening, &key);
}

static __always_inline void on_state_change(struct bpf_sock_ops *ctx)
{
	struct kveil_interim_key key = {};
	struct bpf_sock *sk = ctx->sk;

	if (ctx->args[1] != BPF_TCP_CLOSE || !sk)
		return;
	if (ctx->args[0] == BPF_TCP_LISTEN) {
		on_listener_closed(ctx);
		return;
	}
	if (!bpf_sk_storage_get(&redirected, sk, 0, 0))
		return;
	local_end(ctx, &key);
	stop_waiting(&key);
	end_hold(ctx, sk, &hold_counts.ended);
}

SEC("sockops")
int carry_origin(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ctx);
		break;
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		set_first_timeout(ctx);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		reserve_option(ctx);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		write_option(ctx);
		break;
	case BPF_SOCK_OPS_RTO_CB:
		on_timeout(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_established(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_listen(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_accept(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		on_state_change(ctx);
		break;
	}
	return SOCKOPS_DONE;
}

#endif
