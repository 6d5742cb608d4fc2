#!/bin/sh
# Makes .venv ready, from nothing, and does no work if it is ready already.
#   scripts/bootstrap.sh run|demo|dev
# Needs Python 3.11 or newer (PYTHON names another than the first found) and, the first time, a package index.
# Debian splits Python: where its venv module lacks pip, pip comes from apt (as root), from the system's pip, or
# from Debian's package of pip, unpacked without installing it.
# Writes to stderr only: the stdout of `make bench-retrieval` is for its results.
set -eu
exec >&2
kind=${1:?which packages? run, demo or dev}
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; } # also from within $(…)
fail() { say "bootstrap: $*"; exit 1; }

lock_file() {
    case $1 in
        run) echo requirements.lock ;;
        demo | dev) echo "requirements-$1.lock" ;;
        *) fail "$1 is none of run, demo, dev" ;;
    esac
}

# What .venv was made from. The development packages hold the two smaller sets in the same versions.
fingerprint() { cat "$(lock_file "$1")" pyproject.toml scripts/bootstrap.sh | sha256sum | cut -d ' ' -f 1; }
is_ready() {
    [ -x .venv/bin/rag-service ] && [ "$(cat ".venv/.ready-$1" 2>/dev/null)" = "$(fingerprint "$1")" ] &&
        .venv/bin/python -c '' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed and ${PYTHON:-python3} is not. Install it (Debian 12:" \
        "apt-get install python3), or name one: make run PYTHON=/path/to/python3.11"
}

# venv without pip ends in ensurepip's failure; what it began is removed.
plain_venv() { "$python" -m venv --clear .venv >/dev/null 2>&1 || { rm -rf .venv; return 1; }; }

venv_with_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    say "Installing $version-venv with apt-get …"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "$version-venv"; } >/dev/null && plain_venv
}

venv_with_system_pip() {
    "$python" -m pip --version >/dev/null 2>&1 || return 1
    "$python" -m venv --without-pip --clear .venv && "$python" -m pip --python .venv/bin/python install -q pip
}

venv_with_debians_wheel() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    unpacked=$(mktemp -d)
    wheels=$unpacked/usr/share/python-wheels
    status=0
    { (cd "$unpacked" && apt-get download -qq python3-pip-whl && dpkg -x python3-pip-whl_*.deb .) >/dev/null 2>&1 &&
        "$python" -m venv --without-pip --clear .venv &&
        .venv/bin/python "$(ls "$wheels"/pip-*.whl)/pip" install -q --no-index --find-links "$wheels" pip
    } || status=1
    rm -rf "$unpacked"
    return "$status"
}

make_venv() {
    .venv/bin/python -m pip --version >/dev/null 2>&1 && return
    python=$(find_python)
    say "Making .venv with $("$python" -V) …"
    plain_venv || venv_with_apt || venv_with_system_pip || venv_with_debians_wheel ||
        fail "Python's venv module has no pip. As root: apt-get install python3-venv. Then start again."
}

install_packages() {
    lock=$(lock_file "$kind")
    say "Installing $(grep -c '^[a-z].*==' "$lock") packages into .venv (once) …"
    set -- --quiet --disable-pip-version-check --no-input
    .venv/bin/python -m pip install "$@" --requirement "$lock"
    .venv/bin/python -m pip install "$@" --no-deps --no-build-isolation --editable .
    [ "$kind" = dev ] && kinds='run demo dev' || kinds=$kind
    for each in $kinds; do
        fingerprint "$each" >".venv/.ready-$each"
    done
}

is_ready "$kind" && exit
if [ -z "${BOOTSTRAP_LOCKED:-}" ]; then
    python=$(find_python)
    mkdir -p .cache
    # One at a time: the lock is a file held open by this process from here to its end.
    exec env BOOTSTRAP_LOCKED=1 "$python" -c 'import fcntl, os, sys
lock = os.open(".cache/bootstrap.lock", os.O_CREAT | os.O_WRONLY)
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock, True)
os.execvp("sh", ["sh", *sys.argv[1:]])' scripts/bootstrap.sh "$kind"
fi
make_venv
install_packages
