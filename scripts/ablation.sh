#!/usr/bin/env bash
# Ablation of CRAFT, base-to-novel: STRUCTURE as it is, with each term, and with both. Give the structure as TRAINER (CoOp, VPT,
# MaPLe, PromptSRC); every variant has its own folder below OUTPUT/ablation.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
if [ $# -lt 4 ]; then
    bash "$here/base2new_train.sh" "$@"  # explains the arguments
fi
output=${OUTPUT:-output} dataset=$1 structure=$2
shift 2
# variant NAME TRAINER OPTIONS...
variant() {
    local name=$1 trainer=$2
    shift 2
    for part in train test; do
        OUTPUT="$output/ablation/$name" bash "$here/base2new_$part.sh" "$dataset" "$trainer" "$@"
    done
}
static=TRAINER.CRAFT.LAMBDA_STATIC stochastic=TRAINER.CRAFT.LAMBDA_STOCHASTIC
variant baseline "$structure" "$@"
variant static "Craft$structure" "$@" $stochastic 0.0
variant stochastic "Craft$structure" "$@" $static 0.0
variant both "Craft$structure" "$@"
