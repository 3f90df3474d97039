"""Reviews: questions about permissions and identity, answered and never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwenkit.sandbox.kube.api_error import bad_request
from qwenkit.sandbox.kube.objects import Object

USER = "admin"
_GROUPS = ["system:masters", "system:authenticated"]
_EVERYTHING: dict[str, Any] = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}


@dataclass(frozen=True)
class Review:
    """One kind of review and its answer: the one user may do everything."""

    group: str
    kind: str
    plural: str
    status: Object

    @property
    def root(self) -> str:
        """The path of its group and version."""
        return f"apis/{self.group}/v1"

    def answer(self, review: Any) -> Object:
        """Return the review with its answer.

        Raises:
            ApiError: 400, it is no JSON object.
        """
        if not isinstance(review, dict):
            raise bad_request("the object provided is unrecognized: it must be a JSON object")
        answer = {"kind": self.kind, "apiVersion": f"{self.group}/v1", "status": self.status}
        return {"metadata": {}, "spec": {}, **review, **answer}


REVIEWS = (
    Review(
        "authentication.k8s.io",
        "SelfSubjectReview",
        "selfsubjectreviews",
        {"userInfo": {"username": USER, "groups": _GROUPS}},
    ),
    Review(
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        {"allowed": True},
    ),
    Review(
        "authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews", _EVERYTHING
    ),
)


def review_at(path: str) -> Review | None:
    """Return the review that is served at a path, or None."""
    served = {f"{one.root}/{one.plural}": one for one in REVIEWS}
    return served.get(path)
