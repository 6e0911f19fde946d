"""Runs a command for which one thing of the kernel's is not there: `forbid.py io_uring | sock_diag COMMAND...`."""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
IO_URING_SETUP = 425  # On every architecture.
SOCKET = {"x86_64": 41, "aarch64": 198}
NETLINK_SOCK_DIAG = 4
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7fff0000, 0x00050000
NUMBER, ARGUMENTS = 0, 16  # In struct seccomp_data; an argument has eight bytes.


def io_uring():
    """As with `kernel.io_uring_disabled=2`."""
    return [(NUMBER, IO_URING_SETUP)], errno.EPERM


def sock_diag():
    """As where the kernel has no CONFIG_INET_DIAG."""
    return [(NUMBER, SOCKET[platform.machine()]), (ARGUMENTS, socket.AF_NETLINK), (ARGUMENTS + 2 * 8, NETLINK_SOCK_DIAG)], \
        errno.EPROTONOSUPPORT


def main():
    conditions, error = {"io_uring": io_uring, "sock_diag": sock_diag}[sys.argv[1]]()
    instructions = []
    for done, (offset, value) in enumerate(conditions):
        left = 2 * (len(conditions) - done - 1) + 1  # Instructions before ALLOW.
        instructions += [(LOAD, 0, 0, offset), (JUMP_IF_EQUAL, 0, left, value)]
    instructions += [(RETURN, 0, 0, FAIL | error), (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in instructions))
    program = ctypes.create_string_buffer(struct.pack("HP", len(instructions), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for request in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(word) for word in request)) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[2], sys.argv[2:])


main()
