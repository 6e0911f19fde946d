"""A real Kubernetes node for tests: etcd, API server, controller manager, scheduler, containerd and kubelet, all of them in
network and mount namespaces of the caller's own."""

import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "scripts/lib"), str(HERE.parent / "kafka/matrix")]
import installing  # noqa: E402
import places  # noqa: E402
import waiting  # noqa: E402

VERSION = "1.30.0"
PROGRAMS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"]
PACKAGES = ["etcd-server", "libseccomp-dev", "containernetworking-plugins", "busybox-static"]
BUILD_LIMIT = 7200  # Seconds. Seven minutes on two idle cores.
START_LIMIT = 300  # Seconds. Some on an idle machine.
NAME = "node1"
ADDRESS = "10.200.0.2"
ETCD = "http://127.0.0.1:12379"
HEALTH_PORT = 10248  # The kubelet's.
API = "10.96.0.1"  # The cluster's address of the API server. The node has it itself, so that nothing has to translate it.
PODS = "10.244.0.0/24"
# The kubelet sets these, for the whole machine. Here it finds files in their place.
SYSCTLS = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
           "kernel/keys/root_maxbytes"]
# What the daemons and the pods' host paths write to outside of the folder that they are given: the machine's stay as they are.
HIDDEN = ["/run", "/var/log", "/opt"]


