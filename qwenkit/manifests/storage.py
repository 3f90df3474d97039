"""The objects of the weights' volume: a bucket by key or by role, a NAS, or a filled claim."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import resources

from ruamel.yaml.comments import CommentedMap

from qwenkit.manifests.template import Filling, Scalar, fill
from qwenkit.settings import ADMIN, MANAGED_BY, Settings

# Weights never change in place, so their attributes may be cached.
_FUSE_OPTIONS = {
    "ossfs2": "-o attr_timeout=3600",
    "ossfs": "-o stat_cache_expire=3600",
}
# Facts of the CSI driver (its service account and namespace, docs/oss.md) and of ack-ram-tool.
_ROLE = """The folder of the weights in bucket {bucket}; the nodes mount it as RAM role {role}.
Once for a cluster (CLUSTER_ID is ACK's; these commands were not tried on a live cluster):
  ack-ram-tool rrsa enable --cluster-id CLUSTER_ID
  aliyun ram CreatePolicy --PolicyName {role}-{bucket} --PolicyDocument '{policy}'
  ack-ram-tool rrsa associate-role --cluster-id CLUSTER_ID --namespace ack-csi-fuse \\
    --service-account csi-fuse-ossfs --role-name {role} --create-role-if-not-exist \\
    --attach-custom-policy {role}-{bucket}
The role then trusts, by the cluster's OIDC provider, the audience sts.aliyuncs.com and the driver's
subject system:serviceaccount:ack-csi-fuse:csi-fuse-ossfs.
"""


def of_admin(settings: Settings) -> list[CommentedMap]:
    """Render what an administrator makes where a run may make no PV: labelled so, and it stays.

    With OSS also the claim: were it removed with a run, its PV would be released and never bound
    again. On a NAS the claim holds weights, so that teardown keeps it.
    """
    made = {"oss": ("PersistentVolume", "PersistentVolumeClaim"), "nas": ("PersistentVolume",)}
    own: dict[str, Scalar] = {"managed_by": ADMIN, "run": None, "expires_at": None}
    kinds = made.get(settings.storage, ())
    return [doc for doc in storage(settings, own) if doc["kind"] in kinds]


def storage(settings: Settings, own: Mapping[str, Scalar] | None = None) -> list[CommentedMap]:
    """Render what the Service's volume needs, as ``own``, by default this run's; see ``render``."""
    if settings.storage == "shared":
        return []
    own = own or ours(settings)
    claim: dict[str, Scalar] = {
        "volume": settings.volume,
        "namespace": settings.namespace,
        "storage_size": settings.storage_size or _size(settings),
        **own,
    }
    if settings.storage == "pvc":
        named: dict[str, Scalar] = {"storage_class": settings.storage_class or None}
        del claim["expires_at"]  # weights are kept, also by `teardown --expired`
        return [filled("pvc-filled.yaml", claim | named)]
    folder: dict[str, Scalar] = {"path": f"/{settings.prefix}"}
    if settings.storage == "nas":
        modes: dict[str, Scalar] = {"access_mode": "ReadWriteMany"}
        volume = filled("pv-nas.yaml", claim | folder | {"server": settings.nas_server})
        return [volume, filled("pvc.yaml", claim | modes)]
    by_role, modes = settings.oss_auth == "rrsa", {"access_mode": "ReadOnlyMany"}
    volume = filled(
        "pv.yaml",
        claim
        | folder
        | {
            "secret": None if by_role else settings.secret,
            "secret_namespace": None if by_role else settings.namespace,
            "auth_type": "rrsa" if by_role else None,
            "role": settings.rrsa_role if by_role else None,
            "bucket": settings.bucket,
            "url": settings.cluster_oss_endpoint,
            "fuse_type": settings.fuse_type,
            "fuse_options": _FUSE_OPTIONS[settings.fuse_type],
        },
    )
    secrets = [] if by_role else [secret_document(settings)]
    if by_role:
        volume.yaml_set_start_comment(_of_role(settings.rrsa_role, settings.bucket))
    return [*secrets, volume, filled("pvc.yaml", claim | modes)]


def _of_role(role: str, bucket: str) -> str:
    """Return the commands that make the role and its policy."""
    where = [f"acs:oss:*:*:{bucket}", f"acs:oss:*:*:{bucket}/*"]
    allowed = {"Effect": "Allow", "Action": ["oss:Get*", "oss:List*"], "Resource": where}
    policy = json.dumps({"Version": "1", "Statement": [allowed]})
    return _ROLE.format(role=role or "ROLE", bucket=bucket or "BUCKET", policy=policy)


def _size(settings: Settings) -> str:
    """Return the size of the model with a tenth more; of an unknown one, of a large model."""
    if settings.storage != "pvc":
        return "20Gi"  # matched against the claim; limits nothing
    known = settings.model
    return f"{math.ceil(known.model().weights_bytes * 1.1 / 2**30) + 1}Gi" if known else "80Gi"


def secret_document(settings: Settings) -> CommentedMap:
    """Render the Secret without its keys."""
    names: dict[str, Scalar] = {"secret": settings.secret, "namespace": settings.namespace}
    return filled("secret.yaml", names | ours(settings))


def ours(settings: Settings) -> dict[str, Scalar]:
    """Return the values of our labels and annotation by their names in the templates."""
    return {
        "managed_by": settings.labels[MANAGED_BY],
        "run": settings.run,
        "expires_at": settings.expires_at(),
    }


def filled(
    template: str, values: Mapping[str, Filling], comments: Mapping[str, str] | None = None
) -> CommentedMap:
    """Fill one of the templates of this package."""
    folder = resources.files("qwenkit.manifests") / "templates"
    return fill((folder / template).read_text("utf-8"), values, comments)
