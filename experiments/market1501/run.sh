#!/usr/bin/env bash
# The Market-1501 study, stage by stage; every stage goes on from what an earlier call left.
#
#   run.sh generator [--minutes 25]     train the generators that the cells need
#   run.sh generate  [--minutes 25]     draw the cells' images
#   run.sh cells     [--minutes 120]    filter, train re-ID, evaluate; cells in results.jsonl are not run again
#   run.sh quality NAME                 score a generator, inpaint: and its name, warp or copies on 400 of the published
#                                       test pairs, drawn once
#   run.sh report                       table, plots and configuration into the folder RECORD here
#   run.sh pack NAME DIR                a generator in half precision, in parts of 15 MB
#   run.sh unpack DIR                   put all that were packed there back, to be used in their place
#
# DATA     Market-1501 folder with its key points          RUNS  folder of the runs (images stay there)
# TIER     cpu (by default) or gpu: configs/study/market1501_TIER.yaml
# WEIGHTS  re-ID weights of another data set, osnet_x0_25_msmt17.pth
# RECORD   folder here for what is kept of the runs, cpu or gpu as the tier by default
# Further arguments go to reid-aug, such as --set 'seeds=[0]'.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${DATA:=data/market}" "${RUNS:=runs/market1501}" "${TIER:=cpu}" "${WEIGHTS:=osnet_x0_25_msmt17.pth}"
record=$here/${RECORD:-$TIER}
stage=${1:?"give a stage: generator, generate, cells, quality, report, pack or unpack"}
shift

sweep() {
  python3 -m reid_aug sweep "$here/../../configs/study/market1501_$TIER.yaml" --data "$DATA" --out "$RUNS" \
    --set reid.model.weights="$WEIGHTS" "$@"
}

case $stage in
  generator) sweep --until generators "$@" ;;
  generate) sweep --until images "$@" ;;
  cells) sweep "$@" ;;
  quality)
    pairs=$DATA/market-pairs-test.csv
    mkdir -p "$RUNS"
    { head -n 1 "$pairs"; tail -n +2 "$pairs" | shuf -n 400 --random-source=<(yes); } > "$RUNS/pairs-400.csv"
    generator=$1 name=${1#inpaint:}
    [ -d "$RUNS/generators/$name" ] && generator=${1%"$name"}$RUNS/generators/$name
    mkdir -p "$record"
    python3 -m reid_aug evaluate generator "$generator" --data "$DATA" --pairs "$RUNS/pairs-400.csv" \
      --out "$record/generators.jsonl" "${@:2}"
    ;;
  report)
    python3 -m reid_aug report "$RUNS" --data "$DATA" "$@"
    mkdir -p "$record"
    cp "$RUNS"/{results.jsonl,results.md,stages.json} "$RUNS"/curves-*.png "$record/"
    sed -E "s|( weights: ).*/|\1|" "$RUNS/study.yaml" > "$record/study.yaml"  # the file, not where it lay here
    ;;
  pack)
    if [ -e "$RUNS/generators/$1/checkpoint.pt" ]; then
      echo "$RUNS/generators/$1: not trained to the end; run the stage generator again first" >&2
      exit 2
    fi
    mkdir -p "$2"
    half=$(mktemp -d)
    python3 - "$RUNS/generators/$1" "$half/$1" <<'PYTHON'
import sys
import torch
import reid_aug
from reid_aug.config import GeneratorConfig, load_config, save_config

trained, half = sys.argv[1:]
pipe = reid_aug.load_generator(trained)
pipe.denoiser.to(torch.float16)
pipe.save_pretrained(half)
save_config(load_config(GeneratorConfig, f"{trained}/train_config.yaml"), f"{half}/train_config.yaml")
PYTHON
    cp "$RUNS/generators/$1/train_data.json" "$half/$1/"
    rm -f "$2/$1".tar.*  # of an earlier call, perhaps more
    tar -C "$half" -c "$1" | split -b 15MB - "$2/$1.tar."
    (cd "$2" && sha256sum "$1".tar.* > "$1.sha256")
    rm -r "$half"
    ;;
  unpack)
    (cd "$1" && sha256sum --check --quiet ./*.sha256)
    mkdir -p "$RUNS/generators"
    for sums in "$1"/*.sha256; do
      cat "${sums%.sha256}".tar.* | tar -C "$RUNS/generators" -x
    done
    ;;
  *) echo "$stage: no such stage; give generator, generate, cells, quality, report, pack or unpack" >&2; exit 2 ;;
esac
