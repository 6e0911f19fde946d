"""What is tried on the node: each scene is a function that raises when something is not as it should be."""

import json
import os
import re
import shutil
import subprocess

import node
import places
import waiting
from stage import CLIENT, POLICIES, SECRET, TAINT, container, expect, pod_of, sealed


def starts_before_the_pods(stage):
    """no pod is scheduled while the node has no agent, and the first one's records are sealed"""
    stage.start_pod("early", stage.produce("clickstream", 100))
    waiting.wait_until("the scheduler to see the pod", lambda: TAINT in stage.node.kubectl("describe", "pod", "early", "-n", "shop"), 60)
    stage.install()
    stage.wait_for_agent()
    waiting.wait_until("the taint to be gone", lambda: not any(
        taint["key"] == TAINT for taint in stage.node.get("node", node.NAME)["spec"].get("taints", [])), 60)
    succeeded, said = stage.wait_for_pod("early")
    expect(succeeded, said)
    stage.expect_sealed("clickstream", 100)
    print(stage.kveil("status"), flush=True)


def knows_service_accounts(stage):
    """shop/analytics reads; shop/web and bank/analytics read nothing, and are told why"""
    succeeded, said = stage.run_pod("writer", stage.produce("clickstream", 100))
    expect(succeeded, said)
    said = stage.reads("clickstream", account="analytics")
    expect(said.count(SECRET) >= 100, f"shop/analytics reads {said.count(SECRET)} records: {said[-500:]}")
    for namespace, account in (("shop", "web"), ("bank", "analytics")):
        said = stage.reads("clickstream", namespace=namespace, account=account)
        expect(SECRET not in said, f"{namespace}/{account} reads what it may not")
        expect("authoriz" in said.lower(), f"{namespace}/{account} is not told why: {said[-500:]}")


def knows_labels(stage):
    """labels decide who reads, within their namespace"""
    succeeded, said = stage.run_pod("writer", stage.produce("labelled", 50))
    expect(succeeded, said)
    stage.expect_sealed("labelled", 50)
    for labels, may_read in (({"role": "reader", "x": "y"}, True), ({"role": "writer"}, False), ({}, False)):
        said = stage.reads("labelled", labels=labels)
        expect(said.count(SECRET) == (50 if may_read else 0), f"{labels}: {said[-500:]}")
    said = stage.reads("labelled", namespace="bank", account="analytics", labels={"role": "reader"})
    expect(SECRET not in said, "labels count in any namespace")


def first_connections_work(stage):
    """a Job of fifty pods, each of which tries once"""
    spec = pod_of(stage.produce("once", 1), "web")
    stage.node.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": "shop"},
                      "spec": {"completions": 50, "parallelism": 5, "backoffLimit": 0, "template": {"spec": spec}}})

    def ended():
        status = stage.node.get("job", "once", "-n", "shop")["status"]
        return status if status.get("conditions") else None
    status = waiting.wait_until("fifty pods to end", ended, 400, every=1)
    stage.node.kubectl("delete", "job", "once", "-n", "shop", "--wait=true")
    expect(status.get("succeeded") == 50, f"{status}")
    stage.expect_sealed("once", 50)


def pods_are_killed_and_recreated(stage):
    """a Deployment's pods are killed five times; what they write is sealed, and new pods are known"""
    script = f"while true; do {stage.produce('churn', 5)} || exit 1; sleep 0.2; done"
    stage.deploy("churn", script, replicas=3)
    for _ in range(5):
        before = len(stage.stored("churn"))
        waiting.wait_until("three pods that write", lambda: len(stage.stored("churn")) > before + 30, 60, every=0.5)
        stage.node.kubectl("delete", "pods", "-n", "shop", "-l", "app=churn", "--grace-period=0", "--force")
    before = len(stage.stored("churn"))
    waiting.wait_until("new pods that write", lambda: len(stage.stored("churn")) > before + 30, 60, every=0.5)
    pods = stage.node.get("pods", "-n", "shop", "-l", "app=churn")["items"]
    restarts = sum(status["restartCount"] for pod in pods for status in pod["status"].get("containerStatuses", []))
    stage.node.kubectl("delete", "deployment", "churn", "-n", "shop", "--cascade=foreground")
    expect(restarts == 0, f"producers failed {restarts} times")
    stage.expect_sealed("churn", 180)


