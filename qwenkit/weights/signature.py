"""A model's signature beside its weights: ``model.sig``, as OpenSSF's model signing makes it.

A Sigstore bundle that signs the digest of each file: these are compared with the sums that the
upload verified. Who signed them, the package ``model-signing`` verifies.

Source: https://github.com/sigstore/model-transparency
"""

from __future__ import annotations

import importlib
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qwenkit.errors import Rejected
from qwenkit.weights.hub.listing import shown
from qwenkit.weights.report import FileProblem
from qwenkit.weights.selection import Selection

SIGNATURE = "model.sig"
_UNSIGNED = re.compile(r"model\.sig|\.?qwenkit[^/]*|\.git(/.*|attributes|hub/.*|ignore)")
_INSTALL = "pip install model-signing pyopenssl"


def check_signature(
    bundle: bytes, found: Mapping[str, str], selection: Selection, signer: str
) -> tuple[list[FileProblem], str]:
    """Return how the files differ from those that were signed, and who signed them.

    ``found`` has the sha256 of each file that is there, empty if nobody verified it. ``signer`` is
    a file with a public key, or IDENTITY,ISSUER of Sigstore; empty: anyone.

    Raises:
        Rejected: it is not signed by ``signer``, or this cannot be verified here.
    """
    try:
        statement = json.loads(b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
        problems = list(_differences(statement["predicate"], found, selection))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [FileProblem(SIGNATURE, f"cannot be compared: {shown(str(error))}")], ""
    if signer:
        _verify(bundle, signer)
        return problems, f"signed by {signer}"
    return problems, f"{SIGNATURE}: who signed is not verified; --set signer=FILE, and {_INSTALL}"


def _differences(
    predicate: Mapping[str, Any], found: Mapping[str, str], selection: Selection
) -> Iterator[FileProblem]:
    how = predicate["serialization"]
    if (how["method"], how["hash_type"]) != ("files", "sha256"):
        raise ValueError(f"it lists {how['method']} by {how['hash_type']}, not files by sha256")
    signed = {str(one["name"]): str(one["digest"]).lower() for one in predicate["resources"]}
    for path, digest in signed.items():
        if path not in found and selection.takes(path):
            yield FileProblem(path, f"is missing, and {SIGNATURE} lists it")
        elif found.get(path, digest) != digest:
            yield FileProblem(path, f"has other bytes than {SIGNATURE} lists")
    ignored = [f"{path}/" for path in how.get("ignore_paths") or ()]
    for path in sorted(found.keys() - signed.keys()):
        if not _UNSIGNED.fullmatch(path) and not f"{path}/".startswith(tuple(ignored)):
            yield FileProblem(path, f"is not signed: {SIGNATURE} does not list it")


class _Compared:
    """Equal to any digests: they are compared above, without the files."""

    add_ignored_paths = __ne__ = lambda *_, **__: False
    hash = classmethod(lambda cls, *_, **__: cls())


def _verify(bundle: bytes, signer: str) -> None:
    try:
        config = importlib.import_module("model_signing.verifying").Config()
        if Path(signer).is_file():
            config.use_elliptic_key_verifier(public_key=signer)
        else:
            identity, _, issuer = signer.partition(",")
            config.use_sigstore_verifier(identity=identity.strip(), oidc_issuer=issuer.strip())
        with TemporaryDirectory() as folder:
            (path := Path(folder, SIGNATURE)).write_bytes(bundle)
            config.set_hashing_config(_Compared()).verify(folder, path)
    except ImportError as error:
        raise Rejected(f"{SIGNATURE} cannot be verified", str(error), _INSTALL) from None
    except Exception as error:  # of any library: it is not verified
        why = f"{type(error).__name__}: {error}"[:200]
        fix = "correct signer, or get the weights and their signature anew"
        raise Rejected(f"{SIGNATURE} is not verified as that of {signer}", why, fix) from None
