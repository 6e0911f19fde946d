// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Makes TCP connects to the targets arrive at the agent's listener in the same network namespace.
//
//   connect4/6       decides: not a target - hands off; the agent listens here - remembers the destination in the
//                    socket's storage and rewrites it to loopback; nobody does - ECONNREFUSED and an event
//   sockops          carries what was remembered from the connecting socket to the accepted one
//   getpeername4/6   shows the application the peer it asked for
//   getsockname4/6   and the address that it would have had
//
// Floor: kernel 6.1. Only UAPI types are used, so nothing here depends on a kernel's layout.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "intercept.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// Configuration: read-only data, set before load.
const volatile __u16 listen_port = 15931;
const volatile __u8 bypass_when_down = 0;
const volatile __u8 have_mptcp = 0;
const volatile __u64 heartbeat_timeout = 5000000000ULL;

// A sock_addr program's verdict.
enum { REJECT = 0, PROCEED = 1 };
// A sockops program's return value is not looked at for these operations; 1 by convention.
enum { SOCKOPS_DONE = 1 };

enum {
	ECONNREFUSED = 111,
	SOL_SOCKET = 1,
	SO_BINDTOIFINDEX = 62,
	SOCK_STREAM = 1,
	LOOPBACK_IFINDEX = 1, // of lo, in every network namespace
};

struct mptcp_sock; // opaque: only handed from one helper to the next

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, KVEIL_MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kveil_prefix4);
	__type(value, struct kveil_port_ranges);
} targets4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, KVEIL_MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kveil_prefix6);
	__type(value, struct kveil_port_ranges);
} targets6 SEC(".maps");

// Not an LRU map: an entry that is pushed out would be a broker spoken to in the clear.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KVEIL_MAX_LEARNED);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kveil_endpoint);
	__type(value, struct kveil_learned);
} learned SEC(".maps");

// Written by the agent through its descriptors. Storage and not SO_MARK, which any process with CAP_NET_RAW
// can set; not cloned, so what a listener accepts does not bear its tag.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} own_sockets SEC(".maps");

// On the application's sockets that were redirected.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct kveil_origin);
} redirected SEC(".maps");

// On the sockets that the agent accepted. Freed with the socket, so nothing can be left behind.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct kveil_origin);
} accepted SEC(".maps");

// From the SYN until the accepted socket exists.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KVEIL_MAX_INTERIM);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kveil_interim_key);
	__type(value, struct kveil_origin);
} interim SEC(".maps");

// Cookies of the namespaces that were served: those where `bypass` may hold.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KVEIL_MAX_NAMESPACES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u8);
} served SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KVEIL_MAX_SOURCES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kveil_source_key);
	__type(value, struct kveil_source);
} sources SEC(".maps");

// When the agent was last seen alive.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} heartbeat SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, KVEIL_EVENT_BYTES);
} events SEC(".maps");

static __always_inline void set_address4(struct kveil_endpoint *endpoint, __u32 address)
{
	__builtin_memset(endpoint->address, 0, sizeof(endpoint->address));
	__builtin_memcpy(endpoint->address, &address, sizeof(address));
	endpoint->family = KVEIL_FAMILY_V4;
}

static __always_inline bool is_v4_mapped(__u32 word0, __u32 word1, __u32 word2)
{
	return word0 == 0 && word1 == 0 && word2 == bpf_htonl(0xffff);
}

// A v4-mapped address becomes IPv4: for targets, listeners and peers it is the same thing.
static __always_inline void set_address6(struct kveil_endpoint *endpoint, __u32 word0, __u32 word1, __u32 word2,
					 __u32 word3)
{
	const __u32 words[4] = { word0, word1, word2, word3 };

	if (is_v4_mapped(word0, word1, word2)) {
		set_address4(endpoint, word3);
		return;
	}
	__builtin_memcpy(endpoint->address, words, sizeof(words));
	endpoint->family = KVEIL_FAMILY_V6;
}

static __always_inline int first_fitting_range(const struct kveil_port_ranges *ranges, __u16 port)
{
	for (__u32 i = 0; i < KVEIL_MAX_RANGES; i++) {
		if (i >= ranges->count)
			break;
		if (port >= ranges->ranges[i].first && port <= ranges->ranges[i].last)
			return ranges->ranges[i].target;
	}
	return -1;
}

static __always_inline int find_configured_target(const struct kveil_endpoint *destination)
{
	const struct kveil_port_ranges *ranges;

	if (destination->family == KVEIL_FAMILY_V4) {
		struct kveil_prefix4 prefix = { .length = 32 };

		__builtin_memcpy(prefix.address, destination->address, sizeof(prefix.address));
		ranges = bpf_map_lookup_elem(&targets4, &prefix);
	} else {
		struct kveil_prefix6 prefix = { .length = 128 };

		__builtin_memcpy(prefix.address, destination->address, sizeof(prefix.address));
		ranges = bpf_map_lookup_elem(&targets6, &prefix);
	}
	return ranges ? first_fitting_range(ranges, destination->port) : -1;
}

// The index of the target that a destination belongs to, or -1.
static __always_inline int find_target(const struct kveil_endpoint *destination)
{
	const struct kveil_learned *broker;
	int target = find_configured_target(destination);

	if (target >= 0)
		return target;
	broker = bpf_map_lookup_elem(&learned, destination);
	// In force until an agent takes it out: were it to expire here, a broker would be spoken to in the clear once
	// no agent has run for a while.
	return broker ? broker->target : -1;
}

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

