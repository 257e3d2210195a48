#!/usr/bin/env bash
# Foreign runtimes on the demo's files: quantizes the built-in checkpoint, checks the files against
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
"$python" "$here/selftest.py" --binary "$binary" --venvs "$venvs"

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
mkdir "$out/io"
"$binary" quantize -o "$out" --io "$out/io" --io-samples 6 --stages --json "$@" >"$out/report.json"

failed=0
# expect TITLE COMMAND…: runs it, remembers a failure, goes on
expect() {
    printf '== %s\n' "$1"
    shift
    "$@" || { failed=1; printf 'FAILED\n'; }
}
compare() { "$python" "$here/compare.py" "$@" --venvs "$venvs"; }
# inputs FOLDER COUNT: its arrays as arguments of `run`
inputs() {
    for i in $(seq 0 $(($2 - 1))); do printf -- '--input %s=%s/in%s.npy ' "$i" "$1" "$i"; done
}
# edges TITLE FILE INPUTS RUNTIME…: every operator of an integer file, on operands of ours
edges() {
    local title="$1" file="$2" given="$3" edges="$out/edges"
    shift 3
    rm -rf "$edges"
    # shellcheck disable=SC2086  # a list of arguments
    "$binary" run "$file" $given --integer --edges "$edges" -o "$edges/own" >/dev/null
    expect "$title" compare "$edges/edges.circle" "$edges" --steps 1 --only "$@"
}

expect "the table of operators" "$python" "$here/ops.py" "$root/docs/runtimes.md" --venvs "$venvs" --check
expect "schema" "$python" "$here/schema_check.py" "$out/model.circle" "$out/model.q.circle"
expect "float file against our executor" compare "$out/model.circle" "$out/io" --tolerance 1e-5
"$binary" quantize "$root/assets/pixie" --calib "$root/assets/vqa/train.jsonl" --seq-len 40 \
    --preset npu -o "$out/theirs" --json >/dev/null
"$python" "$here/golden_case.py" "$root/tests/data/golden" "$out/theirs/io"
expect "float file against Hugging Face" compare "$out/theirs/model.circle" "$out/theirs/io" \
    --tolerance 1e-5
expect "float stages against our executor" \
    "$python" "$here/stages.py" "$out/stages" --binary "$binary" --venvs "$venvs"

demo="$(inputs "$out/io" 2)"
"$binary" export "$out/model.q.circle" --qdq -o "$out/qdq.circle" >/dev/null
# shellcheck disable=SC2086  # a list of arguments
"$binary" run "$out/qdq.circle" $demo -o "$out/qdq" >/dev/null
cp "$out"/io/in*.npy "$out/qdq"
# Roundings that fall on a tie may differ by a step, and steps travel through the network.
expect "quantized file in float against our executor" compare "$out/qdq.circle" "$out/qdq" \
    --tolerance 0.05 --only "onert 0.2 dev" "LiteRT reference"
edges "int16 edges against our integers" "$out/model.q.circle" "$demo" \
    "onert 0.2 dev" "LiteRT reference"
"$binary" quantize --preset w8a8 -o "$out/w8a8" --json >/dev/null
edges "uint8 edges against our integers" "$out/w8a8/model.q.circle" "$demo" \
    "onert 0.1.0" "onert 0.2 dev" "LiteRT reference"
mkdir "$out/peer"
"$python" -c 'import sys, numpy as np
np.save(sys.argv[1], np.random.default_rng(3).standard_normal((3, 8)).astype(np.float32))' \
    "$out/peer/in0.npy"
edges "edges of a file of TICO against our integers" "$root/tests/data/circle/linear.q.circle" \
    "$(inputs "$out/peer" 1)" "onert 0.1.0" "onert 0.2 dev" "LiteRT reference"
expect "native integers" "$python" "$here/native.py" "$out" --binary "$binary" --venvs "$venvs"
exit "$failed"
