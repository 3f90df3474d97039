"""Why an image cannot be pulled, from the kubelet's, the registry's and Knative's own words."""

from __future__ import annotations

import re
from dataclasses import replace

from qwenkit.cluster.diagnosis.causes.containers import states_of
from qwenkit.cluster.diagnosis.causes.rows import failures, first_row, reason_and_message
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot

IMAGE = Explanation(
    "image",
    "",
    fix="check the image's name and tag, and that the nodes and Knative's controller reach the "
    "registry; a private one needs imagePullSecrets",
)
PULL_REASONS = frozenset(
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    ]
)
_SAID = re.compile(
    "Unable to fetch image|pull(ing)? image|failed to pull|" + "|".join(PULL_REASONS)
)
_NAME = re.compile(r'(?:image|reference|manifest for) "?([\w.:/@-]*[/:][\w.:/@-]+)')


def unpullable(snapshot: Snapshot) -> Explanation | None:
    """Explain an image that a container waits for, or that Knative cannot find."""
    states = (each.now.get("waiting") or {} for each in states_of(snapshot))
    waiting = [reason_and_message(s) for s in states if s.get("reason") in PULL_REASONS]
    said = [text for text in failures(snapshot) if _SAID.search(text)]
    if not waiting and not said:
        return None
    events = [text for text in snapshot.messages("Failed") if "image" in text.lower()]
    texts = [*events, *waiting, *said] if waiting else said
    found = first_row("image", texts) or IMAGE
    named = next((name[1] for text in texts if (name := _NAME.search(text))), "")
    images = (str(c.get("image", "")) for c in snapshot.template().get("containers") or [])
    cause = f"the image {named or ', '.join(images)} cannot be pulled"
    cause = f"{cause}: {found.cause}" if found.cause else cause
    return replace(found, cause=cause).shown_by(*found.evidence, *texts[:2])
