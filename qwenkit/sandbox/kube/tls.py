"""A certificate authority and a server certificate for loopback."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import trustme

_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Certificates:
    """What clients trust, and what the server serves with."""

    ca_pem: str
    ssl_context: ssl.SSLContext


def make_certificates() -> Certificates:
    """Make a new authority and a server certificate for 127.0.0.1 and localhost.

    Nothing is stored: every start makes new ones, and the kubeconfig carries the authority.
    """
    authority = trustme.CA(organization_name="qwenkit sandbox")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    authority.issue_cert(*_NAMES).configure_cert(context)
    return Certificates(authority.cert_pem.bytes().decode(), context)
