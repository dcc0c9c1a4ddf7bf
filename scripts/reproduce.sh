#!/usr/bin/env bash
# A table of the paper, or the whole bundled study: everything that is missing is run, then tables and the report page are made.
#   bash scripts/reproduce.sh TABLE [options of tools.sweep, KEY VALUE ...]
#   TABLE: openmoji (the bundled study, on a laptop), openmoji_ablation, or base2new, xd, few_shot, ablation, ood, groups (with the data sets under DATA)
# Environment: DATA (default data), OUTPUT (default output). Stop it whenever you like: the same command goes on.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
plan="configs/sweeps/${1:-}.yaml"
if [ $# -eq 0 ] || [ ! -f "$plan" ]; then
    echo "usage: reproduce.sh TABLE [options of tools.sweep, KEY VALUE ...]; there are $(cd configs/sweeps && echo -- *.yaml | sed 's/^-- //; s/\.yaml//g')" >&2
    exit 2
fi
name=$1
shift
DATA=${DATA:-$ROOT/data} OUTPUT=${OUTPUT:-$ROOT/output} list='' detach=''
launch=(--launch local) more=()
while [ $# -gt 0 ]; do
    case "$1" in
        --root=* | --output=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    case "$1" in
        --root | --output)
            if [ -z "${2:-}" ]; then
                echo "error: $1 lacks its folder: write it behind" >&2
                exit 2
            fi
            if [ "$1" = --root ]; then DATA=$2; else OUTPUT=$2; fi
            shift 2
            continue
            ;;
        --list | --help | -h) list=yes ;;
        --detach) detach=yes ;;
        --launch | --launch=*) launch=() ;;
    esac
    more+=("$1")
    shift
done
DATA=$(absolute "$DATA") OUTPUT=$(absolute "$OUTPUT")
sweep=("$PYTHON" -m tools.sweep "$plan" ${launch[@]+"${launch[@]}"} --root "$DATA" --output "$OUTPUT" ${more[@]+"${more[@]}"})
[ -z "$list" ] || exec "${sweep[@]}"
bundled=()
case "$name" in
    openmoji) bundled=(openmoji icons openmoji-groups) ;;
    openmoji_*) bundled=(openmoji) ;;
esac
for set in ${bundled[@]+"${bundled[@]}"}; do "$PYTHON" -m datasets.prepare "$set" --root "$DATA"; done
code=0
"${sweep[@]}" || code=$?
# Jobs that failed (1) leave the tables of all others; with --detach there is nothing yet.
if [ "$code" -gt 1 ] || [ -n "$detach" ]; then exit "$code"; fi

# Pictures of the paper from the runs of seed 1, as far as this plan has them.
figures=()
draw() {
    local kind=$1 run
    shift
    for run in "$@"; do
        case "$run" in "$OUTPUT"/*) [ -f "$run/results.json" ] || return 0 ;; esac
    done
    if "$PYTHON" -m tools.figures "$kind" "$@" --root "$DATA" --out "$OUTPUT/figures/$kind"; then figures+=("$OUTPUT/figures/$kind.png"); fi
}
ood="$OUTPUT/ood/train/openmoji_to_openmoji_line/shots_8"
draw tsne "$ood/MaPLe/openmoji/seed1" "$ood/CraftMaPLe/openmoji/seed1" --classes 3
draw channels "$ood/MaPLe/openmoji/seed1" "$ood/CraftMaPLe/openmoji/seed1" "$ood/CraftMaPLe/openmoji_mmd/seed1" --target OpenMojiLine
draw predictions "$ood/CoOp/openmoji/seed1" "$ood/CraftCoOp/openmoji/seed1" --target OpenMojiLine
if [ -d "$OUTPUT/ablation" ]; then draw ablation "$OUTPUT"; fi
for protocol in base2new xd dg ood group few_shot ablation; do
    said=$("$PYTHON" -m tools.results "$protocol" "$OUTPUT" --out "$OUTPUT/tables/$protocol" 2>&1 >/dev/null) && continue
    case "$said" in *"no results.json of"*) ;; *) echo "$said" >&2 ;; esac # what was not run has no table
done
"$PYTHON" -m tools.report "$OUTPUT" --out "$OUTPUT/report.html" --figures ${figures[@]+"${figures[@]}"} || [ "$code" -ne 0 ]
echo "tables: $OUTPUT/tables"
exit "$code"
