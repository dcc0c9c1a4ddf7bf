# shellcheck shell=bash disable=SC2034
# Sourced by base2new_train.sh and base2new_test.sh: arguments, folders and the call of train.py that they share.
usage="usage: $(basename "$0") DATASET TRAINER CFG SEED [KEY VALUE ...]
  DATASET   stem of a file in configs/datasets, e.g. openmoji      TRAINER  e.g. CoOp, CraftCoOp, ZeroshotCLIP
  CFG       stem of a file in configs/trainers/TRAINER             SEED     e.g. 1
environment: DATA (data sets, default data), SHOTS (default 16), OUTPUT (default output), LOADEP (epoch to test, default the last),
  TARGET (test only: another data set to test on, default DATASET)"
if [ $# -lt 4 ]; then
    echo "$usage" >&2
    exit 2
fi
# shellcheck source=scripts/setup_env.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
DATASET=$1 TRAINER=$2 CFG=$3 SEED=$4
shift 4
DATA=$(if [ -n "${DATA:-}" ]; then absolute "$DATA"; else echo "$ROOT/data"; fi)
OUTPUT=$(if [ -n "${OUTPUT:-}" ]; then absolute "$OUTPUT"; else echo "$ROOT/output"; fi)
SHOTS=${SHOTS:-16}
TRAINED="$OUTPUT/base2new/train_base/$DATASET/shots_$SHOTS/$TRAINER/$CFG/seed$SEED"

# run DATASET SUBSET FOLDER FLAGS-AND-OPTIONS...
run() {
    local dataset=$1 subset=$2 folder=$3
    shift 3
    "$PYTHON" train.py --root "$DATA" --seed "$SEED" --trainer "$TRAINER" --skip-done --output-dir "$folder" \
        --dataset-config-file "configs/datasets/$dataset.yaml" --config-file "configs/trainers/$TRAINER/$CFG.yaml" \
        "$@" DATASET.NUM_SHOTS "$SHOTS" DATASET.SUBSAMPLE_CLASSES "$subset"
}
