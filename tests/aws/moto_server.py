"""moto's servers for tests: installed once, started, and told what there is."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "scripts/lib"), str(HERE.parent / "kafka/matrix")]
import installing  # noqa: E402
import places  # noqa: E402
import waiting  # noqa: E402


def python():
    """An interpreter that has moto and boto3."""
    requirements = HERE / "requirements.txt"
    made = installing.made_once("moto", [requirements], lambda folder: installing.virtual_environment(folder, requirements))
    return f"{made}/bin/python"


def documented_policy():
    """The policy that docs/keys.md tells operators to give the agent. moto knows only actions, and no resource but "*"."""
    text = (places.REPOSITORY / "docs/keys.md").read_text(encoding="utf-8")
    policy = json.loads(re.search(r"```json\s*(\{\s*\"Version\".*?)```", text, re.DOTALL)[1])
    for statement in policy["Statement"]:
        statement["Resource"] = "*"
    return policy


class Moto:
    """`with Moto(folder) as moto:` starts one on loopback. What it stores ends with it."""

    def __init__(self, folder):
        self.folder = folder
        self.port = places.free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process = None

    def __enter__(self):
        with open(self.folder / "moto.log", "ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", python(), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        waiting.wait_until("moto to answer", self._answers, 60)
        return self

    def __exit__(self, *_):
        self.resume()
        self._process.kill()
        self._process.wait(10)

    def prepare(self):
        """Makes keys, a user and a role, and has every request checked from then on. Returns what prepare.py has made."""
        done = subprocess.run([python(), HERE / "prepare.py", self.address, json.dumps(documented_policy())], timeout=120,
                              stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)

    def pause(self):
        """Accepts connections and says nothing from now on."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"moto ended with status {self._process.returncode}: {(self.folder / 'moto.log').read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{self.address}/moto-api/data.json", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
