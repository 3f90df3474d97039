"""Evidence of a Service's state, for those who help: parameters, YAML, objects, logs, verdict."""

from __future__ import annotations

import json
import platform
import re
from functools import partial
from importlib.metadata import version
from pathlib import Path

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.evidence import Written, write_evidence
from qwenkit.cluster.diagnosis.gathering import is_secret
from qwenkit.errors import QwenkitError
from qwenkit.errors.scrubbing import remember
from qwenkit.manifests.template import to_yaml
from qwenkit.parameters.described import described
from qwenkit.parameters.pod_texts import parse_env
from qwenkit.settings import Settings
from qwenkit.steps import render, resolve

_PACKAGES = ("qwenkit", "kubernetes", "openai", "oss2")


def evidence(settings: Settings, folder: Path, *, prompts: bool = False) -> Written:
    """Write what explains the Service's state, without secrets, for somebody else to read.

    Prompts and answers are left out unless ``prompts``.

    Raises:
        InvalidValue: the folder is not empty, or cannot be written.
    """
    settings = resolve(settings)
    remember(*_secrets(settings))
    try:
        rendered = to_yaml(render(settings))
    except QwenkitError as error:
        rendered = f"# it cannot be rendered: {error.what}: {error.why}\n"
    rows = described(settings, settings.origins)
    hidden = "prompt" if not prompts else ""
    parameters = [row | {"value": "left out"} if row["name"] == hidden else row for row in rows]
    versions = {name: version(name) for name in _PACKAGES}
    files = {
        "parameters.json": json.dumps(parameters, ensure_ascii=False, indent=1) + "\n",
        "rendered.yaml": rendered,
        "versions.json": json.dumps({"python": platform.python_version()} | versions) + "\n",
    }
    connect = partial(Cluster.connect, settings)
    return write_evidence(folder, connect, settings.service, files, prompts=prompts)


def _secrets(settings: Settings) -> list[str]:
    """Return the secrets that stand in the parameters, against advice."""
    named = [text for name, text in parse_env(settings.env).items() if is_secret(name)]
    return named + re.findall(r"--api-key[ =](\S+)", f"{settings.extra_args} {settings.command}")
