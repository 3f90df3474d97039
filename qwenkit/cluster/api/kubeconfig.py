"""Read one context of the kubeconfigs as kubectl does; refuse by name what would be lost.

What client-go knows, and what happens to it here. The Python client has rules of its own and
drops some fields without a word; those are handled or refused here, before it sees them.

| field | here | the Python client alone |
|---|---|---|
| KUBECONFIG with several files | the first file with a name wins | the same |
| paths relative to a file | to the file that has them | a user's are taken from the cluster's |
| server, certificate-authority(-data), tls-server-name | supported | supported |
| insecure-skip-tls-verify beside an authority | refused, as client-go does | does not verify |
| proxy-url | supported, whatever NO_PROXY says | NO_PROXY wins |
| disable-compression | nothing to do: no answer is compressed | ignored |
| client-certificate(-data), client-key(-data) | supported; one alone is refused | fails later |
| token, tokenFile | supported; the file wins, read again | the token wins, the file is read once |
| username, password | supported; beside a token refused, as client-go does | the token wins |
| as, as-uid, as-groups, as-user-extra | sent; refused without ``as``, as client-go does | ignored |
| exec: v1, v1beta1 | supported; ``installHint`` is shown | supported |
| exec: v1alpha1; Always without a terminal | refused, as client-go does | tried |
| auth-provider | refused: use an exec plugin | gcp and oidc, others ignored |
| context.namespace, current-context | not used: settings name both | used |
| extensions, unknown fields | ignored | ignored |
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qwenkit.errors import InvalidValue, NotFound
from qwenkit.errors.scrubbing import remember
from qwenkit.untrusted.files import read_text
from qwenkit.untrusted.parsing import parse_yaml

SANDBOX = "sandbox"
START_SANDBOX = 'qwenkit sandbox up --detach, then: eval "$(qwenkit sandbox env)"'
_EXEC_VERSIONS = tuple(f"client.authentication.k8s.io/{v}" for v in ("v1", "v1beta1"))
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_MOST_BYTES = 2**22
# What a header's name may hold; client-go escapes the rest.
_NAME = "!#$&'*+-.^_`|~"


@dataclass(frozen=True)
class KubeContext:
    """One context: its cluster and its user, with absolute paths, and where they were found."""

    name: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    where: str

    def as_config(self) -> dict[str, Any]:
        """Return a kubeconfig with this context alone."""
        own = {"name": self.name}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "clusters": [own | {"cluster": self.cluster}],
            "users": [own | {"user": self.user}],
            "contexts": [own | {"context": {"cluster": self.name, "user": self.name}}],
        }

    def impersonation(self) -> list[tuple[str, str]]:
        """Return the headers that name whom to act as; a name may come several times."""
        headers = [
            ("Impersonate-User", self.user.get("as")),
            ("Impersonate-Uid", self.user.get("as-uid")),
        ]
        headers += [("Impersonate-Group", one) for one in self.user.get("as-groups") or []]
        for key, values in (self.user.get("as-user-extra") or {}).items():
            name = f"Impersonate-Extra-{quote(str(key), safe=_NAME)}"
            headers += [(name, value) for value in values or []]
        # Go sends UTF-8; the header library here takes Latin-1.
        return [(name, str(value).encode().decode("latin-1")) for name, value in headers if value]

    def refuse(self, rule: str, fix: str = "") -> InvalidValue:
        """Return the error for a rule that this context breaks."""
        return InvalidValue("KUBECONFIG", self.where, f"context {self.name!r}: {rule}", fix)


def context_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of the contexts in some files.

    Raises:
        QwenkitError: a file cannot be read, or is no kubeconfig.
    """
    return list(_named([(path, _read(path)) for path in paths], "contexts"))


def read_context(paths: Sequence[Path], name: str) -> KubeContext:
    """Return a context of some files; all its secrets are hidden from now on.

    Raises:
        NotFound: no file can be read, or none has the context.
        InvalidValue: a file is not a kubeconfig, or the context breaks a rule of the table above.
    """
    present = [path for path in paths if os.path.exists(path)] or list(paths)
    files = [(path, _read(path)) for path in present]
    where = ", ".join(map(str, present))
    known = _named(files, "contexts")
    if name not in known:
        raise NotFound(
            f"context {name!r} is not in {where}",
            f"it has these contexts: {', '.join(known) or 'none'}",
            START_SANDBOX
            if name == SANDBOX
            else "name one of them with --context, or set KUBECONFIG to the file that has it",
            kind="Context",
            name=name,
        )
    entry = known[name][1].get("context")
    found = KubeContext(name, {}, {}, where)
    if not isinstance(entry, dict):
        raise found.refuse("its entry has no context")
    parts: dict[str, dict[str, Any]] = {}
    for part in ("cluster", "user"):
        wanted = entry.get(part)
        if part == "user" and not wanted:
            parts[part] = {}
            continue
        path, holder = _named(files, f"{part}s").get(str(wanted), (Path(), {}))
        if not isinstance(holder.get(part), dict):
            raise found.refuse(f"there is no {part} named {wanted!r}, or it is empty")
        parts[part] = _absolute(holder[part], path.parent)
    found = KubeContext(name, parts["cluster"], parts["user"], where)
    _hide(found.user)
    _check(found)
    return found


