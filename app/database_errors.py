"""Telling a database's errors apart: is it the data's fault, or the database's?"""

import sqlite3

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# PostgreSQL: connection, resources, operator intervention, system, lock not available.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE_SQLSTATES = ("08", "53", "55", "57", "58")
# SQLite's primary result codes, https://www.sqlite.org/rescode.html
_UNAVAILABLE_SQLITE_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


def is_connection_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that the same work may succeed on a new one."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_database_unavailable(error: BaseException) -> bool:
    """Whether the database, not the data, is to blame: unreachable, locked, full or too slow."""
    if isinstance(error, OSError | TimeoutError | PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    sqlstate = getattr(error.orig, "sqlstate", None)
    if isinstance(sqlstate, str):
        return sqlstate.startswith(_UNAVAILABLE_SQLSTATES)
    code = getattr(error.orig, "sqlite_errorcode", None)
    # The low byte of an extended code is its primary code.
    return isinstance(code, int) and code & 0xFF in _UNAVAILABLE_SQLITE_CODES


def is_foreign_key_violation(error: BaseException) -> bool:
    """Whether a row was refused because the row it belongs to is gone."""
    if not isinstance(error, IntegrityError):
        return False
    return (
        getattr(error.orig, "sqlstate", None) == "23503"
        or getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
    )
