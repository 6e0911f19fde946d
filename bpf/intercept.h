/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The structs and limits that intercept.bpf.c and agent/intercept share. Addresses are 16 bytes in network order, an
 * IPv4 address in the first four; ports are in host order; times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef KVEIL_BPF_INTERCEPT_H
#define KVEIL_BPF_INTERCEPT_H

#include <linux/types.h>

/*
 * If a struct below changes its size or meaning, its map gets another version: Programs::PinnedMaps. kveil_learned may
 * only grow at its end, and zero must be valid for what is added, because it is copied from version to version.
 */

enum {
	KVEIL_FAMILY_V4 = 2,  /* AF_INET */
	KVEIL_FAMILY_V6 = 10, /* AF_INET6 */

	KVEIL_MAX_PREFIXES = 4096, /* in each trie of targets */
	KVEIL_MAX_RANGES = 32,	   /* port ranges that apply to one prefix */
	KVEIL_MAX_LEARNED = 65536,
	KVEIL_MAX_LEARNED_OF_CLUSTER = 8192,
	KVEIL_WORKLOAD_LEVEL = 3,      /* a cgroup there is one workload; below which: CgroupTree::workloadLevel */
	KVEIL_TOP_LEVEL = 1,	       /* cgroups there have a bound, too, as some may make cgroups below them */
	KVEIL_MAX_INTERIM = 131072,    /* connections between SYN and accept: */
	KVEIL_MAX_TOP_WAITING = 65536, /* per cgroup of the first level, for all below it */
	KVEIL_MAX_WAITING = 2048,      /* per workload; half of a listener's backlog */
	KVEIL_MAX_EVENTS = 100,	       /* per workload and second */
	KVEIL_SHARE_BITS = 14,
	KVEIL_SHARES = 1 << KVEIL_SHARE_BITS, /* slots of workloads; those of the first level's cgroups follow */
	KVEIL_TOP_SHARE_BITS = 10,
	KVEIL_TOP_SHARES = 1 << KVEIL_TOP_SHARE_BITS,
	KVEIL_MAX_NAMESPACES = 16384,
	KVEIL_MAX_SOURCES = 65536,
	KVEIL_EVENT_BYTES = 1 << 18,

	KVEIL_OWN_SOCKET = 1, /* a tag's value in the map own_sockets */

	/* The target of the agent's probe connects: a loopback address, so that none ever leaves the machine. */
	KVEIL_PROBE_TARGET = 0xffff,
	KVEIL_PROBE_PORT = 9,

	KVEIL_ANY_TARGET = 0xfffe, /* in the map sources: every target without its own entry */
};

struct kveil_endpoint {
	__u8 address[16];
	__u16 port;
	__u16 family; /* KVEIL_FAMILY_... ; a v4-mapped address is written as IPv4 */
};

/* Key of the tries of targets. */
struct kveil_prefix4 {
	__u32 length;
	__u8 address[4];
};

struct kveil_prefix6 {
	__u32 length;
	__u8 address[16];
};

struct kveil_port_range {
	__u16 first;
	__u16 last;   /* included */
	__u16 target; /* index into the configuration's targets */
	__u16 padding;
};

/*
 * The value of a prefix in a trie: the ranges of that prefix and of every shorter one that covers it, in order of
 * precedence, because a lookup finds only the longest prefix.
 */
struct kveil_port_ranges {
	__u32 count;
	struct kveil_port_range ranges[KVEIL_MAX_RANGES];
};

/* A broker that a response advertised. */
struct kveil_learned {
	__u64 expires; /* from then on connects to it are refused, until a response names it again */
	__u32 cluster; /* hash of the cluster's name: indexes move when a configuration changes */
	__u16 target;
	__u16 padding;
};

/* Where a redirected socket was going, and who connected it. */
struct kveil_origin {
	struct kveil_endpoint destination;
	__u16 target;
	__u16 has_own_address; /* 1: the application had bound the socket to an address outside loopback */
	__u64 netns_cookie;
	__u64 cgroup_id;    /* of the connecting process at connect time; so are pid and uid */
	__u64 share_cgroup; /* the cgroup above it, or itself, that counts as the workload and lives longer */
	__u32 pid;
	__u32 uid;
	__u32 bound_device; /* interface index that the application had bound the socket to, or 0 */
	__u16 share;	    /* slots in the map shares that count the connection until it is accepted */
	__u16 top_share;
};

/* A connection between its SYN and its accepted socket. */
struct kveil_waiting {
	struct kveil_origin origin;
	__u64 since; /* after a minute the agent removes it; a socket accepted later has no origin */
};

/* How much of the shared tables a workload uses. */
struct kveil_share {
	__s32 waiting;	/* its entries in interim; both maps change their versions together */
	__u32 second;	/* of CLOCK_MONOTONIC */
	__u32 events;	/* events that it caused in that second, or would have */
	__u32 reported; /* low half of the cookie of the namespace of the last of them, 0: none yet */
};

/* Identifies a connection between its SYN and its accepted socket. */
struct kveil_interim_key {
	__u64 netns_cookie;
	struct kveil_endpoint source;
	__u32 padding;
};

/* Identifies the agent's listener on loopback, per namespace and family; its port is the value. */
struct kveil_listening_key {
	__u64 netns_cookie;
	__u16 family;
	__u16 padding[3];
};

/* A connecting socket whose SYN is held until the agent listens. */
struct kveil_held {
	__u64 deadline;
	__u8 syn_count; /* the application's TCP_SYNCNT, 0 until it is known */
	__u8 ending;	/* TCP gives up at its next timeout */
	__u8 padding[6];
};

/* What became of held connects since the programs were loaded. */
struct kveil_hold_counts {
	__u64 held;
	__u64 released; /* connected to the agent */
	__u64 ended;	/* closed or timed out while held */
};

/* The address that a namespace would use towards a target. */
struct kveil_source_key {
	__u64 netns_cookie;
	__u16 target;
	__u16 family;
	__u32 padding;
};

struct kveil_source {
	__u8 address[16];
};

enum kveil_refusal {
	KVEIL_NO_LISTENER = 1,	    /* nothing listens at the agent's port in this namespace */
	KVEIL_FOREIGN_LISTENER = 2, /* something else listens there */
	KVEIL_NO_MEMORY = 3,	    /* the original destination could not be remembered */
	KVEIL_DEVICE = 4,	    /* the socket is bound to a device and could not be moved to lo */
	KVEIL_HELD = 5,		    /* not refused: the SYN waits until the agent listens here */
	KVEIL_EXPIRED = 6,	    /* a learned broker that was neither used nor named for long */
	KVEIL_TOO_MANY = 7,	    /* too many connects of the workload wait to be accepted */
	KVEIL_AGENTS_PORT = 8,	    /* it went straight to where the agent listens */
};

/* A connect to a target that was refused or is held. */
struct kveil_event {
	__u64 netns_cookie;
	__u64 cgroup_id;
	__u64 share_cgroup;
	__u32 pid;
	__u32 uid;
	__u32 reason; /* enum kveil_refusal */
	__u32 family; /* of the listener that was looked for */
	struct kveil_endpoint destination;
	__u32 share; /* the workload's slot in the map shares */
};

#endif
