#!/usr/bin/env bash
# Everything once, on a laptop: environment, bundled benchmark, base-to-novel with three seeds, table and picture.
#   bash scripts/quickstart.sh [TRAINER ...]       default: CoOp CraftCoOp (ZeroshotCLIP is always run)
# Runs that are complete are not repeated, so it can be stopped and started again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
trainers=("$@")
[ $# -eq 0 ] && trainers=(CoOp CraftCoOp)
export SHOTS=${SHOTS:-8} DATA=${DATA:-$ROOT/data} OUTPUT=${OUTPUT:-$ROOT/output}
"$PYTHON" -m datasets.prepare openmoji --root "$DATA"
for trainer in ZeroshotCLIP "${trainers[@]}"; do
    seeds=(1 2 3)
    [ "$trainer" = ZeroshotCLIP ] && seeds=(1)  # nothing is drawn
    for seed in "${seeds[@]}"; do
        echo "== $trainer, seed $seed"
        for part in train test; do
            bash scripts/base2new_$part.sh openmoji "$trainer" openmoji "$seed" | grep --line-buffered -E '^(\* accuracy|Evaluate|Done|error)|epoch \[[0-9]*0/.*batch' || [ "${PIPESTATUS[0]}" -eq 0 ]
        done
        TARGET=openmoji_line bash scripts/base2new_test.sh openmoji "$trainer" openmoji "$seed" | grep -E '^(\* accuracy|Done|error)' || [ "${PIPESTATUS[0]}" -eq 0 ]
    done
done
"$PYTHON" -m tools.results base2new "$OUTPUT/base2new" --shots "$SHOTS" --out "$OUTPUT/base2new" --plot "$OUTPUT/base2new.png"
