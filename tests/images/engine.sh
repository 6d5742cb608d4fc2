#!/usr/bin/env bash
# A Docker engine where none runs and we are root (a container or a machine without systemd).
#   tests/images/engine.sh start|stop
# Its data lie in $RAG_TEST_ENGINE or ~/.cache/rag-service-tests/docker; published ports are on loopback only.
# `stop` ends only the engine that `start` began.
set -euo pipefail
home=${RAG_TEST_ENGINE:-$HOME/.cache/rag-service-tests/docker}

running() { docker info >/dev/null 2>&1; }

start() {
    running && return
    [ "$(id -u)" = 0 ] || { echo 'No Docker engine answers, and only root can start one.' >&2; exit 1; }
    command -v dockerd >/dev/null || { echo 'There is no dockerd. As root: apt-get install docker.io iptables.' >&2; exit 1; }
    mkdir -p "$home"
    rm -f "$home/docker.pid"
    setsid nohup dockerd --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/docker.pid" --ip 127.0.0.1 \
        >"$home/dockerd.log" 2>&1 </dev/null &
    for _ in $(seq 240); do
        running && return
        kill -0 $! 2>/dev/null || break
        sleep 0.25
    done
    echo 'Docker does not start:' >&2
    tail -n 5 "$home/dockerd.log" >&2
    exit 1
}

stop() {
    [ -f "$home/docker.pid" ] || return 0
    pid=$(cat "$home/docker.pid")
    kill "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
}

case ${1:-} in
    start) start ;;
    stop) stop ;;
    *) sed -n 's/^#   /usage: /p' "$0" >&2; exit 2 ;;
esac
