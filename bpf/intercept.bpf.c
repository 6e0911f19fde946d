// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Makes TCP connects to the targets arrive at the agent's listener in the same network namespace.
//
//   connect4/6       decides: not a target - hands off; the agent listens here - remembers the destination in the
//                    socket's storage and rewrites it to loopback; nobody does - an event, and ECONNREFUSED; or, in a
//                    new namespace, the same with the SYN held until the agent listens
//   sockops          carries what was remembered from the connecting socket to the accepted one, holds SYNs
//   getpeername4/6   shows the application the peer it asked for
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
