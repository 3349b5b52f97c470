#include <weft/autograd/autograd.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/flash/autoregressive_wrapper.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/loss.h>
#include <weft/ops/reduce.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>
#include <weft/ops/sort.h>

#include <algorithm>
#include <limits>

namespace weft::flash {
namespace {

// One token a row of logits [b, c]: [b, 1].
Tensor sample(const Tensor& logits, const GenerateOptions& options, Generator& generator) {
  if (options.temperature == 0) return argmax(logits, -1, keepdim);
  const Tensor kept = top_k(logits.to(float32), options.filter_thres);
  return multinomial(softmax(kept / options.temperature, -1), 1, false, generator);
}

// Tokens after the first eos of each row become pad.
Tensor pad_after(const Tensor& tokens, int64_t eos, int64_t pad_value) {
  const Tensor ends = cumsum(eq(tokens, eos).to(int64), 1);          // eos tokens up to here, this one included
  return masked_fill(tokens, gt(pad(ends, {1, -1}), 0), pad_value);  // one place later
}

}  // namespace

Tensor top_k(const Tensor& logits, double thres) {
  check(logits.dim() == 2, "top_k: expected logits [b, c], got ", logits.shape());
  check(thres >= 0 && thres <= 1, "top_k: thres must be in [0, 1], got ", thres);
  const auto k = std::max<int64_t>(1, static_cast<int64_t>((1 - thres) * static_cast<double>(logits.size(1))));
  const auto [values, indices] = topk(logits, k);
  return scatter(full_like(logits, -std::numeric_limits<double>::infinity()), 1, indices, values);
}

AutoregressiveWrapper::AutoregressiveWrapper(const AutoregressiveWrapperConfig& config) : config_(config) {
  check(config.net != nullptr, "AutoregressiveWrapper: no net given");
  register_module("net", config.net);
}

Tensor AutoregressiveWrapper::operator()(const Tensor& x, const Tensor& mask) const {
  check(x.dim() == 2 && x.size(1) >= 2,
        "AutoregressiveWrapper: expected tokens [batch, length] of length 2 or more, got ", x.shape());
  const Tensor logits = (*config_.net)(slice(x, 1, 0, -1), mask);  // [b, n, c]
  return cross_entropy(flatten(logits, 0, 1), flatten(slice(x, 1, 1)));
}

Tensor AutoregressiveWrapper::generate(const Tensor& start_tokens, int64_t seq_len, const GenerateOptions& options) {
  check(start_tokens.dim() == 2 && start_tokens.size(1) > 0,
        "generate: expected start tokens [batch, length > 0], got ", start_tokens.shape());
  check(seq_len >= 0, "generate: seq_len must not be negative, got ", seq_len);
  check(options.temperature >= 0, "generate: temperature must not be negative, got ", options.temperature);
  const int64_t b = start_tokens.size(0), t = start_tokens.size(1);
  std::vector<int64_t> at(static_cast<size_t>(b), t);  // where each row's next token goes
  if (options.start_lengths.defined()) {
    check(options.start_lengths.shape() == Shape{b}, "generate: start_lengths ", options.start_lengths.shape(),
          " do not fit start tokens ", start_tokens.shape());
    at = options.start_lengths.to_vector<int64_t>();
    for (int64_t length : at)
      check(length >= 1 && length <= t, "generate: a start length must be from 1 to ", t, ", got ", length);
  }

  NoGrad guard;
  EvalMode mode(*this);
  Generator& generator = options.generator ? *options.generator : default_generator();
  const Device device = start_tokens.device();
  const Tensor starts = tensor(at).to(device);  // [b]
  Tensor text = start_tokens, made = empty({b, 0}, int64, device);
  Tensor ended = zeros({b, 1}, {.dtype = boolean, .device = device});
  for (int64_t i = 0; i < seq_len; ++i) {
    const Tensor place = reshape(starts + i, {b, 1});  // of the new token; what a row holds from there on is not read
    const Tensor logits = (*config_.net)(text, {});    // [b, n, c]
    const Tensor last = take_along_dim(logits, expand(unsqueeze(place - 1, -1), {b, 1, logits.size(2)}), 1);
    const Tensor token = sample(squeeze(last, 1), options, generator);  // [b, 1]
    made = cat({made, token}, 1);
    text = scatter(pad(text, {0, std::max<int64_t>(0, *std::max_element(at.begin(), at.end()) + i + 1 - text.size(1))}),
                   1, place, token);
    if (options.on_token) options.on_token(squeeze(token, 1));
    if (!options.eos_token) continue;
    ended = logical_or(ended, eq(token, *options.eos_token));
    if (all(ended).item<bool>()) break;
  }
  return options.eos_token ? pad_after(made, *options.eos_token, config_.pad_value) : made;
}

}  // namespace weft::flash
