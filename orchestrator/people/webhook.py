"""Notices as webhooks, signed as Standard Webhooks wants it; `webhook-id` is the same each time one is sent."""

from __future__ import annotations

import hashlib
import json
import time

import httpx

from orchestrator.incoming.signatures import secrets_of, sign
from orchestrator.people.notices import Later
from schemas.errors import Fault, InputError
from schemas.notices import Notice

TIMEOUT = 10.0
"""Seconds for one try."""

LONGEST_PATIENCE = 86_400.0


class Webhook:
    """One URL; any status from 200 to 299 says that the notice has arrived."""

    def __init__(self, url: str, secret: str) -> None:
        """Raises `InputError` without a secret: nobody could tell its messages from forged ones."""
        parsed = httpx.URL(url)
        self._url = url
        self._secrets = secrets_of(secret)
        if not self._secrets:
            fault = Fault("", "it is empty, but BATON_NOTIFY names a webhook, whose messages are signed")
            raise InputError("BATON_NOTIFY_SECRET", [fault], next_step="BATON_NOTIFY_SECRET=whsec_…")
        self.name = f"{parsed.host}#{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        self._client = httpx.Client(timeout=TIMEOUT)

    def tell(self, notice: Notice) -> None:
        """Raises `Later`, or `httpx.HTTPError`."""
        body = _body(notice)
        sent_at = int(time.time())
        signatures = " ".join(sign(secret, str(notice.id), sent_at, body) for secret in self._secrets)
        headers = {
            "content-type": "application/json",
            "webhook-id": str(notice.id),
            "webhook-timestamp": str(sent_at),
            "webhook-signature": signatures,
        }
        answer = self._client.post(self._url, content=body, headers=headers)
        if answer.is_success:
            return
        told = f"{answer.status_code} {answer.reason_phrase}"
        raise Later(told, _patience(answer.headers.get("retry-after", "")))


def _body(notice: Notice) -> bytes:
    about = {"run_id": str(notice.run_id), "step": notice.path, "workflow": notice.workflow}
    message = {"type": notice.kind, "timestamp": notice.at.isoformat(), "data": notice.body | about}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _patience(text: str) -> float:
    return min(float(text), LONGEST_PATIENCE) if text.isdecimal() else 0.0
