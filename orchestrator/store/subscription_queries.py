"""Subscriptions: deployed in versions, shown, paused, removed."""

from __future__ import annotations

from typing import LiteralString

# Two processes that deploy one subscription at the same time do it one after the other.
LOCK_SUBSCRIPTION: LiteralString = "SELECT pg_advisory_xact_lock(7007, hashtext(%(name)s))"

SELECT_VERSIONS: LiteralString = """
SELECT version, digest, enabled, replaced_at IS NULL AS current
FROM subscriptions WHERE name = %(name)s ORDER BY version
"""

REPLACE_SUBSCRIPTION: LiteralString = """
UPDATE subscriptions SET replaced_at = clock_timestamp() WHERE name = %(name)s AND replaced_at IS NULL
"""

INSERT_SUBSCRIPTION: LiteralString = """
INSERT INTO subscriptions (name, version, digest, type, definition_id, body, enabled)
VALUES (%(name)s, %(version)s, %(digest)s, %(type)s, %(definition)s, %(body)s::json, %(enabled)s)
"""

SELECT_SUBSCRIPTIONS: LiteralString = """
SELECT s.body::text, s.version, s.enabled, s.deployed_at, d.started, d.held, d.failed
FROM subscriptions s
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'started') AS started, count(*) FILTER (WHERE state = 'held') AS held,
           count(*) FILTER (WHERE state = 'failed') AS failed
    FROM deliveries WHERE subscription = s.name
) d
WHERE s.replaced_at IS NULL AND (%(name)s::text IS NULL OR s.name = %(name)s) ORDER BY s.name
"""

SET_ENABLED: LiteralString = """
UPDATE subscriptions SET enabled = %(enabled)s WHERE name = %(name)s AND replaced_at IS NULL RETURNING name
"""

# What has been delivered already is judged; what comes later passes it by.
RETIRE_SUBSCRIPTION: LiteralString = """
UPDATE subscriptions SET replaced_at = clock_timestamp() WHERE name = %(name)s AND replaced_at IS NULL RETURNING name
"""
