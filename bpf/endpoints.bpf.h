// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Addresses as the programs see them, and which of them are targets.
#ifndef KVEIL_BPF_ENDPOINTS_BPF_H
#define KVEIL_BPF_ENDPOINTS_BPF_H

#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "intercept.h"
#include "maps.bpf.h"

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

// A v4-mapped address becomes IPv4: targets, listeners and peers are the same for both.
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

static __always_inline void set_local(struct bpf_sock_ops *ctx, struct kveil_endpoint *endpoint)
{
	if (ctx->family == KVEIL_FAMILY_V4)
		set_address4(endpoint, ctx->local_ip4);
	else
		set_address6(endpoint, ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]);
	endpoint->port = ctx->local_port; // host order, unlike remote_port
}

static __always_inline void set_remote(struct bpf_sock_ops *ctx, struct kveil_endpoint *endpoint)
{
	if (ctx->family == KVEIL_FAMILY_V4)
		set_address4(endpoint, ctx->remote_ip4);
	else
		set_address6(endpoint, ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]);
	endpoint->port = bpf_ntohl(ctx->remote_port);
}

static __always_inline bool is_unspecified(const struct kveil_endpoint *endpoint)
{
	const __u32 *words = (const __u32 *)endpoint->address;

	return words[0] == 0 && words[1] == 0 && words[2] == 0 && words[3] == 0;
}

// 127.0.0.1 or ::1.
static __always_inline bool is_loopback(const struct kveil_endpoint *endpoint)
{
	const __u32 *words = (const __u32 *)endpoint->address;

	if (endpoint->family == KVEIL_FAMILY_V4)
		return words[0] == bpf_htonl(INADDR_LOOPBACK);
	return words[0] == 0 && words[1] == 0 && words[2] == 0 && words[3] == bpf_htonl(1);
}

// In the namespace of `ctx`. Costs a lookup only for an endpoint on loopback.
static __always_inline bool agent_listens_at(void *ctx, const struct kveil_endpoint *endpoint)
{
	return endpoint->port && is_loopback(endpoint) &&
	       agents_port(bpf_get_netns_cookie(ctx), endpoint->family) == endpoint->port;
}

enum { NOT_A_TARGET = -1, EXPIRED_BROKER = -2 };

static __always_inline int first_fitting_range(const struct kveil_port_ranges *ranges, __u16 port)
{
	for (__u32 i = 0; i < KVEIL_MAX_RANGES; i++) {
		if (i >= ranges->count)
			break;
		if (port >= ranges->ranges[i].first && port <= ranges->ranges[i].last)
			return ranges->ranges[i].target;
	}
	return NOT_A_TARGET;
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
	return ranges ? first_fitting_range(ranges, destination->port) : NOT_A_TARGET;
}

// The index of the target that a destination belongs to, NOT_A_TARGET or EXPIRED_BROKER.
static __always_inline int find_target(const struct kveil_endpoint *destination)
{
	const struct kveil_learned *broker;
	int target = find_configured_target(destination);

	if (target >= 0)
		return target;
	broker = bpf_map_lookup_elem(&learned, destination);
	if (!broker)
		return NOT_A_TARGET;
	return broker->expires > bpf_ktime_get_ns() ? broker->target : EXPIRED_BROKER;
}

#endif