def rolls_while_clients_run(stage):
    """the DaemonSet is restarted under load: no record is lost, and none is in clear text"""
    script = (f"i=0; while [ ! -e /stop ]; do i=$((i+1)); "
              f"echo '{{\"userid\":\"'$((i % 7))'\",\"text\":\"{SECRET}\",\"n\":'$i'}}'; [ $((i % 50)) -eq 0 ] && sleep 1; done | "
              f"kcat -P -E -b {stage.broker.bootstrap} -t steady -X acks=all -X enable.idempotence=true && echo all-acknowledged")
    # -E: kcat goes on when its broker is away.
    stage.start_pod("steady", script)
    waiting.wait_until("records to come", lambda: len(stage.stored("steady")) > 50, 60, every=0.5)
    stage.node.kubectl("rollout", "restart", "daemonset/kveil", "-n", "kveil-system")
    waiting.wait_until("the new agent", stage.agent_is_ready, 120, every=0.2)
    behind = len(stage.stored("steady"))
    waiting.wait_until("records through the new agent", lambda: len(stage.stored("steady")) > max(behind + 50, 500), 120, every=0.5)
    stop(stage, "steady")
    succeeded, said = stage.wait_for_pod("steady", seconds=180)
    stage.remove_pod("steady")
    expect(succeeded and "all-acknowledged" in said, said[-1000:])
    stage.expect_sealed("steady", 500)
    said = stage.reads("steady", account="analytics")
    numbers = sorted(json.loads(line)["n"] for line in said.splitlines() if '"n"' in line)
    expect(numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 500, f"{len(numbers)} records, {numbers[-1:]} is the last")


def connects_wait_for_the_next_agent(stage):
    """the DaemonSet is rolled, its container is killed, and the store of its listeners is replaced: no connect fails"""
    connect = f"connects {stage.broker.address} {stage.broker.port} /stop"
    stage.start_pod("connects", " & ".join([connect] * 4) + " & wait")
    waiting.wait_until("connects", lambda: stage.node.kubectl("logs", "-n", "shop", "connects", check=False).count("began") == 4, 60, every=0.5)
    roll(stage)
    before = agent_container(stage)
    subprocess.run(["ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL",
                    before.removeprefix("containerd://")], check=True)
    waiting.wait_until("the agent to be started again", lambda: agent_container(stage) != before and stage.agent_is_ready(), 120, every=0.5)
    store = ("-n", "kveil-system", "-l", "app.kubernetes.io/name=kveil-fdstore")
    stage.node.kubectl("delete", "pod", *store)
    waiting.wait_until("the agent to find another store", lambda: "fdstore.agent " in stage.node.kubectl("logs", *store, check=False) and
                       "fdstore" not in stage.kveil("status", check=False), 60, every=0.5)
    roll(stage)
    stop(stage, "connects")
    _, said = stage.wait_for_pod("connects")
    stage.remove_pod("connects")
    results = re.findall(r"answered=(\d+) failed=(\d+) silent=(\d+) longest=(\d+)", said)
    print(f"    answered, failed, silent, longest wait in ms: {results}")
    expect(len(results) == 4, said)
    for answered, failed, silent, _ in results:
        expect(int(failed) == 0 and int(answered) > 0, said)
        # Each of the three agents that ended may have had one connection of each client.
        expect(int(silent) <= 3, said)


def stop(stage, pod):
    """For scripts that go on until there is this file."""
    stage.node.kubectl("exec", "-n", "shop", pod, "--", "/bin/sh", "-c", "> /stop")


def roll(stage):
    before = agent_container(stage)
    stage.node.kubectl("rollout", "restart", "daemonset/kveil", "-n", "kveil-system")
    waiting.wait_until("the new agent", lambda: stage.agent_is_ready() and agent_container(stage) != before, 120, every=0.5)


