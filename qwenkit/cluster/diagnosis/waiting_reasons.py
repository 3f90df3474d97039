"""What a container that crashes means where no rule knows why."""

from __future__ import annotations

from qwenkit.cluster.diagnosis.explanation import Explanation

CRASH = Explanation(
    "crash",
    "the container crashes",
    fix="read the whole log: kubectl logs -c {container} --previous POD",
    permanent=False,
)
