"""What another process has taken so far: CPU time and memory."""

import pathlib
import re
import time


def cpu_seconds(pid):
    """User and system time of all its threads, also of those that have ended, exact to less than a microsecond."""
    return time.clock_gettime(~pid << 3 | 2)  # What clock_getcpuclockid(3) gives.


def memory(pid):
    """The resident set now, in bytes."""
    return _memory(pid, "VmRSS")


def peak_memory(pid):
    """The largest resident set so far, in bytes; since forget_peak_memory, if that was called."""
    return _memory(pid, "VmHWM")


def forget_peak_memory(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _memory(pid, field):
    return int(re.search(rf"^{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)[1]) * 1024
