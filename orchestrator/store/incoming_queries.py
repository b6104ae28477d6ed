"""Events from outside: stored, shown, tried again."""

from __future__ import annotations

from typing import LiteralString

INSERT_INCOMING: LiteralString = """
INSERT INTO incoming_events (tenant, id, type, key, payload)
VALUES (%(tenant)s, %(id)s, %(type)s, %(key)s, %(payload)s::jsonb)
ON CONFLICT (tenant, id) DO NOTHING
RETURNING number
"""

SELECT_SAME: LiteralString = """
SELECT number, type = %(type)s AND key IS NOT DISTINCT FROM %(key)s::text AND payload = %(payload)s::jsonb AS same
FROM incoming_events WHERE tenant = %(tenant)s AND id = %(id)s
"""

_EVENT: LiteralString = """
SELECT e.number, e.id, e.tenant, e.type, e.key, e.payload, e.at, coalesce(d.deliveries, '[]'::json) AS deliveries
FROM incoming_events e
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object('subscription', subscription, 'version', version, 'state', state, 'key', key,
                                      'run_id', run_id, 'reason', reason, 'at', at) ORDER BY subscription) AS deliveries
    FROM deliveries WHERE event = e.number
) d ON true
"""

SELECT_INCOMING: LiteralString = (
    _EVENT
    + """
WHERE (%(type)s::text IS NULL OR e.type = %(type)s) AND (%(key)s::text IS NULL OR e.key = %(key)s)
  AND (%(tenant)s::text IS NULL OR e.tenant = %(tenant)s)
  AND (NOT %(failed)s OR EXISTS (SELECT FROM deliveries f WHERE f.event = e.number AND f.state = 'failed'))
ORDER BY e.number DESC LIMIT %(limit)s
"""
)

SELECT_INCOMING_ONE: LiteralString = (
    _EVENT
    + """
WHERE e.id = %(id)s AND (%(tenant)s::text IS NULL OR e.tenant = %(tenant)s) ORDER BY e.number LIMIT 1
"""
)

DROP_FAILED: LiteralString = """
UPDATE deliveries SET state = 'dropped', at = clock_timestamp()
WHERE state = 'failed' AND (%(event)s::bigint IS NULL OR event = %(event)s)
  AND (%(subscription)s::text IS NULL OR subscription = %(subscription)s)
"""

# With the version of now: it may have been mended.
RETRY_FAILED: LiteralString = """
UPDATE deliveries d
SET state = 'new', reason = NULL, version = s.version, at = clock_timestamp()
FROM subscriptions s
WHERE d.state = 'failed' AND s.name = d.subscription AND s.replaced_at IS NULL
  AND (%(event)s::bigint IS NULL OR d.event = %(event)s)
  AND (%(subscription)s::text IS NULL OR d.subscription = %(subscription)s)
"""
