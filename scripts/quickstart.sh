#!/usr/bin/env bash
# Everything once, on a laptop: environment, bundled benchmark, base-to-novel with three seeds, table and picture.
#   bash scripts/quickstart.sh [STRUCTURE ...]     default: CoOp; also CoCoOp, VPT, IVLP, MaPLe, PromptSRC
# Each structure is run as it is and with CRAFT, beside zero-shot CLIP. Runs that are complete are not repeated, so it can be
# stopped and started again.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
structures=("$@")
[ $# -eq 0 ] && structures=(CoOp)
trainers=(ZeroshotCLIP)
for structure in "${structures[@]}"; do
    if [ ! -f "configs/trainers/Craft$structure/openmoji.yaml" ]; then
        echo "error: unknown structure '$structure': there are CoOp, CoCoOp, VPT, IVLP, MaPLe, PromptSRC" >&2
        exit 2
    fi
    trainers+=("$structure" "Craft$structure")
done
[ -n "${DATA:-}" ] && DATA=$(absolute "$DATA")
[ -n "${OUTPUT:-}" ] && OUTPUT=$(absolute "$OUTPUT")
export SHOTS=${SHOTS:-8} DATA=${DATA:-$ROOT/data} OUTPUT=${OUTPUT:-$ROOT/output}
"$PYTHON" -m datasets.prepare openmoji --root "$DATA"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# step SCRIPT TARGET: one script of the protocol. Progress and errors are on stderr; of the rest, which log.txt has too, only results are shown.
step() {
    TARGET=$2 bash "scripts/$1" openmoji "$trainer" openmoji "$seed" >"$log"
    grep -E '^(\* accuracy|Done already)' "$log" | sed 's/^\* /  /'
}
for trainer in "${trainers[@]}"; do
    seeds=(1 2 3)
    [ "$trainer" = ZeroshotCLIP ] && seeds=(1)  # nothing is drawn
    for seed in "${seeds[@]}"; do
        echo "== $trainer, seed $seed: base, new, then line drawings of both"
        step base2new_train.sh openmoji
        step base2new_test.sh openmoji
        step base2new_test.sh openmoji_line
    done
done
"$PYTHON" -m tools.results base2new "$OUTPUT/base2new" --shots "$SHOTS" --out "$OUTPUT/base2new" --plot "$OUTPUT/base2new.png"
