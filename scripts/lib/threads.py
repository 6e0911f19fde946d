"""Stops one thread of another process, as if it were stuck."""

import contextlib
import ctypes
import os
import pathlib

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
ANY_THREAD = 0x40000000  # __WALL


class Stopped:
    def __init__(self, thread):
        self._thread = thread

    def has_ended(self):
        """Whether its process was killed. Until this has been asked, the process's parent does not hear of its end."""
        ended, _ = os.waitpid(self._thread, ANY_THREAD | os.WNOHANG)
        return ended != 0


@contextlib.contextmanager
def stopped(pid, name):
    """The thread `name` of the process does nothing for as long as this lasts. The process may end meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    thread = next(int(task.name) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                  if (task / "comm").read_text() == f"{name}\n")

    def ptrace(request):
        return libc.ptrace(request, thread, None, None)
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if ptrace(request) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(thread, ANY_THREAD)
    try:
        yield Stopped(thread)
    finally:
        ptrace(PTRACE_DETACH)
