#!/usr/bin/env bash
# How do the peers of benchmarks/peers.py get installed? Apart from the service: prints a Python that has both.
#
#   benchmarks/peers.sh PYTHON
#   "$(benchmarks/peers.sh .venv/bin/python)" -m benchmarks.retrieval FOLDER --peers
#
# Kept in ~/.cache/rag-service-bench. torch, which only txtai wants and nothing here computes with, is the tests' own
# (tests/servers/sentence_transformers.sh: 1.6 GB, without NVIDIA's libraries).
set -euo pipefail

python=$1
here=$(cd "$(dirname "$0")" && pwd)
wanted=$(cat "$here/peers.txt" "$here/peers.sh" "$here/../requirements.lock" | sha256sum | cut -c1-12)
folder=$HOME/.cache/rag-service-bench/peers-$wanted
[ -e "$folder/.ready" ] && { echo "$folder/bin/python"; exit 0; }

{
  torch=$("$here/../tests/servers/sentence_transformers.sh" "$python")
  "$python" -m venv "$folder"
  install() { "$folder/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
  install -r "$here/../requirements.lock"
  install -r "$here/peers.txt"
  install --no-deps txtai==9.14.0
  echo "$torch" >"$("$folder/bin/python" -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
} >&2
touch "$folder/.ready"
echo "$folder/bin/python"