// The key's source is the socket's own end, or its peer's. With its address and not its port alone: a port can be bound
// once for each address.
static __always_inline void local_end(struct bpf_sock_ops *ctx, struct kveil_interim_key *key)
{
	key->netns_cookie = bpf_get_netns_cookie(ctx);
	if (ctx->family == KVEIL_FAMILY_V4)
		set_address4(&key->source, ctx->local_ip4);
	else
		set_address6(&key->source, ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]);
	key->source.port = ctx->local_port; // host order, unlike remote_port
}

static __always_inline void remote_end(struct bpf_sock_ops *ctx, struct kveil_interim_key *key)
{
	key->netns_cookie = bpf_get_netns_cookie(ctx);
	if (ctx->family == KVEIL_FAMILY_V4)
		set_address4(&key->source, ctx->remote_ip4);
	else
		set_address6(&key->source, ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2],
			     ctx->remote_ip6[3]);
	key->source.port = bpf_ntohl(ctx->remote_port);
}

// The source is chosen and the SYN has not left yet.
static __always_inline void on_connect(struct bpf_sock_ops *ctx)
{
	struct kveil_interim_key key = {};
	const struct kveil_origin *origin;
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return;
	origin = bpf_sk_storage_get(&redirected, sk, 0, 0);
	if (!origin)
		return;
	local_end(ctx, &key);
	bpf_map_update_elem(&interim, &key, origin, BPF_ANY);
	// on_state_change cleans up after a connect that nobody accepts.
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void on_accept(struct bpf_sock_ops *ctx)
{
	struct kveil_interim_key key = {};
	struct bpf_sock *sk = ctx->sk;
	struct kveil_origin *origin;

	if (!sk || ctx->local_port != listen_port)
		return;
	remote_end(ctx, &key);
	origin = bpf_map_lookup_elem(&interim, &key);
	if (!origin)
		return;
	// Without memory the socket has no origin, and the agent closes it.
	bpf_sk_storage_get(&accepted, sk, origin, BPF_SK_STORAGE_GET_F_CREATE);
	bpf_map_delete_elem(&interim, &key);
}

static __always_inline void on_state_change(struct bpf_sock_ops *ctx)
{
	struct kveil_interim_key key = {};
	struct bpf_sock *sk = ctx->sk;

	if (ctx->args[1] != BPF_TCP_CLOSE || !sk || !bpf_sk_storage_get(&redirected, sk, 0, 0))
		return;
	local_end(ctx, &key);
	bpf_map_delete_elem(&interim, &key);
}

SEC("sockops")
int carry_origin(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ctx);
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

static __always_inline const struct kveil_origin *origin_of(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk ? bpf_sk_storage_get(&redirected, sk, 0, 0) : 0;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	const struct kveil_origin *origin = origin_of(ctx);

	if (!origin || origin->destination.family != KVEIL_FAMILY_V4)
		return PROCEED;
	ctx->user_ip4 = *(const __u32 *)origin->destination.address;
	ctx->user_port = bpf_htons(origin->destination.port);
	return PROCEED;
}

static __always_inline void show6(struct bpf_sock_addr *ctx, __u16 family, const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	if (family == KVEIL_FAMILY_V4) {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = bpf_htonl(0xffff);
		ctx->user_ip6[3] = words[0];
	} else {
		ctx->user_ip6[0] = words[0];
		ctx->user_ip6[1] = words[1];
		ctx->user_ip6[2] = words[2];
		ctx->user_ip6[3] = words[3];
	}
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	const struct kveil_origin *origin = origin_of(ctx);

	if (!origin)
		return PROCEED;
	show6(ctx, origin->destination.family, origin->destination.address);
	ctx->user_port = bpf_htons(origin->destination.port);
	return PROCEED;
}

static __always_inline const struct kveil_source *source_towards(const struct kveil_origin *origin)
{
	struct kveil_source_key key = {
		.netns_cookie = origin->netns_cookie,
		.target = origin->target,
		.family = origin->destination.family,
	};

	return bpf_map_lookup_elem(&sources, &key);
}

SEC("cgroup/getsockname4")
int getsockname4(struct bpf_sock_addr *ctx)
{
	const struct kveil_origin *origin = origin_of(ctx);
	const struct kveil_source *source;

	// An application that bound its own address sees that one anyhow.
	if (!origin || ctx->user_ip4 != bpf_htonl(INADDR_LOOPBACK))
		return PROCEED;
	source = source_towards(origin);
	if (source)
		ctx->user_ip4 = *(const __u32 *)source->address;
	return PROCEED;
}

static __always_inline bool is_loopback6(struct bpf_sock_addr *ctx)
{
	__u32 word0 = ctx->user_ip6[0], word1 = ctx->user_ip6[1], word2 = ctx->user_ip6[2], word3 = ctx->user_ip6[3];

	if (is_v4_mapped(word0, word1, word2))
		return word3 == bpf_htonl(INADDR_LOOPBACK);
	return word0 == 0 && word1 == 0 && word2 == 0 && word3 == bpf_htonl(1);
}

SEC("cgroup/getsockname6")
int getsockname6(struct bpf_sock_addr *ctx)
{
	const struct kveil_origin *origin = origin_of(ctx);
	const struct kveil_source *source;

	if (!origin || !is_loopback6(ctx))
		return PROCEED;
	source = source_towards(origin);
	if (source)
		show6(ctx, origin->destination.family, source->address);
	return PROCEED;
}
