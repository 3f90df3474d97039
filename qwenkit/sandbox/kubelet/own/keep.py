"""What may ``qwenkit workshop keep`` of a pod be asked?

To keep the GPU slots of one workshop with the rights of the pod's ServiceAccount, at this
sandbox's own API server: its kubeconfig is the pod's only credential.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwenkit.errors import InvalidValue
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.own.program import OwnCommand, variables

_CONTEXT = "in-cluster"
_VARIABLES = ("QWENKIT_GPU", "QWENKIT_GPU_RESOURCE")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?", re.ASCII)


def keep(
    args: Sequence[str],
    env: Mapping[str, str],
    account: tuple[str, str],
    programs: Programs,
    home: Path,
) -> OwnCommand:
    """Return the program's arguments and variables.

    Args:
        args: the arguments after ``qwenkit workshop keep``.
        env: the container's environment.
        account: namespace and name of the pod's ServiceAccount.
        programs: writes the kubeconfig of an account.
        home: gets that file.

    Raises:
        InvalidValue: a pod may not ask this.
    """
    match args:
        case ["--name", name, "--context", "in-cluster"] if _NAME.fullmatch(name):
            pass
        case _:
            rule = f"must be --name NAME --context {_CONTEXT}"
            raise InvalidValue("arguments", " ".join(args)[:80], rule)
    file = home / "kubeconfig"
    programs.write_kubeconfig(file, _CONTEXT, *account)
    passed = dict(variables(env, _VARIABLES))
    return OwnCommand(["workshop", "keep", *args], passed | {"KUBECONFIG": str(file)})
