#!/bin/sh
# As in the official image: options alone are redis-server's, and the server has its search module.
set -eu
case ${1:-} in -*) set -- redis-server "$@" ;; esac
[ "${1:-}" = redis-server ] || exec "$@"
exec "$@" --protected-mode no --dir /data --loadmodule /usr/local/lib/redis/modules/redisearch.so
