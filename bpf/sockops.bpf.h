// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// sockops: carries the origin from the connecting socket to the accepted one.
#ifndef KVEIL_BPF_SOCKOPS_BPF_H
#define KVEIL_BPF_SOCKOPS_BPF_H

#include "endpoints.bpf.h"
#include "maps.bpf.h"

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

#endif
