// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// connect4 and connect6: decide what happens to a connect.
#ifndef KVEIL_BPF_CONNECT_BPF_H
#define KVEIL_BPF_CONNECT_BPF_H

#include "endpoints.bpf.h"
#include "maps.bpf.h"
#include "shares.bpf.h"

enum {
	ECONNREFUSED = 111,
	SOCK_STREAM = 1,
};

struct mptcp_sock; // opaque: only handed from one helper to the next

static __always_inline bool is_own(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&own_sockets, sk, 0, 0) != 0;
}

// Returns 0 if the agent would answer at this port on loopback in the caller's namespace, else enum kveil_refusal.
static __always_inline int check_listener(struct bpf_sock_addr *ctx, __u16 family, __u16 port)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *listener;
	int result = KVEIL_FOREIGN_LISTENER;
	__u32 size;

	if (family == KVEIL_FAMILY_V4) {
		tuple.ipv4.saddr = tuple.ipv4.daddr = bpf_htonl(INADDR_LOOPBACK);
		tuple.ipv4.dport = bpf_htons(port);
		size = sizeof(tuple.ipv4);
		listener = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv6.saddr[3] = tuple.ipv6.daddr[3] = bpf_htonl(1);
		tuple.ipv6.dport = bpf_htons(port);
		size = sizeof(tuple.ipv6);
		listener = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	}
	if (!listener)
		return KVEIL_NO_LISTENER;
	if (listener->state == BPF_TCP_LISTEN && is_own(listener))
		result = 0;
	bpf_sk_release(listener);
	return result;
}

static __always_inline bool was_served(__u64 cookie)
{
	return bpf_map_lookup_elem(&served, &cookie) != 0;
}

static __always_inline bool agent_is_gone(void)
{
	__u32 zero = 0;
	const __u64 *seen = bpf_map_lookup_elem(&heartbeat, &zero);

	return !seen || *seen + heartbeat_timeout < bpf_ktime_get_ns();
}

// `bypass` applies only where an agent once served and is known to be gone. A namespace that was never served is new,
// and waits.
static __always_inline bool may_bypass(__u64 cookie)
{
	return bypass_when_down && was_served(cookie) && agent_is_gone();
}

static __always_inline bool bind_to_interface(struct bpf_sock_addr *ctx, int index)
{
	return bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index)) == 0;
}

// An MPTCP connect arrives here on its first subflow, while the application asks the MPTCP socket for its peer.
static __always_inline struct mptcp_sock *mptcp_socket_of(struct bpf_sock *sk)
{
	return have_mptcp ? bpf_skc_to_mptcp_sock(sk) : 0;
}

// The socket goes somewhere else now. What an earlier connect left in it must not reach the agent as its destination: a
// socket can be disconnected with AF_UNSPEC and then connect straight to the agent's port.
static __always_inline void forget_redirection(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	struct kveil_origin *origin = bpf_sk_storage_get(&redirected, sk, 0, 0);
	struct mptcp_sock *mptcp;

	if (!origin)
		return;
	if (origin->bound_device && sk->bound_dev_if == LOOPBACK_IFINDEX)
		bind_to_interface(ctx, origin->bound_device);
	bpf_sk_storage_delete(&redirected, sk);
	bpf_sk_storage_delete(&held, sk);
	mptcp = mptcp_socket_of(sk);
	if (mptcp)
		bpf_sk_storage_delete(&redirected, mptcp);
}

// Asks the agent to serve the namespace. Returns whether the agent will hear of it.
static __always_inline bool report(struct bpf_sock_addr *ctx, const struct caller *caller,
				   const struct kveil_endpoint *destination, __u32 reason)
{
	struct kveil_event *event = 0;

	if (may_report(caller->cgroup, caller->share))
		event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return false;
	event->netns_cookie = bpf_get_netns_cookie(ctx);
	event->cgroup_id = caller->cgroup;
	event->share_cgroup = caller->share_cgroup;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->uid = (__u32)bpf_get_current_uid_gid();
	event->reason = reason;
	event->family = destination->family;
	__builtin_memcpy(&event->destination, destination, sizeof(*destination));
	event->share = caller->share;
	note_reported(caller->share, event->netns_cookie);
	bpf_ringbuf_submit(event, 0);
	return true;
}

// Refuses as if the port were closed: every client tries again after that.
static __always_inline int refuse(struct bpf_sock_addr *ctx, const struct caller *caller,
				  const struct kveil_endpoint *destination, __u32 reason)
{
	report(ctx, caller, destination, reason);
	// Returning 0 alone would give EPERM, which clients take for final.
	bpf_set_retval(-ECONNREFUSED);
	return REJECT;
}