def containers_share_their_pods_identity(stage):
    """an init container, two containers and an ephemeral container of one pod"""
    read = f"{stage.consume('containers')} | grep -c {SECRET}"
    stage.start_pod("several", f"echo first sees $({read}); sleep 60", account="analytics", initContainers=[
        container("before", stage.produce("containers", 20))], containers=[
            container("first", f"echo first sees $({read}); sleep 60"), container("second", f"echo second sees $({read}); sleep 60")])
    for name in ("first", "second"):
        waiting.wait_until(f"container {name} to read", lambda: "sees" in stage.node.kubectl(
            "logs", "-n", "shop", "several", "-c", name, check=False), 60, every=0.5)
        said = stage.node.kubectl("logs", "-n", "shop", "several", "-c", name)
        expect(f"{name} sees 20" in said, said)
    stage.node.kubectl("debug", "several", "-n", "shop", f"--image={CLIENT}", "--image-pull-policy=Never", "--container=later",
                       "--attach=false", "--", "/bin/sh", "-c", f"echo later sees $({read})")
    waiting.wait_until("the ephemeral container to read", lambda: "later sees 20" in stage.node.kubectl(
        "logs", "-n", "shop", "several", "-c", "later", check=False), 60, every=0.5)
    stage.remove_pod("several")
    stage.expect_sealed("containers", 20)


def knows_pods_on_the_nodes_network(stage):
    """pods with hostNetwork have their own identity"""
    network = {"hostNetwork": True}
    succeeded, said = stage.run_pod("writer", stage.produce("clickstream", 10), **network)
    expect(succeeded, said)
    said = stage.reads("clickstream", account="analytics", **network)
    expect(said.count(SECRET) >= 10, f"shop/analytics: {said[-500:]}")
    said = stage.reads("clickstream", **network)
    expect(SECRET not in said and "authoriz" in said.lower(), f"shop/web: {said[-500:]}")
    stage.expect_sealed("clickstream", 10)


def knows_pods_in_user_namespaces(stage):
    """with hostUsers: false, no connect fails, the account decides who reads, and root in the pod is another user of the node"""
    own = {"hostUsers": False}
    connect = f"(sleep 5; > /stop) & connects {stage.broker.address} {stage.broker.port} /stop; cat /proc/self/uid_map; {stage.produce('users', 20)}"
    succeeded, said = stage.run_pod("writer", connect, **own)
    expect(succeeded and "failed=0 silent=0" in said, said)
    inside, outside, _ = re.search(r"^ *(\d+) +(\d+) +(\d+)$", said, re.MULTILINE).groups()
    print(f"    root in the pod is user {outside} of the node")
    expect(inside == "0" and int(outside) > 0, f"the pod has no user namespace of its own: {said}")
    stage.expect_sealed("users", 20)
    said = stage.reads("users", account="analytics", **own)
    expect(said.count(SECRET) == 20, f"shop/analytics: {said[-500:]}")
    said = stage.reads("users", **own)
    expect(SECRET not in said and "authoriz" in said.lower(), f"shop/web: {said[-500:]}")
    succeeded, said = stage.run_pod("writer", stage.produce("root", 20), **own)
    expect(succeeded, said)
    said = stage.reads("root", account="analytics", **own)
    expect(SECRET not in said and "authoriz" in said.lower(), f"uid 0 of the pod: {said[-500:]}")
    said = stage.reads("root", account="analytics")
    expect(said.count(SECRET) == 20, f"uid 0 of the node: {said[-500:]}")


def agent_container(stage):
    """That of the agent that is there last; None while there is none."""
    pods = stage.node.get("pods", "-n", "kveil-system", "-l", "app.kubernetes.io/name=kveil")["items"]
    containers = [status.get("containerID") for pod in pods for status in pod["status"].get("containerStatuses", [])]
    return containers[-1] if containers else None


def takes_new_policies(stage):
    """a changed ConfigMap takes effect without a restart of the agent"""
    before = agent_container(stage)
    stage.write_policies([*POLICIES, sealed("late", {"serviceAccount": "shop/analytics"})])
    stage.node.kubectl("apply", "-k", stage.folder / "overlay")
    waiting.wait_until("the new policies", lambda: json.loads(stage.kveil("status", "--json"))["policies"]["topics"] == len(POLICIES) + 1,
                       120, every=1)
    expect(agent_container(stage) == before, "the agent was restarted")
    succeeded, said = stage.run_pod("writer", stage.produce("late", 10))
    expect(succeeded, said)
    stage.expect_sealed("late", 10)


