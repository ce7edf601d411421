#!/usr/bin/env bash
# Before the server starts: wait for the database, then bring its tables up to date.
# Safe to run by several processes at once: migrations take turns.
set -eu
cd "$(dirname "$0")"

python -m app.cli wait-for-database --timeout "${DATABASE_WAIT_TIMEOUT_S:-60}"
exec alembic upgrade head
