"""What a reason of a waiting container or of a failed mount means: one table.

The reasons are the kubelet's. ``permanent`` is the default; a rule may override it.
"""

from __future__ import annotations

from collections.abc import Mapping

from qwenkit.cluster.diagnosis.explanation import Explanation

IMAGE = Explanation(
    "image",
    "the image cannot be pulled",
    fix="check the image's name and tag, and that the nodes and Knative's controller reach the "
    "registry; a private one needs imagePullSecrets",
)
CONFIG = Explanation(
    "config",
    "the container cannot be created with its configuration",
    fix="create the Secret or ConfigMap that it names, or correct its command",
)
CRASH = Explanation(
    "crash",
    "the container crashes",
    fix="read the whole log: kubectl logs -c {container} --previous POD",
    permanent=False,
)
MOUNT = Explanation(
    "mount",
    "the volume with the weights cannot be mounted",
    fix="check the Secret's keys, the bucket, the path and oss_internal_endpoint in the PV; "
    "qwenkit doctor checks the bucket",
    permanent=False,
)

WAITING_REASONS: Mapping[str, Explanation] = {
    "ErrImagePull": IMAGE,
    "ImagePullBackOff": IMAGE,
    "InvalidImageName": IMAGE,
    "CreateContainerConfigError": CONFIG,
    "CreateContainerError": CONFIG,
    "RunContainerError": CONFIG,
    "CrashLoopBackOff": CRASH,
    "FailedMount": MOUNT,
    "FailedAttachVolume": MOUNT,
}


def reasons_of(row: Explanation) -> list[str]:
    """Return the reasons that mean one row of the table."""
    return [reason for reason, found in WAITING_REASONS.items() if found is row]