// Whether the application has bound the socket to an address outside loopback.
static __always_inline bool is_bound_elsewhere(struct bpf_sock *sk)
{
	struct kveil_endpoint own = {};

	if (sk->family == KVEIL_FAMILY_V4)
		set_address4(&own, sk->src_ip4);
	else
		set_address6(&own, sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]);
	return !is_unspecified(&own) && !is_loopback(&own);
}

static __always_inline void fill_origin(struct bpf_sock_addr *ctx, const struct caller *caller,
					struct kveil_origin *origin, const struct kveil_endpoint *destination,
					int target, __u32 bound_device)
{
	__builtin_memcpy(&origin->destination, destination, sizeof(*destination));
	origin->target = target;
	origin->netns_cookie = bpf_get_netns_cookie(ctx);
	origin->cgroup_id = caller->cgroup;
	origin->share_cgroup = caller->share_cgroup;
	origin->pid = bpf_get_current_pid_tgid() >> 32;
	origin->uid = (__u32)bpf_get_current_uid_gid();
	origin->bound_device = bound_device;
	origin->has_own_address = is_bound_elsewhere(ctx->sk);
	origin->share = caller->share;
	origin->top_share = caller->top_share;
}

// Remembers where the socket was going. Moves a socket that is bound to a device to lo, because its SYN would leave by
// that device. Returns 0 or enum kveil_refusal.
static __always_inline int remember(struct bpf_sock_addr *ctx, const struct caller *caller, struct bpf_sock *sk,
				    const struct kveil_endpoint *destination, int target)
{
	struct kveil_origin *origin = bpf_sk_storage_get(&redirected, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct mptcp_sock *mptcp;
	__u32 device = sk->bound_dev_if;

	if (!origin)
		return KVEIL_NO_MEMORY;
	if (device == LOOPBACK_IFINDEX && origin->bound_device)
		device = origin->bound_device; // moved by an earlier connect of this socket
	fill_origin(ctx, caller, origin, destination, target, device == LOOPBACK_IFINDEX ? 0 : device);
	if (sk->bound_dev_if && sk->bound_dev_if != LOOPBACK_IFINDEX && !bind_to_interface(ctx, LOOPBACK_IFINDEX)) {
		// Leaving a device needs CAP_NET_RAW in the caller, taking one does not.
		bpf_sk_storage_delete(&redirected, sk);
		return KVEIL_DEVICE;
	}
	mptcp = mptcp_socket_of(sk);
	if (mptcp)
		bpf_sk_storage_get(&redirected, mptcp, origin, BPF_SK_STORAGE_GET_F_CREATE);
	return 0;
}

// Only in a namespace that was never served, while an agent lives; elsewhere `whenDown` decides. An MPTCP SYN has no
// room for the option that holds it, and the SYN of a socket that is bound elsewhere may not stay on lo.
static __always_inline bool may_hold(struct bpf_sock *sk, __u64 cookie)
{
	return hold_time && !was_served(cookie) && !agent_is_gone() && !mptcp_socket_of(sk) && !is_bound_elsewhere(sk);
}

// Lets the connect go to where the agent is about to listen; sockops holds its SYN until then. Returns 0 or enum
// kveil_refusal.
static __always_inline int hold(struct bpf_sock_addr *ctx, const struct caller *caller, struct bpf_sock *sk,
				const struct kveil_endpoint *destination)
{
	struct kveil_held *state = bpf_sk_storage_get(&held, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!state)
		return KVEIL_NO_MEMORY;
	// Without a report, nobody would serve the namespace.
	if (!report(ctx, caller, destination, KVEIL_HELD) && !was_reported(caller->share, bpf_get_netns_cookie(ctx)))
		return KVEIL_NO_LISTENER;
	state->deadline = bpf_ktime_get_ns() + hold_time;
	state->ending = 0;
	__sync_fetch_and_add(&hold_counts.held, 1);
	return 0;
}

// Returns the port on loopback that the connect must go to, or 0; then *verdict decides.
static __always_inline __u16 decide(struct bpf_sock_addr *ctx, const struct kveil_endpoint *destination, int *verdict)
{
	struct bpf_sock *sk = ctx->sk;
	struct caller caller;
	int target, refusal;
	bool holding;
	__u64 cookie;
	__u16 port;

	*verdict = PROCEED;
	if (!sk || ctx->type != SOCK_STREAM)
		return 0;
	// Straight to the agent's port: uncounted, it would take a place in the queue that the whole namespace shares,
	// only to be closed.
	if (agent_listens_at(ctx, destination) && !is_own(sk)) {
		caller = this_caller();
		forget_redirection(ctx, sk);
		*verdict = refuse(ctx, &caller, destination, KVEIL_AGENTS_PORT);
		return 0;
	}
	target = find_target(destination);
	if (target == NOT_A_TARGET) {
		forget_redirection(ctx, sk);
		return 0;
	}
	if (is_own(sk))
		return 0;
	cookie = bpf_get_netns_cookie(ctx);
	port = agents_port(cookie, destination->family);
	refusal = target == EXPIRED_BROKER ? KVEIL_EXPIRED
					   : check_listener(ctx, destination->family, port ? port : listen_port);
	if (!refusal && !port)
		refusal = KVEIL_NO_LISTENER; // it is just beginning to listen
	if (refusal && may_bypass(cookie)) {
		forget_redirection(ctx, sk);
		return 0;
	}
	caller = this_caller();
	holding = refusal == KVEIL_NO_LISTENER && !port && may_hold(sk, cookie);
	if ((!refusal || holding) && !has_room(caller.cgroup, caller.share, caller.top_share)) {
		refusal = KVEIL_TOO_MANY;
		holding = false;
	}
	if (!refusal || holding)
		refusal = remember(ctx, &caller, sk, destination, target);
	if (!refusal && holding)
		refusal = hold(ctx, &caller, sk, destination);
	if (refusal) {
		forget_redirection(ctx, sk);
		*verdict = refuse(ctx, &caller, destination, refusal);
		return 0;
	}
	return port ? port : listen_port;
}

// A connect to the unspecified address goes to the socket's own address, or else to loopback. This writes it out, so
// that the kernel does what was decided: for a socket bound to a device, it would choose an address there.
static __always_inline __u32 specified4(struct bpf_sock_addr *ctx, __u32 address)
{
	struct bpf_sock *sk = ctx->sk;

	if (address || !sk || ctx->type != SOCK_STREAM)
		return address;
	return sk->src_ip4 ? sk->src_ip4 : bpf_htonl(INADDR_LOOPBACK);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct kveil_endpoint destination = {};
	__u32 address = specified4(ctx, ctx->user_ip4);
	int verdict;
	__u16 port;

	if (address != ctx->user_ip4)
		ctx->user_ip4 = address;
	set_address4(&destination, address);
	destination.port = bpf_ntohs(ctx->user_port);
	port = decide(ctx, &destination, &verdict);
	if (!port)
		return verdict;
	ctx->user_ip4 = bpf_htonl(INADDR_LOOPBACK);
	ctx->user_port = bpf_htons(port);
	return PROCEED;
}

static __always_inline void set_user_ip6(struct bpf_sock_addr *ctx, __u32 word2, __u32 word3)
{
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = word2;
	ctx->user_ip6[3] = word3;
}

// The same for ::, which the kernel takes as ::1, or as 127.0.0.1 if the socket is bound to a v4-mapped address; and
// for ::ffff:0.0.0.0.
static __always_inline void specify6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	const __u32 mapped = bpf_htonl(0xffff);

	if (!sk || ctx->type != SOCK_STREAM || ctx->user_ip6[0] || ctx->user_ip6[1] || ctx->user_ip6[3])
		return;
	if (ctx->user_ip6[2] == mapped)
		set_user_ip6(ctx, mapped, specified4(ctx, 0));
	else if (ctx->user_ip6[2] != 0)
		return;
	else if (is_v4_mapped(sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2]))
		set_user_ip6(ctx, mapped, bpf_htonl(INADDR_LOOPBACK));
	else
		set_user_ip6(ctx, 0, bpf_htonl(1));
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct kveil_endpoint destination = {};
	int verdict;
	__u16 port;

	specify6(ctx);
	set_address6(&destination, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
	destination.port = bpf_ntohs(ctx->user_port);
	port = decide(ctx, &destination, &verdict);
	if (!port)
		return verdict;
	if (destination.family == KVEIL_FAMILY_V4)
		set_user_ip6(ctx, bpf_htonl(0xffff), bpf_htonl(INADDR_LOOPBACK));
	else
		set_user_ip6(ctx, 0, bpf_htonl(1));
	ctx->user_port = bpf_htons(port);
	return PROCEED;
}

#endif
