"""Real documents, files and requests, from which the fuzzer makes its cases."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwenkit import Settings, render
from qwenkit.manifests.template import plain

DATA = Path(__file__).parent.parent / "tests" / "data"
_FULL = {"bucket": "weights", "oss_endpoint": "https://oss-cn-hangzhou-internal.aliyuncs.com"}


class Nowhere(io.StringIO):
    """Standard output that forgets."""

    def write(self, text: str) -> int:
        """Forget it."""
        return len(text)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables while the block runs; what none can hold is replaced."""
    before = dict(os.environ)
    safe = {
        name: text.replace("\0", "").encode("utf-8", "replace").decode()
        for name, text in variables.items()
    }
    os.environ.update(safe)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def shown(case: Any) -> str:
    """Return a case as text, also if Python cannot print it."""
    try:
        return repr(case)[:3000]
    except (RecursionError, ValueError) as error:
        return f"cannot be printed: {error}"


def document_families() -> list[list[Any]]:
    """Return sets of documents that belong together: ours, and the recorded cluster's."""
    found = [
        [plain(document) for document in render(Settings(**_FULL))],
        [
            plain(document)
            for document in render(
                Settings(**_FULL, gpu_count=2, min_scale=1, scale_down_delay="5m")
            )
        ],
        [plain(render(Settings(**_FULL)).as_documented)],
    ]
    recorded = json.loads(gzip.decompress((DATA / "admission.json.gz").read_bytes()))
    found += [[document] for document in _objects(recorded)][:200]
    for path in sorted((DATA / "cluster").glob("*.jsonl.gz"))[:3]:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        found += [[document] for line in lines[:40] for document in _objects(json.loads(line))][:40]
    return found


def _objects(value: Any) -> list[Any]:
    """Return the Kubernetes objects inside a value."""
    if isinstance(value, dict):
        if "kind" in value and ("spec" in value or "data" in value):
            return [value]
        return [one for child in value.values() for one in _objects(child)]
    return [one for child in value for one in _objects(child)] if isinstance(value, list) else []


def params_texts() -> list[str]:
    """Return our params files, delivered parameters and a kubeconfig."""
    folder = Path(__file__).parent.parent / "notebooks" / "params"
    found = [path.read_text("utf-8") for path in sorted(folder.glob("*.yaml"))]
    laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
    )
    everything = "".join(
        f"{name}: {json.dumps(field.default)}\n" for name, field in Settings.model_fields.items()
    )
    delivered = json.dumps(
        {name: [field.default, "x"] for name, field in Settings.model_fields.items()}
    )
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "contexts": [
            {"name": "sandbox", "context": {"cluster": "c", "user": "u", "namespace": "n"}}
        ],
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True},
            }
        ],
        "users": [{"name": "u", "user": {"token": "a-token"}}],
    }
    return [
        *found,
        everything,
        laughs,
        delivered,
        json.dumps(kubeconfig),
        json.dumps(kubeconfig, indent=1),
    ]


def recordings() -> dict[str, Any]:
    """Return small recordings by the command that reads them."""
    scenarios = json.loads(gzip.decompress((DATA / "kpa-edges.json.gz").read_bytes()))
    return {
        "replay": scenarios[:3],
        "compare_run": json.loads((DATA / "kpa-real-run.json").read_text("utf-8")),
    }


def pod(name: str) -> dict[str, Any]:
    """Return a pod that uses most of what a pod has."""
    container = {
        "name": "main",
        "image": "busybox:1",
        "command": ["sleep", "infinity"],
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"containerPort": 8000}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5},
    }
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x"}}]
    spec = {
        "containers": [container],
        "volumes": volumes,
        "terminationGracePeriodSeconds": 5,
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    }


def api_objects() -> dict[str, dict[str, Any]]:
    """Return one object for each collection of the API that people write to."""
    template = {"metadata": {"labels": {"app": "d"}}, "spec": pod("d")["spec"]}
    job = {"metadata": {}, "spec": {**pod("j")["spec"], "restartPolicy": "Never"}}
    secret, volume, claim, service = (plain(one) for one in render(Settings(**_FULL)))
    space = "/api/v1/namespaces/default"
    return {
        "/api/v1/namespaces": {"metadata": {"name": "fuzz"}},
        f"{space}/configmaps": {"metadata": {"name": "m"}, "data": {"a": "b"}},
        f"{space}/secrets": secret,
        f"{space}/pods": pod("p"),
        f"{space}/services": {
            "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "p"}},
        },
        f"{space}/persistentvolumeclaims": claim,
        "/api/v1/persistentvolumes": volume,
        f"{space}/events": {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "reason": "R",
        },
        f"{space}/serviceaccounts": {"metadata": {"name": "sa"}},
        "/apis/apps/v1/namespaces/default/deployments": {
            "metadata": {"name": "d"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "d"}},
                "template": template,
            },
        },
        "/apis/apps/v1/namespaces/default/replicasets": {
            "metadata": {"name": "r"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "d"}},
                "template": template,
            },
        },
        "/apis/batch/v1/namespaces/default/jobs": {
            "metadata": {"name": "j"},
            "spec": {"template": job, "backoffLimit": 1},
        },
        "/apis/storage.k8s.io/v1/storageclasses": {"metadata": {"name": "c"}, "provisioner": "x"},
        "/apis/serving.knative.dev/v1/namespaces/default/services": service,
        "/apis/serving.knative.dev/v1/namespaces/default/configurations": {
            "metadata": {"name": "k"},
            "spec": service["spec"],
        },
        "/apis/serving.knative.dev/v1/namespaces/default/routes": {
            "metadata": {"name": "k"},
            "spec": {
                "traffic": [{"configurationName": "k", "percent": 100, "latestRevision": True}]
            },
        },
        "/api/v1/namespaces/knative-serving/configmaps": {
            "metadata": {"name": "config-domain"},
            "data": {"example.com": "selector:\n  app: x\n"},
        },
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {
            "spec": {"resourceAttributes": {"verb": "get"}}
        },
    }
