#!/usr/bin/env bash
# A run that is killed again and again (SIGKILL, at moments of no one's choosing) and resumed ends with the same bits as one
# that was left alone: weights, optimiser, and every line of metrics.jsonl but its timings. Usage: resume_test.sh TRAIN_LM MODEL [OPTION...]
set -euo pipefail
train_lm=$1 model=$2
case $model in  # with dropout, so that the generator's place counts too
  flash) model_options='{"dim": 32, "depth": 2, "group_size": 16, "query_key_dim": 16, "attn_dropout": 0.1}' ;;
  gpt) model_options='{"dim": 32, "depth": 2, "heads": 2, "attn_dim_head": 16, "attn_dropout": 0.1, "ff_dropout": 0.1}' ;;
  *) echo "no options for the model $model"; exit 1 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seq 1 20000 >"$work/text"
steps=240
options=(--data "$work/text" --steps $steps --seq-len 48 --batch 2 --valid-every 40 --valid-windows 8 --log-every 4
  --save-every 20 --sample-every 0 --sample-length 0 --seed 3
  --model "$model" --model-options "$model_options" "${@:3}")

run() { "$train_lm" --out "$1" "${@:2}" >"$work/out" 2>"$work/err" || { cat "$work/err"; exit 1; }; }

run "$work/whole" "${options[@]}" --threads 1

kills=0
"$train_lm" --out "$work/killed" "${options[@]}" --threads 2 >/dev/null 2>&1 &
for lines in 3 11 17 30 47 58; do
  # Wait until so many lines are written (or the run has ended), then a little more, then kill.
  while kill -0 $! 2>/dev/null && [ "$(cat "$work/killed/metrics.jsonl" 2>/dev/null | wc -l)" -lt $lines ]; do
    sleep 0.005
  done
  sleep "0.0$((RANDOM % 40))"
  if kill -9 $! 2>/dev/null; then kills=$((kills + 1)); fi
  wait $! 2>/dev/null || true
  [ -f "$work/killed/config.json" ] || { echo "killed before the run began"; exit 1; }
  "$train_lm" --out "$work/killed" --resume --threads 2 >/dev/null 2>"$work/err" &
done
wait $! || { cat "$work/err"; exit 1; }
run "$work/killed" --resume

last=$(printf 'checkpoints/step-%08d' $steps)
for file in model.safetensors optimizer.safetensors; do
  cmp "$work/whole/$last/$file" "$work/killed/$last/$file"
done
without_timings() { sed -E 's/,"tokens_per_second":[^,}]*//; s/,"seconds":[^,}]*//' "$1/metrics.jsonl"; }
diff <(without_timings "$work/whole") <(without_timings "$work/killed")
[ $kills -ge 3 ] || { echo "only $kills of the kills hit a running process"; exit 1; }
ls "$work/killed"/*/*.tmp 2>/dev/null && { echo "temporary files are left"; exit 1; }
echo "killed $kills times: same bits"
