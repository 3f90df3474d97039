"""What Knative's own code said to these objects, word for word; the comments name its functions."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.admission.review import default, review
from qwenkit.admission.schema import quantities
from qwenkit.errors import Rejected

MUTATING = 'admission webhook "webhook.serving.knative.dev" denied the request: '
VALIDATING = (
    'admission webhook "validation.webhook.serving.knative.dev" denied the request: '
    "validation failed: "
)
Fields = dict[str, Any]
IMAGE = "registry.example.com/vllm:1"
INIT = {"kubernetes.podspec-init-containers": "enabled"}
SECURE = {"secure-pod-defaults": "enabled"}


def service(container: Fields | None = None, **spec: Any) -> Fields:
    """Make a Service; ``container`` changes its container, the rest its pod."""
    containers = [{"name": "server", "image": IMAGE, **(container or {})}]
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "qwen"},
        "spec": {"template": {"spec": {"containers": containers, **copy.deepcopy(spec)}}},
    }


def pod(obj: Fields) -> Fields:
    spec: Fields = obj["spec"]["template"]["spec"]
    return spec


def refusal(obj: Fields, **cluster: Any) -> str:
    """Return the webhook's words; ``~`` stands for the pod's place and ``@`` for its container."""
    with pytest.raises(Rejected) as caught:
        review(obj, dry_run=False, **cluster)
    said = caught.value.what.removeprefix(VALIDATING).removeprefix(MUTATING)
    return said.replace("spec.template.spec.containers[0]", "@").replace("spec.template.spec.", "~")


def starter(**fields: Any) -> Fields:
    return service(initContainers=[{"name": "i", "image": IMAGE, **fields}])


@pytest.mark.parametrize(
    ("obj", "cluster", "expected"),
    [
        # validateEnvFrom: what it found so far moves under the next reference
        (
            service({"envFrom": [{}, {"secretRef": {"name": "b"}}]}),
            {},
            "expected exactly one, got neither: @.envFrom.secretRef[1].configMapRef, "
            "@.envFrom.secretRef[1].secretRef",
        ),
        # validate: the image is quoted as Go quotes
        (
            service({"image": '"q"'}),
            {},
            'Failed to parse image reference: @.image\nimage: "\\"q\\"", '
            'error: could not parse reference: "q"',
        ),
        # ContainerMask and its children: in an init container the API server drops nothing
        (
            starter(stdin=True, tty=True, restartPolicy="Always", foo=1),
            {"features": INIT},
            "must not set the field(s): @.restartPolicy, @.stdin, @.tty",
        ),
        (
            starter(
                ports=[{"containerPort": 8012}, {"containerPort": -1, "hostPort": 3}],
                resources={"claims": [{"name": "q"}]},
                securityContext={"privileged": True, "procMount": "x", "seLinuxOptions": {}},
            ),
            {"features": INIT},
            "expected 0 <= -1 <= 65535: @.ports.containerPort\n"
            "invalid value: 8012 is a reserved port: @.ports.containerPort\n"
            "8012 is a reserved port, please use a different value\n"
            "must not set the field(s): @.ports.hostPort, @.resources.claims, "
            "@.securityContext.privileged, @.securityContext.procMount, "
            "@.securityContext.seLinuxOptions",
        ),
        # the API server knows nothing of init containers, so it finds no duplicates there either
        (
            starter(env=[{"name": "A"}, {"name": "A"}], envFrom=[{}]),
            {"features": INIT},
            "expected exactly one, got neither: @.envFrom.configMapRef, @.envFrom.secretRef",
        ),
        # PodSecurityContextMask, with every field of the type
        (
            service(securityContext={"appArmorProfile": {"type": "x"}, "sysctls": [], "foo": 1}),
            {},
            "must not set the field(s): ~securityContext, ~securityContext.appArmorProfile",
        ),
        (
            service(
                securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "Localhost"}}
            ),
            {"features": SECURE},
            "must not set the field(s): ~securityContext.runAsNonRoot, "
            "~securityContext.seccompProfile",
        ),
        # Go's decoder: an entry of a list is no struct field
        (
            service({"args": [1]}),
            {},
            "mutation failed: cannot decode incoming new object: json: cannot unmarshal number "
            "into Service.~containers.0.args.0 of type string",
        ),
        (
            service(timeoutSeconds=2**63),
            {},
            "mutation failed: cannot decode incoming new object: json: cannot unmarshal number "
            "9223372036854775808 into Go struct field Service.~timeoutSeconds of type int64",
        ),
        (
            service({"resources": {"limits": {"cpu": "1Kii"}}}),
            {},
            "mutation failed: cannot decode incoming new object: unable to parse quantity's suffix",
        ),
        # of a null entry the decoder makes an empty one
        (service(containers=[None]), {}, "missing field(s): @.image"),
    ],
)
def test_refusals(obj: Fields, cluster: Fields, expected: str) -> None:
    assert refusal(obj, **cluster) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"hostAliases": []},
        {"nodeSelector": {}},
        {"tolerations": []},
        {"initContainers": []},
        {"hostIPC": False},
        {"dnsPolicy": ""},
    ],
)
def test_empty_fields_count_as_absent(fields: Fields) -> None:
    assert pod(review(service(**fields))) == pod(review(service()))


def test_the_decoder_writes_what_go_writes() -> None:
    obj = service(
        {
            "ports": [{"name": "", "protocol": ""}],
            "env": [{"name": "A", "value": ""}],
            "securityContext": {"capabilities": {"add": []}, "runAsNonRoot": False},
            "livenessProbe": {"httpGet": {"path": "/"}, "periodSeconds": 0},
        }
    )
    container = pod(review(obj))["containers"][0]
    assert container["ports"] == [{"containerPort": 0, "protocol": "TCP"}]
    assert container["env"] == [{"name": "A"}]
    assert container["securityContext"] == {"capabilities": {}, "runAsNonRoot": False}
    assert container["livenessProbe"] == {"httpGet": {"path": "/", "port": 0}}


def test_a_projected_volume_needs_sources() -> None:
    obj = service(
        {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        volumes=[{"name": "v", "projected": {}}],
    )
    assert '~volumes[0].projected.sources in body must be of type array: "null"' in refusal(obj)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        *(("1000k", "1M"), ("1024Ki", "1Mi"), ("1500m", "1500m"), ("1000m", "1"), (".5", "500m")),
        *(("+1", "+1"), ("1E3", "1E3"), ("1e+3", "1e+3"), ("5.", "5."), ("01", "01")),
        *(("k", "0"), (".", "0"), ("e5", "0"), ("1e-400", "1e-9"), ("0.50", "500m")),
        ("10Ei", "9223372036854775807"),
    ],
)
def test_quantities(written: str, stored: str) -> None:
    """What ParseQuantity makes of them."""
    obj = service({"resources": {"limits": {"memory": written}}})
    limits = pod(review(obj, dry_run=False))["containers"][0]["resources"]["limits"]
    assert limits == {"memory": stored}


@given(st.text(max_size=8) | st.sampled_from(["nan", "sNaN", "-Infinity", "", "Ki"]))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):  # and nothing else
        assert quantities.parse(quantities.canonical(text)) == quantities.parse(text)


def test_secure_defaults() -> None:
    """What defaultSecurityContext fills in, for init containers too."""
    obj = service({"ports": [{"containerPort": 80}]}, initContainers=[{"image": IMAGE}])
    spec = pod(default(obj, features=SECURE))
    safe = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["initContainers"][0]["securityContext"] == safe
    added = {"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}}
    assert spec["containers"][0]["securityContext"] == {**safe, **added}
    review(
        obj | {"spec": {"template": {"spec": {"containers": spec["containers"]}}}}, features=SECURE
    )


def test_secure_defaults_follow_the_pod() -> None:
    obj = service(securityContext={"seccompProfile": {"type": "Unconfined"}})
    root = {"secure-pod-defaults": "AllowRootBounded"}
    spec = pod(review(obj, features=root))
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


CHANGED: list[tuple[Fields, str]] = [
    ({"args": ["--a", "--b", "--c"]}, '.Args[?->2]:\n\t+: "--c"\n'),
    ({"args": ["--z", "--a", "--b"]}, '.Args[?->0]:\n\t+: "--z"\n'),
    ({"args": ["--a"]}, '.Args[1->?]:\n\t-: "--b"\n'),
    ({"args": []}, '.Args:\n\t-: "[--a --b]"\n\t+: "[]"\n'),
    (
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]},
        '.Env[?->1]:\n\t+: v1.EnvVar: "{Name:B Value:3 ValueFrom:nil}"\n',
    ),
    (
        {"resources": {"limits": {"cpu": "2", "memory": "2Gi"}}},
        '.Resources.Limits["cpu"]:\n'
        '\t-: resource.Quantity: "{i:{value:1 scale:0} d:{Dec:<nil>} s:1 Format:DecimalSI}"\n'
        '\t+: resource.Quantity: "{i:{value:2 scale:0} d:{Dec:<nil>} s:2 Format:DecimalSI}"\n'
        '@.Resources.Limits["memory"]:\n'
        '\t+: resource.Quantity: "{i:{value:2147483648 scale:0} d:{Dec:<nil>} s:2Gi '
        'Format:BinarySI}"\n',
    ),
    (
        {
            "readinessProbe": {
                "httpGet": {"path": "/x", "port": "http"},
                "periodSeconds": 5,
                "timeoutSeconds": 2,
                "successThreshold": 1,
                "failureThreshold": 3,
            }
        },
        '.ReadinessProbe.ProbeHandler.HTTPGet.Path:\n\t-: "/health"\n\t+: "/x"\n'
        '@.ReadinessProbe.ProbeHandler.HTTPGet.Port.Type:\n\t-: "0"\n\t+: "1"\n'
        '@.ReadinessProbe.ProbeHandler.HTTPGet.Port.IntVal:\n\t-: "8000"\n\t+: "0"\n'
        '@.ReadinessProbe.ProbeHandler.HTTPGet.Port.StrVal:\n\t-: ""\n\t+: "http"\n'
        '@.ReadinessProbe.TimeoutSeconds:\n\t-: "1"\n\t+: "2"\n',
    ),
    (
        {"ports": []},
        '.Ports:\n\t-: "[{Name: HostPort:0 ContainerPort:8000 Protocol:TCP HostIP:}]"\n\t+: "[]"\n',
    ),
]


@pytest.mark.parametrize(("change", "expected"), CHANGED)
def test_changes_of_a_named_template(change: Fields, expected: str) -> None:
    """VerifyNameChange shows them through kmp.ShortDiff."""
    obj = service(
        {
            "args": ["--a", "--b"],
            "env": [{"name": "A", "value": "1"}],
            "ports": [{"containerPort": 8000}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5},
            "resources": {"limits": {"cpu": "1"}},
        }
    )
    obj["spec"]["template"]["metadata"] = {"name": "qwen-one"}
    stored = default(obj)
    changed = copy.deepcopy(stored)
    pod(changed)["containers"][0].update(change)
    where = "{*v1.RevisionTemplateSpec}.Spec.PodSpec.Containers[0]"
    assert refusal(changed, old=stored) == (
        "Saw the following changes without a name change (-old +new): "
        f"spec.template.metadata.name\n{where}{expected.replace('@', where)}"
    )


def test_changes_stand_in_the_order_of_go() -> None:
    obj = service()
    obj["spec"]["template"]["metadata"] = {"name": "qwen-one", "labels": {"a": "1"}}
    stored = default(obj)
    changed = copy.deepcopy(stored)
    pod(changed)["timeoutSeconds"] = 60
    pod(changed)["containers"][0]["image"] = "registry.example.com/vllm:2"
    changed["spec"]["template"]["metadata"]["labels"]["b"] = "2"
    assert refusal(changed, old=stored) == (
        "Saw the following changes without a name change (-old +new): "
        "spec.template.metadata.name\n"
        '{*v1.RevisionTemplateSpec}.ObjectMeta.Labels["b"]:\n\t+: "2"\n'
        "{*v1.RevisionTemplateSpec}.Spec.PodSpec.Containers[0].Image:\n"
        f'\t-: "{IMAGE}"\n\t+: "registry.example.com/vllm:2"\n'
        '*{*v1.RevisionTemplateSpec}.Spec.TimeoutSeconds:\n\t-: "300"\n\t+: "60"\n'
    )