def knows_static_pods(stage):
    """a pod that the kubelet starts from a file is known by its mirror at the API server"""
    succeeded, said = stage.run_pod("writer", stage.produce("static", 20))
    expect(succeeded, said)
    for name, labels, may_read in (("permitted", {"role": "static-reader"}, True), ("other", {"role": "x"}, False)):
        spec = pod_of(f"while true; do {stage.consume('static')}; echo the end; sleep 1; done", None)
        file = stage.node.static_pods / f"{name}.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels},
                                    "spec": {key: value for key, value in spec.items() if value is not None}}))
        pod = f"{name}-{node.NAME}"
        waiting.wait_until(f"the static pod {name} to read", lambda: "the end" in stage.node.kubectl(
            "logs", "-n", "default", pod, check=False), 60, every=0.5)
        said = first_reading(stage, pod)
        expect(said.count(SECRET) == (20 if may_read else 0), f"{name}: {said[-500:]}")
        if may_read:
            stays_known_beside_a_false_mirror(stage, pod)
        file.unlink()
        waiting.wait_until("the static pod to end", lambda: not stage.node.kubectl(
            "get", "pod", pod, "-n", "default", check=False), 60, every=0.5)


def first_reading(stage, pod):
    """What a pod says that reads again and again, up to its first end."""
    return stage.node.kubectl("logs", "-n", "default", pod).partition("the end")[0]


