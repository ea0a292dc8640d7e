# shellcheck shell=bash
# Sourced by the other scripts: makes the virtual environment .venv beside the README and installs
# into it what is asked for, once. PYTHON=... chooses the interpreter, VENV=... the folder.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

fail() {
    echo "$0: $1" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local name
    for name in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    fail "Python 3.11 or newer is needed; install it, or name it: PYTHON=/path/to/python3 $0"
}

make_venv() {
    if [ ! -x "$VENV/bin/python" ] || ! new_enough "$VENV/bin/python"; then
        local python
        python="$(find_python)"
        echo "making the virtual environment $VENV" >&2
        "$python" -m venv --clear "$VENV" ||
            fail "cannot make a virtual environment (Debian and Ubuntu: apt install python3-venv)"
    fi
}

# install STAMP ARGUMENT...: pip install, unless it was done since pyproject.toml last changed.
install() {
    local stamp="$VENV/.mynah-$1"
    shift
    if [ ! -f "$stamp" ] || [ "$ROOT/pyproject.toml" -nt "$stamp" ]; then
        echo "installing: $*" >&2
        pip_install "$@" || without_kernels "$@" || fail "installing failed; the lines above say why"
        touch "$stamp"
    fi
    build_kernels
}

pip_install() {
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
}

# A machine may have no C compiler, and a package index no ziglang.
without_kernels() {
    [ "${MYNAH_NATIVE:-}" = "" ] || return 1
    echo "trying again without compiled kernels (MYNAH_NATIVE=0)" >&2
    MYNAH_NATIVE=0 pip_install "$@"
}

# Compile native/ again where it changed. Without a compiler pip fetches one; tried once a change.
build_kernels() {
    local tried="$VENV/.mynah-kernels" status=0
    "$VENV/bin/python" "$ROOT/native/build.py" --if-changed >&2 || status=$?
    [ "$status" = 0 ] || [ "$status" = 3 ] || fail "native/ cannot be compiled"
    if [ "$status" = 3 ] && { [ ! -f "$tried" ] || [ "$ROOT/native" -nt "$tried" ] ||
        [ -n "$(find "$ROOT/native" -newer "$tried")" ]; }; then
        pip_install --no-deps -e "$ROOT" || echo "going on without compiled kernels" >&2
        touch "$tried"
    fi
}