def _check(context: KubeContext) -> None:
    """Refuse what client-go refuses, and what would be lost."""
    cluster, user = context.cluster, context.user
    has = {key for key, value in {**cluster, **user}.items() if value}
    if not str(cluster.get("server")).startswith(("http://", "https://")):
        raise context.refuse("its cluster needs a server such as https://host:6443")
    if str(cluster.get("proxy-url") or "").startswith("socks") and find_spec("socks") is None:
        raise context.refuse("its proxy-url needs the package PySocks", "pip install pysocks")
    if "insecure-skip-tls-verify" in has and has & {
        "certificate-authority",
        "certificate-authority-data",
    }:
        raise context.refuse("insecure-skip-tls-verify beside a certificate authority: keep one")
    certificate, key = (
        has & {name, f"{name}-data"} for name in ("client-certificate", "client-key")
    )
    if bool(certificate) != bool(key):
        raise context.refuse("its user needs both client-certificate and client-key")
    if has & {"username", "password"} and has & {"token", "tokenFile"}:
        raise context.refuse("its user has a token and a password: keep one")
    others = sorted(has & {"as-uid", "as-groups", "as-user-extra"})
    if others and "as" not in has:
        raise context.refuse(f"its user has {', '.join(others)} without as")
    if "auth-provider" in has:
        fix = "use an exec plugin, such as kubelogin for oidc, or a token"
        raise context.refuse("its user has an auth-provider, which is not supported", fix)
    _check_impersonation(context)
    if "exec" in has:
        _check_plugin(context, user["exec"])


def _check_impersonation(context: KubeContext) -> None:
    extra = context.user.get("as-user-extra") or {}
    lists = [context.user.get("as-groups") or [], *(extra.values() if type(extra) is dict else [0])]
    texts = [context.user.get("as") or "", context.user.get("as-uid") or ""]
    texts += [text for each in lists if isinstance(each, list) for text in each]
    if not all(isinstance(each, list) for each in lists) or not all(map(_is_name, texts)):
        rule = "as and as-uid must be texts, as-groups a list, as-user-extra a mapping to lists"
        raise context.refuse(f"{rule}, without control characters")


def _is_name(text: object) -> bool:
    return isinstance(text, str) and (text.isprintable() or not text)


def _check_plugin(context: KubeContext, plugin: object) -> None:
    if not isinstance(plugin, Mapping) or not plugin.get("command"):
        raise context.refuse("its user's exec needs a command")
    if plugin.get("apiVersion") not in _EXEC_VERSIONS:
        given = plugin.get("apiVersion")
        rule = f"its user's exec has apiVersion {given!r}; it must be {' or '.join(_EXEC_VERSIONS)}"
        raise context.refuse(rule, "update the plugin and its entry in the kubeconfig")
    if plugin.get("interactiveMode") == "Always" and not os.isatty(0):
        raise context.refuse("its user's exec asks for a terminal (interactiveMode: Always)")


def _absolute(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return an entry of a file with the paths that are relative to the file made absolute."""
    found = dict(entry)
    for name in _FILES:
        if isinstance(found.get(name), str) and found[name]:
            found[name] = os.path.join(folder.absolute(), found[name])
    if isinstance(plugin := found.get("exec"), dict):
        command = plugin.get("command")
        if isinstance(command, str) and os.sep in command:
            found["exec"] = {**plugin, "command": os.path.join(folder.absolute(), command)}
    return found


def _hide(user: Mapping[str, Any]) -> None:
    for name in ("token", "password", "client-key-data"):
        remember(str(user.get(name) or ""))
    with suppress(ValueError):
        remember(base64.b64decode(str(user.get("client-key-data") or "")).decode())
    provider = user.get("auth-provider")
    config = provider.get("config") if isinstance(provider, dict) else None
    if isinstance(config, dict):
        remember(
            *(str(value) for key, value in config.items() if "token" in key or "secret" in key)
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = parse_yaml(read_text(path, most=_MOST_BYTES), aliases=True)
    except OSError as error:
        raise NotFound(
            f"kubeconfig {path} cannot be read",
            error.strerror or str(error),
            f"set KUBECONFIG; for the sandbox: {START_SANDBOX}",
        ) from error
    except ValueError:
        raise InvalidValue("KUBECONFIG", str(path), "must be a YAML file") from None
    if not isinstance(loaded, dict):
        raise InvalidValue("KUBECONFIG", str(path), "must be a kubeconfig: a mapping with contexts")
    return loaded


def _named(
    files: Sequence[tuple[Path, dict[str, Any]]], kind: str
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return the entries of one kind by name, with their files; the first file wins."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path, file in files:
        entries = file.get(kind)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and "name" in entry:
                found.setdefault(str(entry["name"]), (path, entry))
    return found
