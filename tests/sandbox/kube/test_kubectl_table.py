"""The subcommands of the real kubectl, one by one, against a whole sandbox."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwenkit.sandbox import process, state_files

WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {"name": "web", "image": "docker.io/library/busybox:1", "command": ["sleep"]}
                ]
            },
        },
    },
}
SERVICE = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "qwen"},
    "spec": {
        "template": {"spec": {"containers": [{"image": "docker.io/library/busybox:1"}]}},
    },
}
AMOUNT = {"storage": "1Gi"}
STORAGE = [
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "account"}},
    {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "volume"},
        "spec": {
            "capacity": AMOUNT,
            "accessModes": ["ReadOnlyMany"],
            "csi": {"driver": "ossplugin.csi.alibabacloud.com", "volumeHandle": "volume"},
        },
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "claim"},
        "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": AMOUNT}},
    },
]
FILES = {
    "web.json": WEB,
    "two.json": {**WEB, "spec": {**WEB["spec"], "replicas": 2}},  # type: ignore[dict-item]
    "typo.json": {**WEB, "spec": {**WEB["spec"], "replica": 2}},  # type: ignore[dict-item]
    "other.json": {
        **WEB,
        "spec": {**WEB["spec"], "selector": {"matchLabels": {"app": "x"}}},  # type: ignore[dict-item]
    },
    "service.json": SERVICE,
    "storage.json": {"apiVersion": "v1", "kind": "List", "items": STORAGE},
    "set/kustomization.yaml": {"resources": ["map.yaml"], "namePrefix": "k-"},
    "set/map.yaml": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "m"},
        "data": {"a": "1"},
    },
}


@dataclass(frozen=True)
class Kubectl:
    root: Path

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one command line of the table."""
        process = self.start(command)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, command: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        return subprocess.Popen(
            ["kubectl", f"--cache-dir={self.root / 'cache'}", *shlex.split(command)],
            env={
                **environment,
                "KUBECONFIG": str(self.root / "kubeconfig"),
                "EDITOR": "sed -i 's/^  a:.*/  a: edited/'",
            },
            cwd=self.root / "files",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"kubectl {command}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    root = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=100))
    for name, content in FILES.items():
        path = root / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    yield Kubectl(root)
    process.down(root)


@pytest.fixture(scope="module")
def world(kubectl: Kubectl) -> Kubectl:
    """A Deployment that runs, a Service that waits for its image, a pod, a map."""
    kubectl.said("apply -f web.json -f service.json")
    kubectl.said("run one --image=docker.io/library/busybox:1 -- sleep infinity")
    kubectl.said("create configmap settings --from-literal=a=1")
    kubectl.said("rollout status deployment/web --timeout=60s")
    kubectl.said("wait pod/one --for=condition=Ready --timeout=60s")
    kubectl.said("wait ksvc/qwen --for=jsonpath='{.status.observedGeneration}'=1 --timeout=60s")
    return kubectl


WIDE = {
    "pods": "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED-NODE READINESS-GATES",
    "deployments": "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
    "replicasets": "NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR",
    "nodes": "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION "
    "CONTAINER-RUNTIME",
    "ksvc": "NAME URL LATESTCREATED LATESTREADY READY REASON",
    "configurations": "NAME LATESTCREATED LATESTREADY READY REASON",
    "revisions": "NAME CONFIG-NAME GENERATION READY REASON ACTUAL-REPLICAS DESIRED-REPLICAS",
    "routes": "NAME URL READY REASON",
    "events": "LAST-SEEN TYPE REASON OBJECT SUBOBJECT SOURCE MESSAGE FIRST-SEEN COUNT NAME",
    "secrets": "NAME TYPE DATA AGE",
    "configmaps": "NAME DATA AGE",
    "serviceaccounts": "NAME SECRETS AGE",
    "services": "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR",
    "pv": "NAME CAPACITY ACCESS-MODES RECLAIM-POLICY STATUS CLAIM STORAGECLASS "
    "VOLUMEATTRIBUTESCLASS REASON AGE VOLUMEMODE",
    "pvc": "NAME STATUS VOLUME CAPACITY ACCESS-MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE "
    "VOLUMEMODE",
    "kpa": "NAME DESIREDSCALE ACTUALSCALE READY REASON",
    "jobs": "NAME STATUS COMPLETIONS DURATION AGE CONTAINERS IMAGES SELECTOR",
    "csidrivers": "NAME ATTACHREQUIRED PODINFOONMOUNT STORAGECAPACITY TOKENREQUESTS "
    "REQUIRESREPUBLISH MODES AGE",
}


def test_columns_are_a_real_clusters(world: Kubectl) -> None:
    world.said("apply -f storage.json")
    world.said("create job once --image=docker.io/library/busybox:1 -- true")
    world.said(
        "wait ksvc/qwen --for=jsonpath={.status.latestCreatedRevisionName}=qwen-00001 --timeout=60s"
    )
    for resource, columns in WIDE.items():
        header = world.said(f"get {resource} -A -o wide").partition("\n")[0]
        words = re.split(r"\s{2,}", header.removeprefix("NAMESPACE").strip())
        assert [word.replace(" ", "-") for word in words] == columns.split(), resource


# What each command prints, as a regular expression; a newline in it is one in the output.
SAYS = [
    ("version", r"v1\.36\.2\+qwenkit-sandbox"),
    ("cluster-info", r"control plane.* is running at .*https://127\.0\.0\.1:"),
    ("api-versions", r"serving\.knative\.dev/v1\n"),
    ("api-resources --api-group=serving.knative.dev -o name", r"revisions\.serving\.knative\.dev"),
    ("get --raw /readyz", r"^ok$"),
    ("get --raw /readyz?verbose", r"\[\+\]ping ok\n(.*\n)*readyz check passed"),
    ("get --raw /", r'"/apis/apps/v1"'),
    ("config view", r"certificate-authority-data: DATA\+OMITTED"),
    ("auth can-i delete pods", r"^yes\n$"),
    ("auth can-i --list", r"\*\.\* .*\[\*\]"),
    ("auth whoami", r"Username +admin"),
    ("explain ksvc.spec.template.spec.containerConcurrency", r"containerConcurrency <integer>"),
    ("explain ksvc --recursive", r"\n {4}template\t<Object>\n(.*\n)+ +readinessProbe\t<Object>"),
    ("explain kpa.status.desiredScale", r"desiredScale <integer>"),
    ("explain pod.spec.containers.resources", r"limits\t<map\[string\]Quantity>"),
    ("explain deployment.spec.strategy.rollingUpdate", r"maxSurge\t<IntOrString>"),
    ("explain pvc.spec", r"accessModes\t<\[\]string>"),
    ("get crd", r"services\.serving\.knative\.dev"),
    ("get all", r"deployment\.apps/web(.*\n)+.*service\.serving\.knative\.dev/qwen"),
    ("get pod one -o jsonpath='{.status.phase}'", r"^Running$"),
    ("get pod one -o custom-columns=N:.metadata.name --no-headers", r"^one\n$"),
    ("get deploy web -o yaml", r"type: RollingUpdate\n(.*\n)+.*terminationMessagePolicy: File"),
    ("get pods -l 'run in (one, two)' -o name", r"^pod/one\n$"),
    ("get pods --field-selector=metadata.name=one,status.phase=Running -o name", r"^pod/one\n$"),
    ("get pods --sort-by=.metadata.name --show-labels", r"one .*run=one\n(.*\n)*web-.*app=web"),
    ("get pods -A --chunk-size=1 -o name", r"pod/one\n(.*\n)*pod/web-"),
    ("get pods -n kube-public", r"^$"),
    ("get deploy web --subresource=scale", r"NAME +DESIRED +AVAILABLE +AGE\nweb +1 +1"),
    ("describe deployment web", r"StrategyType: +RollingUpdate\n(.*\n)+.*ScalingReplicaSet"),
    ("describe ksvc qwen", r"Latest Created Revision Name: +qwen-00001\n"),
    ("describe node", r"nvidia\.com/gpu: +3\n(.*\n)+.*default +one"),
    ("describe pod one", r"Successfully assigned default/one"),
    ("events --for pod/one", r"Started +Pod/one"),
    ("get events --field-selector=involvedObject.name=one,reason=Started", r"pod/one"),
    ("logs one", r"^"),
    ("logs -l run=one --tail=1 --prefix", r"^"),
    ("wait pod/one --for=condition=Ready --timeout=60s", r"pod/one condition met"),
    ("wait pod/nobody --for=delete --timeout=60s", r"^$"),
    ("apply -f web.json", r"deployment\.apps/web unchanged"),
    ("apply -f two.json --dry-run=client", r"web configured \(dry run\)"),
    ("apply -f two.json --dry-run=server", r"web configured \(server dry run\)"),
    ("diff -f web.json", r"^$"),
    ("apply -k set", r"configmap/k-m created"),
    ("delete -k set", r'configmap "k-m" deleted'),
    ("edit configmap settings", r"configmap/settings edited"),
    ('patch configmap settings -p \'{"data":{"b":"2"}}\'', r"settings patched"),
    ('patch cm settings --type=merge -p \'{"data":{"b":null}}\'', r"settings patched"),
    ('patch cm settings --type=json -p \'[{"op":"remove","path":"/data/a"}]\'', r"patched"),
    (
        'patch ksvc qwen --type=json -p \'[{"op":"test","path":"/kind","value":"Service"}]\'',
        r"patched \(no change\)",
    ),
    ("label pod one tier=web", r"pod/one labeled"),
    ("annotate pod one note=hello", r"pod/one annotated"),
    ("create namespace team", r"namespace/team created"),
    ("create configmap c --from-literal=a=b -n team", r"configmap/c created"),
    ("create secret generic s --from-literal=a=b -n team", r"secret/s created"),
    ("get secret s -n team -o jsonpath='{.type} {.data.a}'", r"^Opaque Yg==$"),
    ("create serviceaccount sa -n team", r"serviceaccount/sa created"),
    ("create service clusterip svc --tcp=80:8080 -n team", r"service/svc created"),
    ("get service svc -n team", r"svc +ClusterIP +10\.96\.\d+\.\d+ +<none> +80/TCP"),
    ("create secret generic t --from-literal=a=b --dry-run=server -o yaml", r"uid: "),
    ("create deployment d --image=docker.io/library/busybox:1 -n team", r"deployment\.apps/d"),
    ("get deploy d -n team -o jsonpath='{.spec.strategy.type}'", r"^RollingUpdate$"),
    ("delete deployment d -n team --cascade=orphan", r'"d" deleted'),
    ("get replicasets -n team -o name", r"^replicaset\.apps/d-\w+\n$"),
    ("delete replicasets --all -n team --cascade=foreground", r'"d-\w+" deleted'),
    ("delete namespace team", r'namespace "team" deleted'),
    ("expose deployment web --port=80", r"service/web exposed"),
    ("scale deployment web --replicas=2", r"web scaled"),
    ("scale deployment web --current-replicas=2 --replicas=1", r"web scaled"),
    ("set image deployment/web web=docker.io/library/busybox:2", r"web image updated"),
    ("rollout status deployment/web --timeout=60s", r"successfully rolled out"),
    ("rollout history deployment/web", r"REVISION(.*\n)+2 "),
    ("rollout undo deployment/web", r"web rolled back"),
    ("rollout restart deployment/web", r"web restarted"),
    ("cordon gpu-node-1", r"node/gpu-node-1 cordoned"),
    ("uncordon gpu-node-1", r"node/gpu-node-1 uncordoned"),
    ("replace -f web.json", r"web replaced"),
    ("delete pod one --grace-period=0 --force", r'pod "one" force deleted'),
    ("delete -f web.json -f service.json", r'"web" deleted\n(.*)"qwen" deleted'),
]


def test_a_watch_begins_with_what_is_there(world: Kubectl) -> None:
    with world.start("get pods -w") as watching:
        assert watching.stdout is not None
        assert any(re.match(r"one +1/1 +Running", line) for line in watching.stdout)
        watching.terminate()


def test_what_kubectl_says(world: Kubectl) -> None:
    for command, pattern in SAYS:
        said = world.said(command)
        assert re.search(pattern, said), f"kubectl {command}\n{said}"


REFUSES = [
    ("get pods nobody", 'Error from server (NotFound): pods "nobody" not found'),
    ("get pods --field-selector=spec.foo=1", ": field label not supported: spec.foo"),
    ("wait pod/nobody --for=condition=Ready --timeout=1s", 'pods "nobody" not found'),
    ("logs qwen -c x", 'pods "qwen" not found'),
    ("apply -f typo.json", 'strict decoding error: unknown field "spec.replica"'),
    ("apply --server-side -f typo.json", ".spec.replica: field not declared in schema"),
    ("create -f other.json", "`selector` does not match template `labels`"),
    ("create namespace default", 'namespaces "default" already exists'),
    ("create namespace BAD", "a lowercase RFC 1123 label must consist of"),
    (
        'patch node gpu-node-1 -p \'{"metadata":{"resourceVersion":"1"}}\'',
        "the object has been modified; please apply your changes to the latest version",
    ),
    (
        'patch node gpu-node-1 --type=json -p \'[{"op":"remove","path":"/spec/no"}]\'',
        "the server rejected our request due to an error in our request",
    ),
    ("patch ksvc any -p '{}'", '"any" not found'),
    ("exec pod/held -- ls", "its containers run no programs; read kubectl logs"),
    ("attach pod/held", "its containers run no programs; read kubectl logs"),
    ("cp held:/a b", "pods/exec is not part of the sandbox"),
    ("debug held --image=x", "pods/ephemeralcontainers is not part of the sandbox"),
    ("port-forward pod/held 1:80", "send requests to the gateway with the Host header"),
    ("logs held --since=1h", "ask for the last (kubectl logs --tail)"),
    ("logs held --previous", 'previous terminated container "held" in pod "held" not found'),
    ("logs held -c nope", "container nope is not valid for pod held"),
    ('patch pod held -p \'{"spec":{"restartPolicy":"Never"}}\'', "pod updates may not change"),
    ("get --raw /api/v1/nodes/gpu-node-1/proxy/metrics", "nodes/proxy is not part of the sandbox"),
    (
        "create priorityclass q --value=1",
        "priorityclasses.scheduling.k8s.io is not part of the sandbox",
    ),
    ("top pods", "Metrics API not available"),
    ("get statefulsets", 'the server doesn\'t have a resource type "statefulsets"'),
]


def test_what_kubectl_is_refused(kubectl: Kubectl) -> None:
    kubectl.said("run held --image=docker.io/library/busybox:1 -- sleep infinity")
    kubectl.said("wait pod/held --for=condition=Ready --timeout=60s")
    for command, words in REFUSES:
        done = kubectl.run(command)
        assert done.returncode != 0, f"kubectl {command}\n{done.stdout}"
        assert words in done.stderr, f"kubectl {command}\n{done.stderr}"
