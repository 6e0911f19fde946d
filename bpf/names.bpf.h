// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// getpeername and getsockname: the addresses that the application would see without the agent.
#ifndef KVEIL_BPF_NAMES_BPF_H
#define KVEIL_BPF_NAMES_BPF_H

#include "endpoints.bpf.h"
#include "maps.bpf.h"

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
	const struct kveil_source *source = bpf_map_lookup_elem(&sources, &key);

	if (source)
		return source;
	key.target = KVEIL_ANY_TARGET;
	return bpf_map_lookup_elem(&sources, &key);
}

SEC("cgroup/getsockname4")
int getsockname4(struct bpf_sock_addr *ctx)
{
	const struct kveil_origin *origin = origin_of(ctx);
	const struct kveil_source *source;

	// An application that bound its own address sees it anyway.
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

#endif