def install():
    """What Debian has of it."""
    missing = [package for package in PACKAGES if subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, check=False).stdout != "installed"]
    if missing:
        print(f"installing {' '.join(missing)} ...", file=sys.stderr, flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(["apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing], env=environment, check=True,
                       stdout=subprocess.DEVNULL)


def programs():
    """The folder with Kubernetes' own programs, built from its Go modules once."""
    return _built("kubernetes", HERE / "node", {
        program: (f"k8s.io/kubernetes/cmd/{program}", "", f"-X k8s.io/component-base/version.gitVersion=v{VERSION}") for program in PROGRAMS})


def runtime():
    """The folder with containerd, ctr, its shim, and runc, built from their Go modules once. Debian's are too old for pods in user namespaces."""
    required = dict(re.findall(r"^\s(\S+) v(\S+)$", (HERE / "runtime/go.mod").read_text(encoding="utf-8"), re.MULTILINE))
    version = f"-X github.com/containerd/containerd/v2/version.Version={required['github.com/containerd/containerd/v2']}"
    return _built("container-runtime", HERE / "runtime", {
        **{program: (f"github.com/containerd/containerd/v2/cmd/{program}", "no_btrfs,no_devmapper,no_zfs", version)
           for program in ("containerd", "ctr", "containerd-shim-runc-v2")},
        "runc": ("github.com/opencontainers/runc", "seccomp", f"-X main.version={required['github.com/opencontainers/runc']}")})


def _built(name, module, targets):
    """The folder in the cache with the programs of a Go module. `targets`: package, tags and linker flags by program."""
    sources = [module / file for file in ("go.mod", "go.sum", "tools.go")]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = places.cache() / f"{name}-{digest}"
    with open(places.cache() / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            print(f"building {', '.join(targets)} (once, for some minutes) ...", file=sys.stderr, flush=True)
            unfinished = folder.with_suffix(".unfinished")
            unfinished.mkdir(exist_ok=True)
            for program, (package, tags, flags) in targets.items():
                # runc enters namespaces in C, and has its filters from libseccomp.
                environment = {**os.environ, "CGO_ENABLED": "1" if program == "runc" else "0", "GOTOOLCHAIN": "local",
                               "GOFLAGS": "-mod=readonly -buildvcs=false"}
                subprocess.run([installing.go_toolchain(module / "go.mod"), "build", "-trimpath", "-tags", tags, "-ldflags", f"-s -w {flags}",
                                "-o", unfinished / program, package], cwd=module, env=environment, timeout=BUILD_LIMIT, check=True)
            unfinished.rename(folder)
    return folder


class Node:
    """`with Node(folder) as node:` starts one and waits until it is Ready. Everything that it writes is below `folder`, in file
    systems that only this mount namespace has, and in the cgroups /kubepods, which no other node may have at the same time.

    `taint` is what the node registers with. Static pods are read from `node.static_pods`."""

    def __init__(self, folder, taint=None):
        self.folder = folder
        self.programs = programs()
        os.environ["PATH"] = f"{runtime()}:{os.environ['PATH']}"
        self.kubeconfig = folder / "admin.kubeconfig"
        self.static_pods = folder / "static-pods"
        self.server = f"https://{API}"
        self.taint = taint
        self._daemons = {}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        waiting.ignore_signals()
        self.power_off()
        for name in reversed(list(self._daemons)):
            self._stop(name)

    def kubectl(self, *arguments, text=None, check=True, timeout=120):
        """What kubectl prints."""
        done = subprocess.run([self.programs / "kubectl", "--kubeconfig", self.kubeconfig, *arguments], input=text, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False)
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr}{done.stdout}")
        return done.stdout

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def load(self, archive):
        """Gives the container runtime an image."""
        subprocess.run(["ctr", "--address", self._socket, "--namespace", "k8s.io", "images", "import", "--local", "--snapshotter", "native",
                        archive], stdout=subprocess.DEVNULL, check=True, timeout=300)

    def log(self, name):
        """The end of a daemon's log."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-30:])

    def power_off(self):
        """Ends the kubelet, the container runtime and every pod at once, as losing power does. The control plane stays."""
        for name in ("kubelet", "containerd"):
            self._stop(name)
        _kill(shim for shim in _in_namespace(os.readlink("/proc/self/ns/mnt")) if _is_shim(shim))
        _remove_pods()
        for mount in _mounts_below([self.folder / "kubelet", self.folder / "containerd", "/run/containerd", "/run/netns"]):
            # Of those below /run, some are the machine's, and hidden.
            subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL, check=False)
        for link in os.listdir("/sys/class/net"):
            if link.startswith("veth"):
                subprocess.run(["ip", "link", "delete", link], check=False)
        for state in ("/run/containerd", "/run/netns"):
            if not _mounts_below([state]):
                shutil.rmtree(state, ignore_errors=True)

    def power_on(self):
        """Starts them again. What the kubelet had begun it finds gone."""
        self._run("containerd", "containerd", "--config", self.folder / "containerd.toml")
        waiting.wait_until("containerd", lambda: subprocess.run(
            ["ctr", "--address", self._socket, "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0,
            START_LIMIT, every=0.2)
        kubelet = [self.programs / "kubelet", "--kubeconfig", self.kubeconfig, "--config", self.folder / "kubelet.yaml",
                   "--root-dir", self.folder / "kubelet", "--cert-dir", self.folder / "kubelet-certificates",
                   "--hostname-override", NAME, "--node-ip", ADDRESS]
        self._run("kubelet", *kubelet)

        def is_up():
            # It ends when the container runtime's own parts are not all up yet. A node's supervisor starts it again, too.
            if self._daemons["kubelet"].poll() is not None:
                self._run("kubelet", *kubelet)
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", HEALTH_PORT)) == 0
        waiting.wait_until("the kubelet", is_up, START_LIMIT, every=0.5)

    def start_api_server(self):
        self._run("apiserver", self.programs / "kube-apiserver", "--etcd-servers", ETCD, "--secure-port", "443",
                  "--bind-address", "0.0.0.0", "--advertise-address", ADDRESS, "--cert-dir", self.folder / "api",
                  "--token-auth-file", self.folder / "tokens.csv", "--authorization-mode", "RBAC,Node",
                  "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", self.folder / "sa.pub",
                  "--service-account-signing-key-file", self.folder / "sa.key", "--service-cluster-ip-range", "10.96.0.0/16",
                  "--allow-privileged", "--feature-gates", "UserNamespacesSupport=true", "--kubelet-preferred-address-types", "InternalIP")
        try:
            waiting.wait_until("the API server", lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok", START_LIMIT, every=0.2)
        except waiting.TimedOut as error:
            raise RuntimeError(f"{error}; it says:\n{self.log('apiserver')}") from error

    def stop_api_server(self):
        self._stop("apiserver")

    def wait_until_ready(self):
        try:
            waiting.wait_until("the node to be Ready", self._is_ready, START_LIMIT, every=0.2)
        except waiting.TimedOut as error:
            raise RuntimeError(f"{error}; the kubelet says:\n{self.log('kubelet')}") from error

    @property
    def _socket(self):
        return "/run/containerd/containerd.sock"

    def _run(self, name, *command):
        with open(self.folder / f"{name}.log", "ab") as log:
            self._daemons[name] = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
                                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _stop(self, name):
        """At once: nothing of a test's node is needed again, and an API server waits a minute for its clients."""
        daemon = self._daemons.pop(name, None)
        if daemon:
            daemon.kill()
            daemon.wait(10)

    def _start(self):
        self._hide_the_machine()
        self._write_configuration()
        self._run("etcd", "etcd", "--data-dir", self.folder / "etcd", "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD,
                  "--listen-peer-urls", "http://127.0.0.1:12380", "--initial-advertise-peer-urls", "http://127.0.0.1:12380",
                  "--initial-cluster", "default=http://127.0.0.1:12380")
        self.start_api_server()
        self._run("controllers", self.programs / "kube-controller-manager", "--kubeconfig", self.kubeconfig,
                  "--service-account-private-key-file", self.folder / "sa.key", "--root-ca-file", self.folder / "api/apiserver.crt",
                  "--leader-elect=false", "--cert-dir", self.folder / "controllers", "--use-service-account-credentials")
        self._run("scheduler", self.programs / "kube-scheduler", "--kubeconfig", self.kubeconfig, "--leader-elect=false")
        self.power_on()
        self.wait_until_ready()

    def _hide_the_machine(self):
        for address in (ADDRESS, API):
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for folder in HIDDEN:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        over, work = self.folder / "var-lib", self.folder / "var-lib-work"
        for folder in (over, work):
            folder.mkdir()
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir=/var/lib,upperdir={over},workdir={work}", "overlay", "/var/lib"],
                       check=True)
        stand_ins = self.folder / "sysctls"
        for name in SYSCTLS:
            stand_in = stand_ins / name
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.write_text(pathlib.Path("/proc/sys", name).read_text())
            subprocess.run(["mount", "--bind", stand_in, f"/proc/sys/{name}"], check=True)
        # In a user namespace, proc can be mounted only where the mount namespace has one with nothing on top of it.
        whole = self.folder / "proc"
        whole.mkdir()
        subprocess.run(["mount", "-t", "proc", "proc", whole], check=True)

    def _is_ready(self):
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json", check=False) or '{"items": []}')["items"]
        return any(condition["type"] == "Ready" and condition["status"] == "True"
                   for node in nodes for condition in node["status"].get("conditions", []))

    def _write_configuration(self):
        folder = self.folder
        for name in ("api", "cni", "cni-plugins", "containerd", "static-pods", "volume-plugins"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"], check=True,
                       stderr=subprocess.DEVNULL)
        (folder / "tokens.csv").write_text('admin-token,admin,1,"system:masters"\n')
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.server, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "admin", "user": {"token": "admin-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}]}))
        (folder / "cni/10-pods.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [
            {"type": "kveil-gate"},
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "ipam": {
                "type": "host-local", "subnet": PODS, "dataDir": "/run/addresses", "routes": [{"dst": "0.0.0.0/0"}]}}]}))
        for plugin in [*pathlib.Path("/usr/lib/cni").iterdir(), places.REPOSITORY / "kubernetes/node/kveil-gate"]:
            (folder / "cni-plugins" / plugin.name).symlink_to(plugin)
        (folder / "containerd.toml").write_text(f"""version = 3
root = "{folder}/containerd"
state = "/run/containerd/state"
[grpc]
 address = "{self._socket}"
[plugins."io.containerd.internal.v1.opt"]
 path = "{folder}/containerd-opt"
[plugins."io.containerd.cri.v1.images"]
 snapshotter = "native"
 [plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
 restrict_oom_score_adj = true
 [plugins."io.containerd.cri.v1.runtime".cni]
  bin_dir = "{folder}/cni-plugins"
  conf_dir = "{folder}/cni"
""")
        taints = [{"key": self.taint, "effect": "NoSchedule"}] if self.taint else []
        (folder / "kubelet.yaml").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs",
            "featureGates": {"UserNamespacesSupport": True},
            "failSwapOn": False, "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}, "containerRuntimeEndpoint": f"unix://{self._socket}",
            "localStorageCapacityIsolation": False, "syncFrequency": "1s", "registerWithTaints": taints,
            "staticPodPath": str(self.static_pods), "fileCheckFrequency": "1s", "volumePluginDir": str(folder / "volume-plugins"),
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"}}))


