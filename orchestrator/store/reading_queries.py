"""Reading a database that is not ours, with a statement that nobody has checked.

A read-only transaction stops whatever writes to tables, sequences or large objects, and whatever defines something. It
does not stop functions with effects elsewhere (programs and files of the server, sessions of others, other servers):
those need rights, and a role that has them is refused. A statement can undo `SET ROLE` and every setting that its role
may set, so neither is a boundary; the rights of the role that has logged in are.
"""

from __future__ import annotations

from typing import LiteralString

# For a superuser, who is a member of every role, the first one found is a superuser too.
SELECT_TOO_MIGHTY: LiteralString = """
SELECT session_user::text, rolname::text,
       CASE WHEN rolsuper THEN 'is a superuser' WHEN rolcreaterole THEN 'may create roles'
            WHEN rolreplication THEN 'may replicate' ELSE 'reaches beyond the tables' END
FROM pg_roles
WHERE pg_has_role(session_user, oid, 'MEMBER')
  AND (rolsuper OR rolcreaterole OR rolreplication
       OR rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
                      'pg_signal_backend', 'pg_maintain', 'pg_create_subscription'))
ORDER BY rolsuper DESC, rolname LIMIT 1
"""

SET_FOR_READING: LiteralString = """
SELECT set_config('statement_timeout', %(timeout)s, true), set_config('lock_timeout', %(timeout)s, true),
       CASE WHEN %(path)s <> '' THEN set_config('search_path', %(path)s, true) END
"""

# For people, as the next step.
MAKE_READER: LiteralString = """
CREATE ROLE reader LOGIN PASSWORD '...'; GRANT SELECT ON ALL TABLES IN SCHEMA reports TO reader
""".strip()

_ROWS: LiteralString = """
SELECT CASE WHEN size <= {max_bytes} THEN row END
FROM (SELECT row, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) AS size
      FROM (SELECT row_to_json(baton_row)::text AS row FROM (
{query}
) AS baton_row) AS texts) AS sized LIMIT {rows}
"""


def rows_of(query: str, rows: int, max_bytes: int) -> str:
    """A statement that gives the rows of this one as JSON texts, so many and so large, then NULL.

    The server cuts: no row reaches the client that is larger. To be declared as a cursor by the extended protocol,
    which takes one statement only, and of it only those that give rows; one that closes the bracket around it is still
    that.
    """
    return _ROWS.format(query=query, rows=rows, max_bytes=max_bytes)
