"""Reviews: questions about permissions and identity, answered and never stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qwenkit.admission.field_errors import invalid
from qwenkit.sandbox.kube.access.attributes import Attributes
from qwenkit.sandbox.kube.access.rbac import Authorizer
from qwenkit.sandbox.kube.access.users import User
from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.objects import Object

_ASKED = ("verb", "path", "group", "resource", "subresource", "namespace", "name")


@dataclass(frozen=True)
class Review:
    """One kind of review; ``judge`` finds its status."""

    group: str
    kind: str
    judge: Callable[[Object, User, Authorizer], Object]

    @property
    def plural(self) -> str:
        """The resource."""
        return f"{self.kind.lower()}s"

    @property
    def root(self) -> str:
        """The path of its group and version."""
        return f"apis/{self.group}/v1"

    def answer(self, review: Any, user: User, authorizer: Authorizer) -> Object:
        """Return the review with its answer.

        Raises:
            ApiError: 400, it is no JSON object, or asks nothing.
        """
        spec = review.get("spec") or {} if isinstance(review, dict) else None
        if not isinstance(spec, dict):
            raise bad_request("the object provided is unrecognized: it must be a JSON object")
        status = self.judge(spec, user, authorizer)
        answer = {"kind": self.kind, "apiVersion": f"{self.group}/v1", "status": status}
        return {"metadata": {}, **review, "spec": spec, **answer}


def _identity(_: Object, user: User, __: Authorizer) -> Object:
    uid = {"uid": user.uid} if user.uid else {}
    return {"userInfo": {"username": user.name, **uid, "groups": list(user.groups)}}


def _access(spec: Object, user: User, authorizer: Authorizer) -> Object:
    given = spec.get("resourceAttributes") or spec.get("nonResourceAttributes")
    if not isinstance(given, dict):
        rule = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        error = invalid("spec.resourceAttributes", None, rule)
        kind = "SelfSubjectAccessReview.authorization.k8s.io"
        raise ApiError(422, "Invalid", f'{kind} "" is invalid: {error}')
    asked = Attributes(**{"verb": ""} | {key: str(given.get(key) or "") for key in _ASKED})
    allowed, why = authorizer.decide(user, asked)
    return {"allowed": allowed} | ({"reason": why} if why else {})


def _rules(spec: Object, user: User, authorizer: Authorizer) -> Object:
    namespace = spec.get("namespace")
    if not namespace or not isinstance(namespace, str):
        raise bad_request("no namespace on request")
    granted = authorizer.granted(user, namespace)
    rules = [rule for rule, _ in granted.rules]
    status: Object = {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": bool(granted.missing),
    }
    return status | ({"evaluationError": granted.problem} if granted.missing else {})


_AUTHORIZATION = "authorization.k8s.io"
REVIEWS = (
    Review("authentication.k8s.io", "SelfSubjectReview", _identity),
    Review(_AUTHORIZATION, "SelfSubjectAccessReview", _access),
    Review(_AUTHORIZATION, "SelfSubjectRulesReview", _rules),
)


def review_at(path: str) -> Review | None:
    """Return the review that is served at a path, or None."""
    served = {f"{one.root}/{one.plural}": one for one in REVIEWS}
    return served.get(path)
