"""What every scene needs: images, accounts, policies, the agent's manifests, and pods that run a script."""

import json
import shutil
import subprocess

import image
import places
import waiting

TAINT = "kveil.io/agent-not-ready"
SECRET = "clear-text-secret"  # In every value that is produced.
CLIENT = "localhost/client:1"
AGENT = "docker.io/library/kveil:0.1.0"  # What the manifests call kveil:0.1.0.
LISTEN_PORT = 15931


class Stage:
    def __init__(self, kubernetes, broker, registry, folder):
        self.node, self.broker, self.registry, self.folder = kubernetes, broker, registry, folder
        self.is_installed = False

    def set_up(self):
        self._load_images()
        for namespace, accounts in (("shop", ["web", "analytics"]), ("bank", ["analytics"])):
            self.node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
                            *({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}}
                              for account in accounts))
        for namespace in ("shop", "bank", "default"):
            waiting.wait_until(f"the default account of {namespace}",
                               lambda: self.node.kubectl("get", "serviceaccount", "default", "-n", namespace, check=False), 30)
        self._write_overlay()

    def install(self):
        """As docs/kubernetes.md says."""
        key = self.folder / "root.key"
        subprocess.run([places.program(), "keys", "create-root", key], check=True, stdout=subprocess.DEVNULL)
        self.node.kubectl("apply", "-f", places.REPOSITORY / "kubernetes/namespace.yaml")
        self.node.kubectl("-n", "kveil-system", "create", "secret", "generic", "kveil-secrets", f"--from-file={key}")
        self.node.kubectl("apply", "-k", self.folder / "overlay")
        self.node.kubectl("apply", "-f", places.REPOSITORY / "kubernetes/create-registry.yaml")

    def agent_is_ready(self):
        daemon = self.node.get("daemonset", "kveil", "-n", "kveil-system")
        status = daemon["status"]
        return (status.get("numberReady", 0) == 1 and status.get("updatedNumberScheduled", 0) == 1
                and status["observedGeneration"] == daemon["metadata"]["generation"])

    def wait_for_agent(self):
        def is_ready():
            restarts = [status["restartCount"] for pod in self.node.get("pods", "-n", "kveil-system")["items"]
                        for status in pod["status"].get("containerStatuses", [])]
            expect(max(restarts, default=0) < 4, "the agent ends again and again")
            return self.agent_is_ready()
        waiting.wait_until("the DaemonSet to be ready", is_ready, 120, every=0.2)
        self.is_installed = True

    def keep_agent_away(self, away):
        """Takes the DaemonSet off the node, or lets it come back."""
        selector = {"kveil.io/nowhere": "1"} if away else None
        self.node.kubectl("patch", "daemonset", "kveil", "-n", "kveil-system", "--type=merge", "-p",
                          json.dumps({"spec": {"template": {"spec": {"nodeSelector": selector}}}}))

    def kveil(self, *arguments, check=True):
        """What `kveil` prints in the agent's container."""
        return self.node.kubectl("-n", "kveil-system", "exec", "daemonset/kveil", "--", "/usr/bin/kveil", *arguments, "--config",
                                 "/etc/kveil/config/agent.json", check=check)

    def last_words(self):
        """What there is to look at when something went wrong."""
        return "\n".join((
            self.node.kubectl("logs", "-n", "kveil-system", "daemonset/kveil", "--previous", "--tail", "10", check=False),
            self.node.kubectl("logs", "-n", "kveil-system", "daemonset/kveil", "--tail", "40", check=False),
            self.node.kubectl("describe", "pods", "-n", "kveil-system", check=False)[-3000:],
            self.node.kubectl("get", "pods", "-A", check=False),
            self.node.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)[-3000:]))

    def write_policies(self, topics):
        (self.folder / "overlay/policies.json").write_text(json.dumps({"topics": topics}))

    def start_pod(self, name, script, namespace="shop", account="web", labels=None, **changes):
        """A pod that runs a shell script once. `changes` go into its `spec`."""
        self.node.apply({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
            "spec": {**pod_of(script, account), **changes}})

    def wait_for_pod(self, name, namespace="shop", seconds=120):
        """Whether its scripts exited 0, and what they printed."""
        def phase():
            found = self.node.get("pod", name, "-n", namespace)["status"].get("phase")
            return found if found in ("Succeeded", "Failed") else None
        ended = waiting.wait_until(f"pod {name} to end", phase, seconds, every=0.2)
        return ended == "Succeeded", self.node.kubectl("logs", "-n", namespace, name, "--all-containers")

    def run_pod(self, name, script, namespace="shop", account="web", labels=None, **changes):
        self.start_pod(name, script, namespace, account, labels, **changes)
        done = self.wait_for_pod(name, namespace)
        self.remove_pod(name, namespace)
        return done

    def deploy(self, name, script, replicas):
        """A Deployment whose pods run it for ever. Their label `app` is its name."""
        labels = {"app": name}
        self.node.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {**pod_of(script, "web"), "restartPolicy": "Always"}}}})

    def remove_pod(self, name, namespace="shop"):
        self.node.kubectl("delete", "pod", name, "-n", namespace, "--grace-period=1")

    def produce(self, topic, count, seconds=30):
        """A shell script that does, and gives up after so many seconds."""
        return (f"for i in $(seq {count}); do echo '{{\"userid\":\"'$((i % 7))'\",\"text\":\"{SECRET}\"}}'; done | "
                f"kcat -P -b {self.broker.bootstrap} -t {topic} -X acks=all -X message.timeout.ms={seconds * 1000}")

    def consume(self, topic):
        return f"kcat -C -b {self.broker.bootstrap} -t {topic} -o beginning -e -q 2>&1"

    def reads(self, topic, **who):
        """What a pod reads of a topic, and is told."""
        _, said = self.run_pod("reader", self.consume(topic), **who)
        return said

    def stored(self, topic):
        return self.broker.stored_records(topic)

    def expect_sealed(self, topic, at_least):
        """At the broker, past the agent."""
        records = self.stored(topic)
        expect(len(records) >= at_least, f"the broker has {len(records)} records of {topic}, and not {at_least}")
        clear = sum("kveil" not in dict(record.headers) for record in records)
        expect(clear == 0, f"{clear} of {len(records)} records of {topic} have no envelope")
        expect(SECRET.encode() not in self.broker.stored_bytes(topic), f"records of {topic} are in clear text")

    def _load_images(self):
        pause = self.folder / "pause.c"
        pause.write_text("#include <signal.h>\n#include <unistd.h>\nstatic void end(int s) { _exit(s & 0); }\n"
                         "int main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }\n")
        subprocess.run(["gcc", "-O2", "-static", pause, "-o", self.folder / "pause"], check=True)
        subprocess.run(["gcc", "-O2", "-static", places.REPOSITORY / "tests/kubernetes/connects.c", "-o", self.folder / "connects"], check=True)
        image.write(self.folder / "pause.tar", "localhost/pause:1", {"pause": self.folder / "pause"}, ["/pause"])
        image.write(self.folder / "kveil.tar", AGENT, {"usr/bin/kveil": places.program()}, ["/usr/bin/kveil"])
        applets = ("sh", "seq", "cat", "sleep", "wc", "grep", "head", "true", "date")
        image.write(self.folder / "client.tar", CLIENT,
                    {"bin/busybox": shutil.which("busybox"), "usr/bin/kcat": shutil.which("kcat"),
                     "usr/bin/connects": self.folder / "connects"}, ["/bin/sh"],
                    links={f"bin/{applet}": "busybox" for applet in applets})
        for name in ("pause", "kveil", "client"):
            self.node.load(self.folder / f"{name}.tar")

    def _write_overlay(self):
        """What this node has instead: its brokers, its policies, its registry, the test's image, and a cgroup that holds
        the pods alone, as the machine runs other things beside them."""
        overlay = self.folder / "overlay"
        shutil.copytree(places.REPOSITORY / "kubernetes/base", overlay / "base")
        (overlay / "agent.json").write_text(json.dumps({
            "intercept": {"cgroup": f"{places.cgroup_mount()}/kubepods", "listenPort": LISTEN_PORT,
                          "targets": [{"cluster": "main", "cidr": f"{self.broker.address}/32", "ports": str(self.broker.port)}]},
            "keys": self.registry.keys("/var/lib/kveil/root.key"),
            "policies": "/etc/kveil/policies",
            "kubernetes": {"startupTaint": TAINT, "identityTimeout": "10s"}}))
        self.write_policies(POLICIES)
        capabilities = ["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"]
        (overlay / "patch.yaml").write_text(json.dumps({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "kveil", "namespace": "kveil-system"},
            "spec": {"template": {"spec": {"containers": [{
                "name": "kveil",
                # The machine that the test runs on may lack SYS_RESOURCE itself.
                "securityContext": {"capabilities": {"drop": ["ALL"], "add": capabilities}}}]}}}}))
        (overlay / "kustomization.yaml").write_text(json.dumps({
            "resources": ["base"], "namespace": "kveil-system", "patches": [{"path": "patch.yaml"}],
            "generatorOptions": {"disableNameSuffixHash": True},
            "configMapGenerator": [{"name": "kveil-config", "behavior": "replace", "files": ["agent.json"]},
                                   {"name": "kveil-policies", "behavior": "replace", "files": ["policies.json"]}]}))


def sealed(name, *readers):
    return {"name": name, "seal": {"scope": "user", "user": {"value": "/userid"}},
            "read": [{"workload": reader} for reader in readers]}


POLICIES = [
    *(sealed(name, {"serviceAccount": "shop/analytics"}) for name in (
        "clickstream", "once", "steady", "churn", "containers", "outage", "removed", "boot", "users")),
    {"name": "labelled", "seal": {"scope": "topic"}, "read": [{"workload": {"namespace": "shop", "labels": {"role": "reader"}}}]},
    sealed("root", {"serviceAccount": "shop/analytics", "uid": 0}),
    sealed("static", {"namespace": "default", "labels": {"role": "static-reader"}})]


def pod_of(script, account):
    return {"serviceAccountName": account, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [container("main", script)]}


def container(name, script):
    return {"name": name, "image": CLIENT, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script]}


def expect(condition, what):
    if not condition:
        raise AssertionError(what)
