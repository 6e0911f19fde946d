// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// connect4 and connect6: what becomes of a connect.
#ifndef KVEIL_BPF_CONNECT_BPF_H
#define KVEIL_BPF_CONNECT_BPF_H

#include "endpoints.bpf.h"
#include "maps.bpf.h"

enum {
	ECONNREFUSED = 111,
	SOL_SOCKET = 1,
	SO_BINDTOIFINDEX = 62,
	SOCK_STREAM = 1,
	LOOPBACK_IFINDEX = 1, // of lo, in every network namespace
};

struct mptcp_sock; // opaque: only handed from one helper to the next

static __always_inline bool is_agents_port(const struct kveil_endpoint *destination)
{
	const __u32 *words = (const __u32 *)destination->address;

	if (destination->port != listen_port)
		return false;
	if (destination->family == KVEIL_FAMILY_V4)
		return words[0] == bpf_htonl(INADDR_LOOPBACK);
	return words[0] == 0 && words[1] == 0 && words[2] == 0 && words[3] == bpf_htonl(1);
}

static __always_inline bool is_own(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&own_sockets, sk, 0, 0) != 0;
}

// Looks up who would answer at the agent's port on loopback in the caller's namespace. 0: the agent; else enum
// kveil_refusal.
static __always_inline int check_listener(struct bpf_sock_addr *ctx, __u16 family)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *listener;
	int result = KVEIL_FOREIGN_LISTENER;
	__u32 size;

	if (family == KVEIL_FAMILY_V4) {
		tuple.ipv4.saddr = tuple.ipv4.daddr = bpf_htonl(INADDR_LOOPBACK);
		tuple.ipv4.dport = bpf_htons(listen_port);
		size = sizeof(tuple.ipv4);
		listener = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv6.saddr[3] = tuple.ipv6.daddr[3] = bpf_htonl(1);
		tuple.ipv6.dport = bpf_htons(listen_port);
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

// `bypass` holds only where an agent once served and is known to be gone: a namespace that was never served is new, and
// waits.
static __always_inline bool may_bypass(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	const __u64 *seen;
	__u32 zero = 0;

	if (!bypass_when_down || !bpf_map_lookup_elem(&served, &cookie))
		return false;
	seen = bpf_map_lookup_elem(&heartbeat, &zero);
	return seen && *seen + heartbeat_timeout < bpf_ktime_get_ns();
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

// The socket goes somewhere else now: what an earlier connect left in it would be told to the agent as its destination
// (a socket can be disconnected with AF_UNSPEC and connected again, and can then go straight to the agent's port).
static __always_inline void forget_redirection(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	struct kveil_origin *origin = bpf_sk_storage_get(&redirected, sk, 0, 0);
	struct mptcp_sock *mptcp;

	if (!origin)
		return;
	if (origin->bound_device && sk->bound_dev_if == LOOPBACK_IFINDEX)
		bind_to_interface(ctx, origin->bound_device);
	bpf_sk_storage_delete(&redirected, sk);
	mptcp = mptcp_socket_of(sk);
	if (mptcp)
		bpf_sk_storage_delete(&redirected, mptcp);
}

// As if the port were closed: every client tries again after that, and this event makes the agent serve the namespace.
static __always_inline int refuse(struct bpf_sock_addr *ctx, const struct kveil_endpoint *destination, __u32 reason)
{
	struct kveil_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (event) {
		event->netns_cookie = bpf_get_netns_cookie(ctx);
		event->cgroup_id = bpf_get_current_cgroup_id();
		event->pid = bpf_get_current_pid_tgid() >> 32;
		event->uid = (__u32)bpf_get_current_uid_gid();
		event->reason = reason;
		event->family = destination->family;
		__builtin_memcpy(&event->destination, destination, sizeof(*destination));
		event->padding = 0;
		bpf_ringbuf_submit(event, 0);
	}
	// Returning 0 alone would be EPERM, which clients take for final.
	bpf_set_retval(-ECONNREFUSED);
	return REJECT;
}

static __always_inline void fill_origin(struct bpf_sock_addr *ctx, struct kveil_origin *origin,
					const struct kveil_endpoint *destination, int target, __u32 bound_device)
{
	__builtin_memcpy(&origin->destination, destination, sizeof(*destination));
	origin->target = target;
	origin->netns_cookie = bpf_get_netns_cookie(ctx);
	origin->cgroup_id = bpf_get_current_cgroup_id();
	origin->pid = bpf_get_current_pid_tgid() >> 32;
	origin->uid = (__u32)bpf_get_current_uid_gid();
	origin->bound_device = bound_device;
}

// Remembers where the socket was going and moves it to lo where it was bound to a device, because its SYN would leave
// by that device. 0 or enum kveil_refusal.
static __always_inline int remember(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				    const struct kveil_endpoint *destination, int target)
{
	struct kveil_origin *origin = bpf_sk_storage_get(&redirected, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct mptcp_sock *mptcp;
	__u32 device = sk->bound_dev_if;

	if (!origin)
		return KVEIL_NO_MEMORY;
	if (device == LOOPBACK_IFINDEX && origin->bound_device)
		device = origin->bound_device; // moved by an earlier connect of this socket
	fill_origin(ctx, origin, destination, target, device == LOOPBACK_IFINDEX ? 0 : device);
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

// Whether the destination is to be rewritten; otherwise *verdict says what becomes of the connect.
static __always_inline bool decide(struct bpf_sock_addr *ctx, const struct kveil_endpoint *destination, int *verdict)
{
	struct bpf_sock *sk = ctx->sk;
	int target, refusal;

	*verdict = PROCEED;
	if (!sk || ctx->type != SOCK_STREAM)
		return false;
	target = find_target(destination);
	if (target < 0 || is_agents_port(destination)) {
		forget_redirection(ctx, sk);
		return false;
	}
	if (is_own(sk))
		return false;
	refusal = check_listener(ctx, destination->family);
	if (refusal && may_bypass(ctx)) {
		forget_redirection(ctx, sk);
		return false;
	}
	if (!refusal)
		refusal = remember(ctx, sk, destination, target);
	if (refusal) {
		forget_redirection(ctx, sk);
		*verdict = refuse(ctx, destination, refusal);
		return false;
	}
	return true;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct kveil_endpoint destination = {};
	int verdict;

	set_address4(&destination, ctx->user_ip4);
	destination.port = bpf_ntohs(ctx->user_port);
	if (!decide(ctx, &destination, &verdict))
		return verdict;
	ctx->user_ip4 = bpf_htonl(INADDR_LOOPBACK);
	ctx->user_port = bpf_htons(listen_port);
	return PROCEED;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct kveil_endpoint destination = {};
	int verdict;

	set_address6(&destination, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
	destination.port = bpf_ntohs(ctx->user_port);
	if (!decide(ctx, &destination, &verdict))
		return verdict;
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	if (destination.family == KVEIL_FAMILY_V4) {
		ctx->user_ip6[2] = bpf_htonl(0xffff);
		ctx->user_ip6[3] = bpf_htonl(INADDR_LOOPBACK);
	} else {
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(1);
	}
	ctx->user_port = bpf_htons(listen_port);
	return PROCEED;
}

#endif
