#!/usr/bin/env bash
# Installs the runtimes that judge our files into two virtual environments: `main` (onert 0.1.0,
# LiteRT, the schema binding) and `dev` (the newest onert pre-release). Reuse takes no time.
# usage: setup.sh [DIR]     (default: target/judges of this repository)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
dir="${1:-$root/target/judges}"
shared="numpy==2.2.* circle-schema==0.10.1 flatbuffers>=25.2"
main="$shared onert==0.1.0 ai-edge-litert==2.3.0"
dev="$shared onert==0.2.0.dev250922"

# make NAME REQUIREMENTS: a venv that holds exactly these, unless its stamp says it already does
make() {
    local venv="$dir/$1" want="$2"
    if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$want" ]; then return; fi
    rm -rf "$venv"
    python3 -m venv "$venv"
    # shellcheck disable=SC2086  # a list of requirements
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check $want
    printf '%s\n' "$want" >"$venv/.stamp"
}

mkdir -p "$dir"
make main "$main"
make dev "$dev"
printf '%s\n' "$dir"
