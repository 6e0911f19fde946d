"""The wall clock of one process, which tests may shift (clock.c)."""

import os
import pathlib
import struct
import subprocess


class Clock:
    """`wrapper` is a command line that runs another one so that its clock follows this one."""

    def __init__(self, folder):
        library = folder / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, pathlib.Path(__file__).with_name("clock.c"), "-ldl"],
                       check=True)
        self._file = folder / "clock.shift"
        self._file.write_bytes(struct.pack("=q", 0))
        self.wrapper = ["env", f"LD_PRELOAD={library}", f"KVEIL_SHIFT={self._file}"]

    def shift(self, seconds):
        """How far it is before the real one from now on."""
        file = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(file, struct.pack("=q", seconds), 0)
        finally:
            os.close(file)
