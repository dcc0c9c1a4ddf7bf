# shellcheck shell=bash disable=SC2034
# Sourced by the scripts of all protocols: arguments, folders and the call of train.py that they share.
# A script may set `more` (further lines of the usage) and `needs_target` first.
usage="usage: $(basename "$0") DATASET TRAINER CFG SEED [KEY VALUE ...]
  DATASET   stem of a file in configs/datasets, e.g. openmoji      TRAINER  e.g. CoOp, CraftCoOp, ZeroshotCLIP
  CFG       stem of a file in configs/trainers/TRAINER             SEED     e.g. 1
environment: DATA (data sets, default data), SHOTS (a number or all, default ${shots:=16}${shots_more:-}), OUTPUT (default output), LOADEP (epoch to test, default the last)${more:+
  $more}"
if [ $# -lt 4 ] || [ -n "${needs_target:-}" ] && [ -z "${TARGET:-}" ]; then
    echo "$usage" >&2
    exit 2
fi
# shellcheck source=scripts/setup_env.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
DATASET=$1 TRAINER=$2 CFG=$3 SEED=$4
shift 4
DATA=$(if [ -n "${DATA:-}" ]; then absolute "$DATA"; else echo "$ROOT/data"; fi)
OUTPUT=$(if [ -n "${OUTPUT:-}" ]; then absolute "$OUTPUT"; else echo "$ROOT/output"; fi)
SHOTS=${SHOTS:-$shots}
words=("$SHOTS")
[ -n "${shots_more:-}" ] && read -ra words <<<"$SHOTS"
for word in "${words[@]:- }"; do
    case "$word" in
        all | -1) ;;
        0* | *[!0-9]* | "") echo "error: SHOTS is '$word': write a number from 1, or all" >&2 && exit 2 ;;
    esac
done
[ "$SHOTS" = all ] && SHOTS=-1
SHOTS_NAME=$SHOTS
[ "$SHOTS" = -1 ] && SHOTS_NAME=all
if [ $(($# % 2)) -eq 1 ]; then
    echo "error: the options $* are not KEY VALUE pairs: '${*: -1}' lacks its partner" >&2
    exit 2
fi
for ((place = 1; place <= $#; place += 2)); do
    case "${!place}" in
        SEED | TRAINER.NAME | DATASET.NAME | DATASET.NUM_SHOTS | DATASET.SUBSAMPLE_CLASSES | DATASET.ROOT | OUTPUT_DIR | RESUME | EVAL_ONLY)
            echo "error: ${!place} cannot be given as an option: it follows from the script, its arguments and environment" >&2
            exit 2
            ;;
    esac
done
CELL="shots_$SHOTS_NAME/$TRAINER/$CFG/seed$SEED"

# run DATASET SUBSET FOLDER FLAGS-AND-OPTIONS...: train.py, unless this very run is complete in FOLDER
run() {
    local dataset=$1 subset=$2 folder=$3
    shift 3
    "$PYTHON" train.py --root "$DATA" --seed "$SEED" --trainer "$TRAINER" --skip-done --output-dir "$folder" \
        --dataset-config-file "configs/datasets/$dataset.yaml" --config-file "configs/trainers/$TRAINER/$CFG.yaml" \
        "$@" DATASET.NUM_SHOTS "$SHOTS" DATASET.SUBSAMPLE_CLASSES "$subset"
}

# train DATASET SUBSET FOLDER OPTIONS...: a run that trains, and tests itself; what learns nothing is only tested
train() {
    local flags=()
    [[ "$TRAINER" == ZeroshotCLIP* ]] && flags=(--eval-only)
    run "$1" "$2" "$3" ${flags[@]+"${flags[@]}"} "${@:4}"
}

# trained FOLDER SCRIPT: sets `flags` so that `run` tests the model of a finished run
trained() {
    flags=(--eval-only)
    [[ "$TRAINER" == ZeroshotCLIP* ]] && return
    local epoch ask='import pathlib, sys; from tools.launchers import final_model as ask; found = ask(pathlib.Path(sys.argv[1])); print(found["epoch"] or "")'
    if ! epoch=$("$PYTHON" -c "$ask" "$1" 2>/dev/null); then
        echo "error: '$1' holds no finished run: train it first with scripts/$2 $DATASET $TRAINER $CFG $SEED" >&2
        exit 2
    fi
    epoch=${LOADEP:-$epoch}
    flags+=(--model-dir "$1")
    [ -n "$epoch" ] && flags+=(--load-epoch "$epoch")
    return 0
}

# name_of VARIABLE: the registered name in the config of the data set that the variable holds; its failure is heard in an assignment only
name_of() {
    local file="configs/datasets/${!1}.yaml"
    if [ ! -f "$file" ]; then
        echo "error: $1 is '${!1}', but there is no $file: name one of the files there" >&2
        return 2
    fi
    local name
    name=$(sed -n 's/^  NAME: *["'"'"']\{0,1\}\([^"'"'"' #]*\)["'"'"']\{0,1\} *\(#.*\)\{0,1\}$/\1/p' "$file")
    if [ -z "$name" ]; then
        echo "error: $file has no line '  NAME: ...': write it there, not in what BASE names" >&2
        return 2
    fi
    echo "$name"
}
