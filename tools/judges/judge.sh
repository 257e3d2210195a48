#!/usr/bin/env bash
# Foreign runtimes on the demo's files: quantizes the built-in checkpoint, checks both files against
# the published schema, and has onert and LiteRT execute them against our own outputs.
# usage: judge.sh [--binary target/release/encircle] [--venvs target/judges] [QUANTIZE ARGUMENT …]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
binary="${CARGO_TARGET_DIR:-$root/target}/release/encircle"
venvs="$root/target/judges"
while [ $# -gt 0 ]; do
    case "$1" in
        --binary) binary="$2"; shift 2 ;;
        --venvs) venvs="$2"; shift 2 ;;
        *) break ;;
    esac
done

"$here/setup.sh" "$venvs"
python="$venvs/main/bin/python"
"$python" "$here/selftest.py" --venvs "$venvs"

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
mkdir "$out/io"
"$binary" quantize -o "$out" --io "$out/io" --json "$@" >"$out/report.json"

failed=0
# expect TITLE COMMAND…: runs it, remembers a failure, goes on
expect() {
    printf '== %s\n' "$1"
    shift
    "$@" || { failed=1; printf 'FAILED\n'; }
}
compare() { "$python" "$here/compare.py" "$@" --venvs "$venvs"; }

expect "schema" "$python" "$here/schema_check.py" "$out/model.circle" "$out/model.q.circle"
expect "float file against our executor" compare "$out/model.circle" "$out/io"
"$python" "$here/qdq.py" "$out/model.q.circle" "$out/qdq.circle"
if [ -e "$out/io/quant0.npy" ]; then
    # roundings that fall on a tie may differ by a step, and steps travel through the network
    expect "quantized file against our fake quantization" compare "$out/qdq.circle" "$out/io" \
        --prefix quant --tolerance 0.05 --only "onert 0.2 dev" "LiteRT reference"
fi
exit "$failed"
