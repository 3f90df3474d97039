"""What may ``qwenkit load-worker`` of a pod be asked?

To send its share of a load to a Service of this cluster, by the Service's address inside the
cluster: here the node finds it, as the cluster's DNS and its inner gateway do. The plan is data:
the program itself checks what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.own.program import OwnCommand, variables

_ADDRESS = re.compile(r"http://([a-z0-9-]+)\.([a-z0-9-]+)\.svc\.cluster\.local", re.ASCII)
_PLAN = re.compile(r"[A-Za-z0-9+/]+=*")
_MOST_WORDS, _LONGEST_WORD = 16, 2**16
_VARIABLES = ("JOB_COMPLETION_INDEX", "OPENAI_API_KEY")


def load_worker(
    args: Sequence[str],
    env: Mapping[str, str],
    programs: Programs,
    find_host: Callable[[str, str], str],
) -> OwnCommand:
    """Return the program's arguments and variables.

    Args:
        args: the arguments after ``qwenkit load-worker``: an address, and the words of a plan.
        env: the container's environment.
        programs: says where the sandbox's gateway is.
        find_host: returns the external host of a Service by namespace and name, or "".

    Raises:
        InvalidValue: a pod may not ask this.
    """
    if not 2 <= len(args) <= 1 + _MOST_WORDS:
        raise InvalidValue("arguments", len(args), "must be an address and a plan")
    address, *plan = args
    found = _ADDRESS.fullmatch(address)
    if found is None or not (host := find_host(found[2], found[1])):
        rule = "must be a Service's address in the cluster: http://NAME.NAMESPACE.svc.cluster.local"
        raise InvalidValue("address", address[:80], rule, "kubectl get ksvc shows the Services")
    if not all(len(word) <= _LONGEST_WORD and _PLAN.fullmatch(word) for word in plan):
        raise InvalidValue("plan", plan[0][:20], "must be base64, as qwenkit load writes it")
    words = ["load-worker", programs.gateway, *plan, "--host", host]
    return OwnCommand(words, dict(variables(env, _VARIABLES)))
