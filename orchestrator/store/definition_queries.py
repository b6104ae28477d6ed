"""Definitions of workflows: stored once, read by id or by name."""

from __future__ import annotations

from typing import LiteralString

INSERT_DEFINITION: LiteralString = """
INSERT INTO definitions (id, name, version, body) VALUES (%(id)s, %(name)s, %(version)s, %(body)s::json)
ON CONFLICT (id) DO NOTHING
"""

SELECT_DEFINITION: LiteralString = "SELECT body::text FROM definitions WHERE id = %(id)s"

SELECT_DEFINITION_BY_NAME: LiteralString = """
SELECT id, body::text FROM definitions WHERE name = %(name)s ORDER BY created_at DESC LIMIT 1
"""

SELECT_DEFINITIONS: LiteralString = """
SELECT DISTINCT ON (name) body::text FROM definitions ORDER BY name, created_at DESC
"""

SELECT_VERSIONS: LiteralString = """
SELECT id, body::text FROM definitions WHERE name = %(name)s ORDER BY created_at DESC
"""

TOUCH_DEFINITION: LiteralString = "UPDATE definitions SET created_at = clock_timestamp() WHERE id = %(id)s"
