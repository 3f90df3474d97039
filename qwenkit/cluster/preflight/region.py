"""Are the cluster's nodes in the region of the bucket? Then its internal endpoint costs nothing."""

from __future__ import annotations

import re
from contextlib import closing

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import NODE, labels_of
from qwenkit.errors import QwenkitError
from qwenkit.settings import Settings

_REGION = "topology.kubernetes.io/region"
_PUBLIC = re.compile(r"(?:https?://)?oss-([a-z0-9-]+)(?<!-internal)\.aliyuncs\.com")
_PATIENCE_S = 5.0


def internal_endpoint(settings: Settings) -> Settings:
    """Derive ``oss_internal_endpoint`` from a public regional one and the region of all nodes.

    A cluster that does not answer, or does not let nodes be listed, changes nothing.
    """
    public = _PUBLIC.fullmatch(settings.oss_endpoint)
    if settings.storage != "oss" or settings.oss_internal_endpoint or public is None:
        return settings
    try:
        with closing(Cluster.connect(settings, first_answer_s=_PATIENCE_S)) as cluster:
            regions = {labels_of(node).get(_REGION) for node in cluster.list(NODE)}
    except QwenkitError:
        return settings
    if regions != {public[1]}:
        return settings
    internal = f"oss-{public[1]}-internal.aliyuncs.com"
    return settings.derived({"oss_internal_endpoint": internal}, f"the nodes' region {public[1]}")
