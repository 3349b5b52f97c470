#!/usr/bin/env bash
# Wrong input to the tools: one clear line on stderr and exit status 1 or 2.
# Usage: errors_test.sh TRAIN_LM GENERATE SEQ2SEQ GPT2
set -uo pipefail
train_lm=$1 generate=$2 seq2seq=$3 gpt2=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() {  # STATUS PART-OF-THE-MESSAGE COMMAND...
  local status=$1 message=$2 got=0
  shift 2
  "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
  if [ $got -ne "$status" ] || [ "$(wc -l <"$work/err")" -ne 1 ] || ! grep -qF -- "$message" "$work/err"; then
    printf 'FAIL: %s\n  status %s, expected %s and one line with: %s\n' "${*//$work/}" $got "$status" "$message"
    sed 's/^/  | /' "$work/err"
    failures=$((failures + 1))
  fi
}

seq 1 5000 >"$work/text"
printf 'short' >"$work/short"
: >"$work/empty"
seq 1 50000 | gzip >"$work/whole.gz"
head -c 30000 "$work/whole.gz" >"$work/cut.gz"
small=(--seq-len 32 --batch 1 --steps 2 --sample-length 0 --model-options '{"dim": 16, "depth": 1, "group_size": 16, "query_key_dim": 16}')
out=(--out "$work/run")

expect 2 "--colour" "$train_lm" --colour red
expect 2 "--lr" "$train_lm" --lr fast
expect 1 "--preset is one of flash-paper, gpu, quick, not slow" "$train_lm" --preset slow
expect 1 "no such file or folder" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/none"
expect 1 "no text in" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/empty"
expect 1 "too few" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/short"
expect 1 "ends in the middle of the gzip data" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/cut.gz"
expect 1 "--seq-len must be at least 1, not 0" "$train_lm" "${out[@]}" --data "$work/text" --seq-len 0
expect 1 "--model is one of flash, gpt, not rnn" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/text" --model rnn
expect 1 "wdith" "$train_lm" "${out[@]}" --data "$work/text" --model-options '{"wdith": 16}'
expect 1 "--model-options of gpt: no option called group_size" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/text" --model gpt
expect 1 "causal cannot be set" "$train_lm" "${out[@]}" --data "$work/text" --model gpt --model-options '{"causal": false}'
expect 1 "cross_attend cannot be used here" "$train_lm" "${out[@]}" --data "$work/text" --model gpt --model-options '{"cross_attend": true}'
expect 1 "more than max_seq_len 8" "$train_lm" "${out[@]}" --data "$work/text" --model gpt --seq-len 32 --model-options '{"max_seq_len": 8, "disable_abs_pos_emb": false}'
[ ! -e "$work/run" ] || { echo "FAIL: a refused run has left a folder"; failures=$((failures + 1)); }
expect 1 "--preset flash-paper is a recipe of flash, not of gpt" "$train_lm" --preset flash-paper --model gpt
expect 1 "--model-options must be a JSON object" "$train_lm" "${out[@]}" --data "$work/text" --model-options 'dim=16'
expect 1 "--model-options must be a JSON object" "$train_lm" "${out[@]}" --data "$work/text" --model-options 'dim=16' --depth 2
expect 1 "tpu" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/text" --device tpu
expect 1 "--resume needs --out" "$train_lm" --resume
expect 1 "there is no config.json" "$train_lm" --out "$work/none" --resume
expect 1 "cannot make folder" "$train_lm" "${small[@]}" --data "$work/text" --out "$work/text/run"

"$train_lm" "${out[@]}" "${small[@]}" --data "$work/text" >"$work/out" 2>"$work/err" || { cat "$work/err"; exit 1; }
checkpoint=$work/run/checkpoints/step-00000002
expect 1 "already holds a run" "$train_lm" "${out[@]}" "${small[@]}" --data "$work/text"
expect 1 '--model was "flash" when this run began and cannot become "gpt"' "$train_lm" "${out[@]}" --resume --model gpt
expect 1 "--batch was 1 when this run began and cannot become 2" "$train_lm" "${out[@]}" --resume --batch 2
expect 2 "--prompt" "$generate" "$work/run" --prompt
expect 2 "run is required" "$generate"
expect 1 "no such run or checkpoint" "$generate" "$work/none"
expect 1 "neither a run folder nor a checkpoint" "$generate" "$work"
expect 1 "--top-p lies above 0 and up to 1: 2" "$generate" "$work/run" --top-p 2
expect 1 "--temperature must not be negative" "$generate" "$work/run" --temperature -1

[ "$("$generate" "$work/run" --prompt abc --length 0)" = abc ] || { echo "FAIL: a prompt is not echoed"; failures=$((failures + 1)); }
[ "$(echo -n abc | "$generate" "$checkpoint" --length 9 --seed 4 | cksum)" = "$("$generate" "$work/run" --prompt abc --length 9 --seed 4 | cksum)" ] ||
  { echo "FAIL: the same seed and prompt gave another text"; failures=$((failures + 1)); }

seq 2 5001 >"$work/text"
expect 1 "the text is not the one that this run began with" "$train_lm" "${out[@]}" --resume --steps 4
cp -r "$work/run" "$work/bare" && rm -r "$work/bare/checkpoints"
expect 1 "bare cannot be resumed: its folder checkpoints is missing" "$train_lm" --out "$work/bare" --resume --steps 4
head -c 100 "$checkpoint/model.safetensors" >"$work/part" && cp "$work/part" "$checkpoint/model.safetensors"
expect 1 "model.safetensors" "$generate" "$work/run"
echo '{"seq_len": true}' >"$work/run/config.json"
expect 1 "seq_len" "$generate" "$work/run"
echo 'not json' >"$work/run/config.json"
expect 1 "config.json: not a JSON object" "$generate" "$work/run"

expect 2 "--batch: must be at least 1, not 0" "$seq2seq" --batch 0
expect 2 "--steps: must be at least 0, not -1" "$seq2seq" --steps -1
expect 2 "--lr: must be a number above 0, not nan" "$seq2seq" --lr nan
expect 2 "--tests: must be at least 1, not 0" "$seq2seq" --tests 0
expect 2 "--batch = many" "$seq2seq" --batch many
expect 1 "--longest must be at least 2" timeout 60 "$seq2seq" --shortest 1 --longest 1

expect 1 "--batch must be at least 1, not 0" "$gpt2" --train "$work/text" --batch 0
expect 1 "--steps must be at least 1, not -3" "$gpt2" --train "$work/text" --steps -3
expect 1 "--count must be at least 1, not -4" "$gpt2" --ids 1 --count -4
expect 1 "--top-k must be at least 1, not 0" "$gpt2" --ids 1 --top-k 0
expect 1 "--temperature must not be negative: -1" "$gpt2" --ids 1 --temperature -1
expect 0 "the weights are random" "$gpt2" --ids 1 --count 1

[ $failures -eq 0 ] && echo "every wrong input got its line"
exit $((failures > 0))
