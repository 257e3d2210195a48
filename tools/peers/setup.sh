#!/usr/bin/env bash
# Installs the peer, TICO, with torch and transformers into a virtual environment: minutes, 6 GB.
# Only benchmarks need it. usage: setup.sh [DIR]     (default: target/peers of this repository)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
dir="${1:-$root/target/peers}"
want="torch==2.12.* transformers==4.57.3 tico==0.3.0 safetensors numpy"
if [ "$(cat "$dir/.stamp" 2>/dev/null)" != "$want" ]; then
    rm -rf "$dir"
    python3 -m venv "$dir"
    # shellcheck disable=SC2086  # a list of requirements
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check $want
    printf '%s\n' "$want" >"$dir/.stamp"
fi
printf '%s\n' "$dir"