def stays_known_beside_a_false_mirror(stage, pod):
    """Whoever may create pods may claim to be a static pod's mirror. The kubelet deletes it, but a finalizer keeps the object there."""
    hash_key = "kubernetes.io/config.hash"
    hash_of_pod = stage.node.get("pod", pod, "-n", "default")["metadata"]["annotations"][hash_key]
    stage.node.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": "false", "namespace": "shop", "finalizers": ["example.com/never"],
        "annotations": {hash_key: hash_of_pod, "kubernetes.io/config.mirror": hash_of_pod, "kubernetes.io/config.source": "file"}},
        "spec": {"nodeName": node.NAME, "containers": [container("main", "sleep 600")]}})
    try:
        waiting.wait_until("the kubelet to delete the false mirror", lambda: stage.node.get(
            "pod", "false", "-n", "shop")["metadata"].get("deletionTimestamp"), 60, every=0.2)
        # What has begun before may still be refused.
        before = stage.node.kubectl("logs", "-n", "default", pod).count("the end") + 1

        def readings():
            found = stage.node.kubectl("logs", "-n", "default", pod).split("the end")
            return found if len(found) > before + 3 else None
        last = waiting.wait_until("the static pod to read again", readings, 60, every=0.5)[-2]
        expect(last.count(SECRET) == 20, f"beside a false mirror, the static pod reads {last.count(SECRET)} of 20 records: {last[-500:]}")
    finally:
        stage.node.kubectl("patch", "pod", "false", "-n", "shop", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


def goes_on_without_the_api_server(stage):
    """the API server is gone for a while: known pods go on, and later new ones are known"""
    script = f"while true; do {stage.produce('outage', 5)} || exit 1; sleep 0.2; done"
    stage.deploy("outage", script, replicas=2)
    waiting.wait_until("pods that write", lambda: len(stage.stored("outage")) > 30, 60, every=0.5)
    stage.node.stop_api_server()
    before = len(stage.stored("outage"))
    waiting.wait_until("them to go on", lambda: len(stage.stored("outage")) > before + 100, 60, every=0.5)
    stage.node.start_api_server()
    waiting.wait_until("the agent to see it again", lambda: stage.kveil("status", check=False).startswith("kveil") and
                       "WRONG" not in stage.kveil("status", check=False), 60, every=0.5)
    stage.node.kubectl("delete", "deployment", "outage", "-n", "shop", "--cascade=foreground")
    said = stage.reads("outage", account="analytics")
    expect(said.count(SECRET) > 100, f"a new pod reads {said.count(SECRET)} records: {said[-500:]}")
    stage.expect_sealed("outage", 130)


def keeps_the_root_key_when_removed(stage):
    """removing the manifests leaves the root key, and lets nothing out; applied again, what was sealed can be read"""
    succeeded, said = stage.run_pod("writer", stage.produce("removed", 20))
    expect(succeeded, said)
    stage.node.kubectl("delete", "-k", stage.folder / "overlay", "--wait=true")
    waiting.wait_until("the agent to end", lambda: not stage.node.get("pods", "-n", "kveil-system", "-l", "app.kubernetes.io/name=kveil")["items"],
                       60, every=0.5)
    expect("root.key" in stage.node.kubectl("get", "secret", "kveil-secrets", "-n", "kveil-system", "-o", "yaml", check=False),
           "the root key is deleted")
    succeeded, _ = stage.run_pod("writer", stage.produce("removed", 1, seconds=3))
    expect(not succeeded and len(stage.stored("removed")) == 20, "a record reached the broker without an agent")
    stage.node.kubectl("apply", "-k", stage.folder / "overlay")
    stage.wait_for_agent()
    said = stage.reads("removed", account="analytics")
    expect(said.count(SECRET) == 20, f"{said.count(SECRET)} of 20 can be read: {said[-500:]}")


def has_a_gate_for_each_cni(stage):
    """the gate answers in every version of CNI, and refuses a network where the kernel half is not attached"""
    gate = places.REPOSITORY / "kubernetes/node/kveil-gate"
    unprotected = stage.folder / "kveil-gate"
    unprotected.write_text(gate.read_text().replace("pins=/sys/fs/bpf/kveil", f"pins={stage.folder}/none"))

    def run(plugin, command, version):
        asked = json.dumps({"cniVersion": version, "name": "pods", "type": "kveil-gate"})
        done = subprocess.run(["/bin/sh", plugin], input=asked, env={"CNI_COMMAND": command, "PATH": os.environ["PATH"]},
                              stdout=subprocess.PIPE, text=True, check=False)
        return done.returncode, json.loads(done.stdout or "null")
    for version in ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"):
        expect(version in run(gate, "VERSION", version)[1]["supportedVersions"], f"VERSION {version}")
        expect(run(gate, "ADD", version) == (0, {"cniVersion": version}), f"ADD {version}: {run(gate, 'ADD', version)}")
        status, answer = run(unprotected, "ADD", version)
        expect(status == 1 and answer["code"] == 11, f"ADD {version} on an unprotected node: {answer}")
        # Of these, CHECK begins with 0.4.0, STATUS and GC with 1.1.0.
        for command in ("DEL", "CHECK", "STATUS", "GC"):
            expect(run(unprotected, command, version) == (0, None), f"{command} {version}")


def protects_after_a_reboot(stage):
    """the node loses power; its pods are started again before the agent, and wait for it"""
    script = f"while true; do {stage.produce('boot', 5)} || exit 1; sleep 0.2; done"
    stage.deploy("boot", script, replicas=3)
    waiting.wait_until("pods that write", lambda: len(stage.stored("boot")) > 30, 60, every=0.5)
    stage.node.power_off()
    # What a reboot takes with it, too.
    shutil.rmtree("/sys/fs/bpf/kveil")
    shutil.rmtree("/run/kveil")
    before = len(stage.stored("boot"))
    stage.keep_agent_away(True)
    stage.node.power_on()
    waiting.wait_until("the pods to wait for the agent", lambda: "kveil does not protect this node yet" in stage.node.kubectl(
        "get", "events", "-n", "shop"), 120, every=0.5)
    expect(len(stage.stored("boot")) == before, "pods have written without an agent")
    stage.keep_agent_away(False)
    stage.wait_for_agent()
    waiting.wait_until("the pods to write again", lambda: len(stage.stored("boot")) > before + 30, 180, every=0.5)
    stage.node.kubectl("delete", "deployment", "boot", "-n", "shop", "--cascade=foreground")
    stage.expect_sealed("boot", 60)
    said = stage.reads("boot", account="analytics")
    expect(said.count(SECRET) == len(stage.stored("boot")), f"{said.count(SECRET)} of {len(stage.stored('boot'))} can be read")


ALL = {scene.__name__.replace("_", "-"): scene for scene in (
    starts_before_the_pods, knows_service_accounts, knows_labels, first_connections_work, pods_are_killed_and_recreated,
    rolls_while_clients_run, connects_wait_for_the_next_agent, containers_share_their_pods_identity, knows_pods_on_the_nodes_network,
    knows_pods_in_user_namespaces, knows_static_pods, takes_new_policies,
    goes_on_without_the_api_server, keeps_the_root_key_when_removed, has_a_gate_for_each_cni,
    protects_after_a_reboot)}
