"""Knative's admission webhooks in the sandbox, by the rules of ``admission``."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping

from qwenkit.admission.review import review
from qwenkit.sandbox.controllers.loop import KNATIVE_NAMESPACE
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore

KNATIVE = ("KnativeService", "Configuration", "Revision", "Route")
_SUFFIX = string.ascii_lowercase + string.digits


class Webhooks:
    """Answers the API server before it stores an object.

    Args:
        store: has Knative's ConfigMaps and the service accounts.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def admit(
        self, operation: str, kind: str, obj: Object, old: Object | None, dry_run: bool, user: str
    ) -> Object:
        """Return the object with its defaults.

        Raises:
            Rejected: the webhooks deny the object.
        """
        if kind not in KNATIVE:
            return obj
        namespace = obj["metadata"].get("namespace", "default")
        accounts = self._store.list("ServiceAccount", namespace)
        return review(
            obj,
            old=old,
            features=self._config("config-features"),
            defaults=self._config("config-defaults"),
            autoscaler=self._config("config-autoscaler"),
            dry_run=dry_run,
            user=user,
            service_accounts={"default", *(account["metadata"]["name"] for account in accounts)},
            namespace=namespace,
            suffix="".join(secrets.choice(_SUFFIX) for _ in range(5)),
        )

    def _config(self, name: str) -> Mapping[str, str]:
        found = self._store.find("ConfigMap", KNATIVE_NAMESPACE, name)
        return (found or {}).get("data") or {}
