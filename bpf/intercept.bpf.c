// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Makes TCP connects to the targets arrive at the agent's listener in the same network namespace.
//
//   connect4/6       decides. Not a target: leaves it alone. The agent listens here: remembers the destination in the
//                    socket's storage and rewrites it to loopback. It does not: reports an event, and refuses with
//                    ECONNREFUSED or, in a new namespace, redirects and holds the SYN until the agent listens
//   sockops          carries the origin from the connecting socket to the accepted one, holds SYNs
//   getpeername4/6   shows the application the peer that it asked for
//   getsockname4/6   and the address that it would have had
//
// connect, sockops and names (getpeername and getsockname) have a header each. Floor: kernel 6.1. Only UAPI types are
// used, so nothing here depends on a kernel's layout.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "connect.bpf.h"
#include "names.bpf.h"
#include "sockops.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
