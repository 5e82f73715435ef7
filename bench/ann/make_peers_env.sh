#!/bin/sh
# Make the environment of the engines that `pergamon bench ann` compares with: make_peers_env.sh DIR [PYTHON]
set -eu
[ $# -ge 1 ] || { echo "usage: $0 DIR [PYTHON]" >&2; exit 2; }
"${2:-python3}" -m venv "$1"
"$1/bin/python" -m pip --disable-pip-version-check --quiet install -r "$(dirname "$0")/peers/requirements.txt"
echo "$1/bin/python"
