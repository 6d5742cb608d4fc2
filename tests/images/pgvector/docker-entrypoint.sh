#!/bin/bash
# What tests and docker-compose.yml use of the official image's entrypoint: POSTGRES_USER, POSTGRES_PASSWORD and
# POSTGRES_DB at the first start, then `postgres` with the arguments given.
set -euo pipefail
: "${POSTGRES_USER:=postgres}"
: "${POSTGRES_DB:=$POSTGRES_USER}"
[ "${1:-}" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres /var/lib/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    [ -n "${POSTGRES_PASSWORD:-}" ] || { echo 'POSTGRES_PASSWORD is not set.' >&2; exit 1; }
    initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile=<(printf %s "$POSTGRES_PASSWORD") --encoding UTF8 \
        --locale=C.UTF-8 --auth-host=scram-sha-256 --auth-local=trust
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl --pgdata "$PGDATA" --options="-c listen_addresses='' -k $PGHOST" --wait start
    [ "$POSTGRES_DB" = postgres ] ||
        psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE \"$POSTGRES_DB\""
    pg_ctl --pgdata "$PGDATA" --mode=fast --wait stop
fi
shift
exec postgres -D "$PGDATA" -c 'listen_addresses=*' -c "unix_socket_directories=$PGHOST" "$@"
