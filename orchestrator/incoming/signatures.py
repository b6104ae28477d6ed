"""Signatures of webhooks as Standard Webhooks wants them: who sent a message, when, and that nobody changed it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from schemas.errors import Fault, InputError

PREFIX = "whsec_"

TOLERANCE = 300.0
"""Seconds by which the sender's clock may differ, and for which a message that was overheard can be sent again."""


def secrets_of(text: str) -> tuple[bytes, ...]:
    """The secrets in a setting, separated by blanks: while one is replaced there are two. Raises `InputError`."""
    return tuple(_secret(one) for one in text.split())


def sign(secret: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`."""
    digest = hmac.digest(secret, b".".join([id.encode(), str(timestamp).encode(), body]), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def fault(
    secrets: Sequence[bytes], id: str, timestamp: str, signatures: str, body: bytes, now: float
) -> str | None:
    """Why a message is not to be believed; None if it is."""
    try:
        sent_at = int(timestamp)
    except ValueError:
        return "the header webhook-timestamp is no number of seconds"
    if abs(int(now) - sent_at) > TOLERANCE:  # as whole numbers: the sender's may be longer than any float
        return f"it was sent more than {TOLERANCE:.0f} seconds ago, or its sender's clock is wrong"
    good = [sign(secret, id, sent_at, body).encode() for secret in secrets]
    given = signatures.encode("utf-8", "replace").split()
    if any(hmac.compare_digest(one, wanted) for one in given for wanted in good):
        return None
    return "no signature in the header webhook-signature is right"


def _secret(text: str) -> bytes:
    try:
        found = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        found = b""
    if not 24 <= len(found) <= 64:
        raise InputError(
            "webhook secret",
            [Fault("", f"it is not {PREFIX} and the base64 of 24 to 64 bytes")],
            next_step="""python -c 'import base64,os; print("whsec_"+base64.b64encode(os.urandom(32)).decode())'""",
        )
    return found
