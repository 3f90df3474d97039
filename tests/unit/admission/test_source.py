"""What Knative's own code said to these objects, word for word; the comments name its functions."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from knative_objects import IMAGE, MUTATING, pod_spec, service, words

from qwenkit.admission.review import default, review
from qwenkit.admission.schema import quantities

Fields = dict[str, Any]
INIT = {"kubernetes.podspec-init-containers": "enabled"}
SECURE = {"secure-pod-defaults": "enabled"}


def refusal(obj: Fields, **cluster: Any) -> str:
    """Return the webhook's words; ``~`` stands for the pod's place and ``@`` for its container."""
    said = words(obj, dry_run=False, **cluster).removeprefix(MUTATING)
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
    assert pod_spec(review(service(**fields))) == pod_spec(review(service()))


def test_the_decoder_writes_what_go_writes() -> None:
    obj = service(
        {
            "ports": [{"name": "", "protocol": ""}],
            "env": [{"name": "A", "value": ""}],
            "securityContext": {"capabilities": {"add": []}, "runAsNonRoot": False},
            "livenessProbe": {"httpGet": {"path": "/"}, "periodSeconds": 0},
        }
    )
    container = pod_spec(review(obj))["containers"][0]
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
    limits = pod_spec(review(obj, dry_run=False))["containers"][0]["resources"]["limits"]
    assert limits == {"memory": stored}


@given(st.text(max_size=8) | st.sampled_from(["nan", "sNaN", "-Infinity", "", "Ki"]))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):  # and nothing else
        assert quantities.parse(quantities.canonical(text)) == quantities.parse(text)


def test_secure_defaults() -> None:
    """What defaultSecurityContext fills in, for init containers too."""
    obj = service({"ports": [{"containerPort": 80}]}, initContainers=[{"image": IMAGE}])
    spec = pod_spec(default(obj, features=SECURE))
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
    spec = pod_spec(review(obj, features=root))
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
