#!/usr/bin/env bash
# A short run learns to count: bits per byte that no untrained model has, and a continuation by the model itself.
# Usage: learn_test.sh TRAIN_LM GENERATE MODEL
set -euo pipefail
train_lm=$1 generate=$2 model=$3
case $model in
  flash) model_options='{"dim": 64, "depth": 2, "group_size": 32, "query_key_dim": 32}' ;;
  gpt) model_options='{"dim": 64, "depth": 2, "heads": 2, "attn_dim_head": 32}' ;;
  *) echo "no options for the model $model"; exit 1 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seq 10000 99999 >"$work/text"
"$train_lm" --out "$work/run" --data "$work/text" --model "$model" --model-options "$model_options" --seq-len 96 --batch 8 \
  --steps 150 --warmup 20 --lr 4e-3 --valid-every 1000 --sample-length 0 --valid-fraction 0.02 >"$work/out" 2>"$work/err" ||
  { cat "$work/err"; exit 1; }
cat "$work/out"
awk '/^validation:/ { bits = $2 } END { exit !(bits > 0 && bits < 1) }' "$work/out" || { echo "no good: above 1 bit per byte"; exit 1; }

lines=$("$generate" "$work/run" --prompt $'41237\n41238\n41239\n' --length 36 --temperature 0)
echo "$lines" | tail -n +4 | head -n 6 | grep -cxE '[0-9]{5}' | grep -qx 6 || { echo "no numbers: $lines"; exit 1; }
