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
// The port that the agent prefers; those on which it listens are in `listening`.
const volatile __u16 listen_port = 15931;
const volatile __u8 bypass_when_down = 0;
const volatile __u8 have_mptcp = 0;
const volatile __u64 intercepted_cgroup = 1;		    // its id
const volatile __u32 workload_level = KVEIL_WORKLOAD_LEVEL; // levels below it: a cgroup there is one workload
const volatile __u64 slot_key[2] = {};			    // random per load
const volatile __u64 heartbeat_timeout = 5000000000ULL;
const volatile __u64 jiffy = 4000000; // ns; HZ is the kernel's own choice

// In nanoseconds. The agent may set it to 0 at any time: then nothing is held.
volatile __u64 hold_time = 0;
// The id of the agent's own cgroup; the agent may make that again.
volatile __u64 agent_cgroup = 0;
struct kveil_hold_counts hold_counts = {};

// A sock_addr program's verdict.
enum { REJECT = 0, PROCEED = 1 };
// The kernel ignores a sockops program's return value for these operations; 1 by convention.
enum { SOCKOPS_DONE = 1 };

enum {
	SOL_SOCKET = 1,
	SO_BINDTOIFINDEX = 62,
	LOOPBACK_IFINDEX = 1, // of lo, in every network namespace
	NO_IFINDEX = 0x7fffffff,
};

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

// Not an LRU map: connects to an evicted broker would go out in the clear.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KVEIL_MAX_LEARNED);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kveil_endpoint);
	__type(value, struct kveil_learned);
} learned SEC(".maps");

// Tags, which the agent writes through its descriptors. Storage and not SO_MARK, which any process with CAP_NET_RAW can
// set; not cloned, so that accepted sockets do not inherit the tag.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} own_sockets SEC(".maps");

// On the applications' redirected sockets.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct kveil_origin);
} redirected SEC(".maps");

// On the sockets that the agent accepted. Freed with the socket, so nothing is left behind.
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
	__type(value, struct kveil_waiting);
} interim SEC(".maps");

// The agent also changes counts, in memory that it maps.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KVEIL_SHARES + KVEIL_TOP_SHARES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kveil_share);
} shares SEC(".maps");

// The sockops program keeps an entry from listen() to close(). So the map is right even when the agent is killed, and
// never holds a stranger at the port.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * KVEIL_MAX_NAMESPACES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kveil_listening_key);
	__type(value, __u16);
} listening SEC(".maps");

// On the applications' sockets whose SYN is held. A later version must keep name and layout: otherwise a socket that is
// held during an update of the programs would send its SYN to whatever listens there.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct kveil_held);
} held SEC(".maps");

// Cookies of the namespaces that were ever served: `bypass` applies only there.
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

// The port of the agent's listener on this family's loopback, 0 if there is none.
static __always_inline __u16 agents_port(__u64 netns_cookie, __u16 family)
{
	struct kveil_listening_key key = { .netns_cookie = netns_cookie, .family = family };
	const __u16 *port = bpf_map_lookup_elem(&listening, &key);

	return port ? *port : 0;
}

#endif
