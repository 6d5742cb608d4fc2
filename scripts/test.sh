#!/bin/sh
# Runs test suites by the names of their folders (or files) under tests/, in the order given, in one pytest run.
#   scripts/test.sh unit contract integration
set -eu
cd "$(dirname "$0")/.."
folders=''
for suite in "$@"; do
    [ -e "tests/$suite" ] || { echo "There is no tests/$suite." >&2; exit 2; }
    folders="$folders tests/$suite"
done
# shellcheck disable=SC2086  # a list of words
exec .venv/bin/python -m pytest $folders
