// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The configuration, the maps and the verdicts that the programs share.
#ifndef KVEIL_BPF_MAPS_BPF_H
#define KVEIL_BPF_MAPS_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "intercept.h"

// Configuration: read-only data, set before load.
const volatile __u16 listen_port = 15931;
const volatile __u8 bypass_when_down = 0;
const volatile __u8 have_mptcp = 0;
const volatile __u64 heartbeat_timeout = 5000000000ULL;

// A sock_addr program's verdict.
enum { REJECT = 0, PROCEED = 1 };
// A sockops program's return value is not looked at for these operations; 1 by convention.
enum { SOCKOPS_DONE = 1 };

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

#endif
