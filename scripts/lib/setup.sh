# Shared by quickstart, test and .ci/run: system packages, the virtual environment, the installed package.
# Sourced by bash scripts that set -euo pipefail and stand in the root of the repository.

say() { printf '\n==> %s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# install_packages NAME...: apt packages, installed as root or through sudo.
install_packages() {
  command -v apt-get >/dev/null || die "cannot install $*: no apt-get here; install the equivalents by hand"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "missing packages: run 'apt-get install $*' as root, then run this again"
    as_root=(sudo)
    sudo -n true 2>/dev/null || [ -t 0 ] ||
      die "missing packages, and sudo would ask for a password: run 'sudo apt-get install $*', then run this again"
  fi
  say "Installing $*"
  # A package list that is stale in part still serves; if it does not, the installation says so.
  "${as_root[@]}" apt-get update -qq </dev/null || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null \
    >/dev/null || die "apt-get could not install $*"
}

# find_python: sets PYTHON to a Python of at least 3.11.
find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON=$candidate
      return
    fi
  done
  die "no Python 3.11 or newer found (set PYTHON to name one)"
}

# What building the package takes: a C++ compiler, Python's headers, and the means to make a virtual environment.
install_build_requirements() {
  find_python
  local missing=() version
  command -v "${CXX:-c++}" >/dev/null || missing+=(g++)
  # The distribution's own Python keeps these in packages of their own; any other has them.
  version=$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  "$PYTHON" -c 'import ensurepip' 2>/dev/null || missing+=("$version-venv")
  "$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    missing+=("$version-dev")
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# make_environment DIR: a virtual environment with pip.
make_environment() {
  if ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Making the virtual environment $1"
    rm -rf "$1"
    "$PYTHON" -m venv "$1"
  fi
}

# pip_install ENVIRONMENT ARGUMENT...: quiet but for errors.
pip_install() {
  local environment=$1
  shift
  "$environment/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "$@" </dev/null
}

# is_current STAMP: whether nothing that the installed package is made of changed since STAMP was written.
is_current() {
  [ -f "$1" ] && [ -z "$(find pyproject.toml CMakeLists.txt cpp python -name __pycache__ -prune -o -type f -newer "$1" -print -quit)" ]
}
