"""Waits that have a limit and name what they waited for; signals that end a script orderly."""

import signal
import subprocess
import time


class TimedOut(Exception):
    """A wait that reached its limit. The message says what was waited for, and for how long."""


def wait_until(what, condition, seconds, every=0.05):
    """Calls `condition` until it returns something true, and returns that. TimedOut after `seconds`."""
    limit = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > limit:
            raise TimedOut(f"waited {seconds:g} s for {what}")
        time.sleep(every)


def stop(process, what, seconds=15):
    """SIGTERM, then SIGKILL after `seconds`. Returns the exit status; negative is the signal that ended it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except BaseException as interruption:  # noqa: BLE001 - whatever it is, the process must not stay
            process.kill()
            process.wait(5)
            print(f"{what} did not end within {seconds} s of SIGTERM and was killed", flush=True)
            if not isinstance(interruption, subprocess.TimeoutExpired):
                raise
    return process.returncode


def end_on_signals():
    """Makes SIGTERM and SIGHUP end the script like Ctrl-C, so that every `with` block cleans up.

    Ctrl-C too, as a shell starts background jobs with that one ignored."""

    def interrupt(number, _frame):
        ignore_signals()  # The clean-up that follows is not to be left half done by a second Ctrl-C.
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def ignore_signals():
    """For the clean-up itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
