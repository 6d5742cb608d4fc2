#!/bin/sh
# Writes the lock files from pyproject.toml: every package that is installed, with its version and hashes.
#   requirements.lock       what running needs
#   requirements-demo.lock  that, and the demo's language model
#   requirements-image.lock what running needs, the drivers of all stores and OCR: for the Docker image
#   requirements-dev.lock   all that, and every extra, tests and linters
# Each also holds setuptools, which builds our own package, so that nothing comes unpinned (pip would fetch the
# newest into an isolated build).
# Needs uv (set UV to its path if it is not on PATH). Versions stay as they are in requirements-dev.lock unless
# pyproject.toml asks for others; `scripts/lock.sh --upgrade` takes the newest.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-uv}

compile() {
    file=$1
    shift
    echo 'setuptools>=77' | "$uv" pip compile pyproject.toml - --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --output-file "$file" "$@"
}

compile requirements-dev.lock --extra dev --extra demo --extra llama-cpp --extra redis \
    --extra milvus --extra elasticsearch --extra mongo --extra ocr --extra llama-index "$@"
# The smaller sets take their versions from the largest, so that what is tested is what runs.
compile requirements-image.lock --extra redis --extra milvus --extra elasticsearch --extra mongo --extra ocr \
    --constraints requirements-dev.lock
compile requirements-demo.lock --extra demo --constraints requirements-dev.lock
compile requirements.lock --constraints requirements-dev.lock