def refuse_a_node():
    """Ends the script when this machine has pods already: they would be taken for those of the test."""
    busy = [folder for folder in _pod_cgroups() if any(procs.read_text() for procs in folder.rglob("cgroup.procs"))]
    if busy:
        raise SystemExit(f"processes run in {busy[0]}: this machine is a Kubernetes node, or another test runs")


def sweep(namespace):
    """What a node leaves behind whose test was killed: everything in its mount namespace, and its pods."""
    _kill(_in_namespace(namespace))
    _remove_pods()


def _remove_pods():
    for folder in _pod_cgroups():
        _remove_cgroup(folder)


def _pod_cgroups():
    """/kubepods in each hierarchy of the machine."""
    return [folder for folder in {*pathlib.Path("/sys/fs/cgroup").glob("*/kubepods"), pathlib.Path("/sys/fs/cgroup/kubepods")}
            if folder.is_dir()]


def _in_namespace(namespace):
    """The processes in a mount namespace."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/mnt") == namespace:
                found.append(int(process.name))
        except OSError:
            pass  # It has ended.
    return found


def _is_shim(pid):
    """containerd's, which outlive it."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("containerd-shim")
    except OSError:
        return False


def _kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _remove_cgroup(cgroup):
    """Kills what runs in it, and removes it with all below."""
    def is_removed():
        if not cgroup.is_dir():
            return True
        for folder, _, _ in os.walk(cgroup, topdown=False):
            try:
                for pid in pathlib.Path(folder, "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                os.rmdir(folder)
            except OSError:
                pass  # Something is left that has not ended yet; or it is gone by itself.
        return not cgroup.is_dir()
    waiting.wait_until(f"{cgroup} to be removed", is_removed, 20)


def _mounts_below(folders):
    """The deepest first."""
    mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    return [mount for mount in reversed(mounts) if any(mount.startswith(f"{folder}/") for folder in folders)]
