"""A Vault server for tests: built once, started, stopped and started again with the same storage."""

import fcntl
import hashlib
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "scripts/lib"), str(HERE.parent / "kafka/matrix")]
import installing  # noqa: E402
import places  # noqa: E402
import waiting  # noqa: E402
from certificates import Authority  # noqa: E402

SERVER = HERE / "server"
BUILD_LIMIT = 3600  # Seconds. Ten minutes on two idle cores, with the download.


def server():
    """The built program, in the cache."""
    sources = [SERVER / name for name in ("main.go", "go.mod", "go.sum")]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    program = places.cache() / f"vault-{digest}"
    with open(places.cache() / "vault.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            print("building Vault's test server (once, for some minutes) ...", file=sys.stderr, flush=True)
            environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
            made = program.with_suffix(".new")
            subprocess.run([installing.go_toolchain(SERVER / "go.mod"), "build", "-trimpath", "-ldflags", "-s -w", "-o", made, "."],
                           cwd=SERVER, env=environment, timeout=BUILD_LIMIT, check=True)
            made.rename(program)
    return program


def documented_policy():
    """The policy that docs/keys.md tells operators to give the agent."""
    text = (places.REPOSITORY / "docs/keys.md").read_text(encoding="utf-8")
    return re.search(r"```hcl\n(.*?)```", text, re.DOTALL)[1]


class Vault:
    """`with Vault(folder) as vault:` starts one with a Transit engine and AppRole. `within` is a workload that it runs inside of;
    then it has that one's address, and a certificate, as nobody sends keys over a network without."""

    def __init__(self, folder, within=None):
        self.folder = folder
        self.data = folder / "vault"
        self.data.mkdir(parents=True)
        self.port = places.free_port()
        self.ca = None
        self._within = within
        self._tls, self._trust = [], None
        self._host = within.address if within else "127.0.0.1"
        self.address = f"{'https' if within else 'http'}://{self._host}:{self.port}"
        if within:
            authority = Authority(folder / "certificates", "authority")
            issued = authority.issue("vault", [self._host])
            self.ca = authority.ca
            self._tls = ["--certificate", f"{issued}.crt", "--key", f"{issued}.key"]
            self._trust = ssl.create_default_context(cafile=self.ca)
        self._process = None

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        self.start()
        self.call("POST", "sys/mounts/transit", {"type": "transit"})
        self.call("POST", "sys/auth/approle", {"type": "approle"})
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        command = [server(), "--data", self.data, "--listen", f"{self._host}:{self.port}", *self._tls]
        with open(self.folder / "vault.log", "ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *(self._within.command(command) if self._within else command)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        waiting.wait_until("Vault to answer", self._answers, 60)
        made = json.loads((self.data / "made.json").read_text())
        self.root_token, self.unseal_key = made["root_token"], made["unseal_key"]

    def stop(self):
        """Connections are refused from now on. What it stores stays."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def call(self, method, path, body=None, token=None):
        """What Vault answers, as JSON; raises when that is an error."""
        request = urllib.request.Request(f"{self.address}/v1/{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"X-Vault-Token": token or self.root_token})
        with urllib.request.urlopen(request, timeout=20, context=self._trust) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def make_key(self, name):
        self.call("POST", f"transit/keys/{name}", {})

    def delete_key(self, name):
        self.call("POST", f"transit/keys/{name}/config", {"deletion_allowed": True})
        self.call("DELETE", f"transit/keys/{name}")

    def write_policy(self, name, keys):
        """The documented policy, which is about the key "kveil", for each of these keys."""
        text = documented_policy()
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": "\n".join(text.replace('/kveil"', f'/{key}"') for key in keys)})

    def root_key(self, key="kveil", token_ttl="1h"):
        """The `root` of an agent's configuration: a new key, which the agent may use as documented, by AppRole."""
        self.make_key(key)
        self.write_policy(key, [key])
        self.call("POST", f"auth/approle/role/{key}", {"token_policies": key, "token_ttl": token_ttl})
        secret = self.folder / "secret-id"
        secret.write_text(self.call("POST", f"auth/approle/role/{key}/secret-id", {})["data"]["secret_id"], encoding="utf-8")
        role = self.call("GET", f"auth/approle/role/{key}/role-id")["data"]["role_id"]
        return {"vault": {"address": self.address, "key": key, "appRole": {"roleId": role, "secretIdFile": str(secret)},
                          **({"ca": str(self.ca)} if self.ca else {})}}

    def make_token(self, policy, ttl="1h"):
        return self.call("POST", "auth/token/create", {"policies": [policy], "ttl": ttl})["auth"]["client_token"]

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"Vault ended with status {self._process.returncode}: {(self.folder / 'vault.log').read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{self.address}/v1/sys/health", timeout=5, context=self._trust) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
