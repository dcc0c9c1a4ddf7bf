# shellcheck shell=bash
# Sourced by the other scripts: a virtual environment in .venv/ with the packages of requirements.txt, made once and reused.
# Sets ROOT (the repository), HERE (where the caller is) and PYTHON, and goes to ROOT. Where Python is not 3.10 or newer, set PYTHON3 to one that is.
export HERE="$PWD"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT" || exit 1
PYTHON="$ROOT/.venv/bin/python"
stamp="$ROOT/.venv/requirements.sha256"
base="${PYTHON3:-$(command -v python3.11 || command -v python3 || true)}"

# Made new, too, if making it was cut short: then there is a python, but no pip and no stamp.
if [ ! -x "$PYTHON" ] || { [ ! -f "$stamp" ] && ! "$PYTHON" -m pip --version >/dev/null 2>&1; }; then
    if [ -z "$base" ] || ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "error: Python 3.10 or newer is needed (found: ${base:-none}): install it, or set PYTHON3 to its path" >&2
        exit 1
    fi
    echo "Creating the virtual environment .venv/ with $("$base" --version)"
    "$base" -m venv --clear "$ROOT/.venv" || exit 1
fi
wanted="$("$PYTHON" -c 'import hashlib, sys; print(hashlib.sha256(open("requirements.txt", "rb").read()).hexdigest())')"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing requirements.txt into .venv/ (torch is large: this can take some minutes)"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt || exit 1
    echo "$wanted" > "$stamp"
fi
# The deprecation of pkg_resources, which clip imports, is not the user's business.
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore::UserWarning:clip.clip}"
