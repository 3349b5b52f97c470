#include <weft/nn/xt/places.h>
#include <weft/nn/xt/sampling.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/reduce.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>
#include <weft/ops/sort.h>

#include <cmath>
#include <limits>

namespace weft::xt {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

void check_logits(const char* owner, const Tensor& logits) {
  check(logits.dim() == 2 && logits.is_floating(), owner, ": expected logits [batch, tokens], got ", logits.dtype(),
        " ", logits.shape());
}

}  // namespace

Tensor top_k(const Tensor& logits, double frac, std::optional<int64_t> k) {
  check_logits("top_k", logits);
  const int64_t c = logits.size(1);
  const int64_t keep = k.value_or(static_cast<int64_t>(std::ceil(frac * static_cast<double>(c))));
  check(keep > 0, "top_k: ", keep, " tokens would be kept");
  const auto [values, indices] = topk(logits, std::min(keep, c));
  return scatter(full_like(logits, kNever), 1, indices, values);
}

Tensor top_p(const Tensor& logits, double thres) {
  check_logits("top_p", logits);
  check(thres > 0 && thres <= 1, "top_p: thres must be in (0, 1], got ", thres);
  const auto [values, indices] = sort(logits, -1, true);
  const Tensor before = cumsum(softmax(values.to(float32), -1), -1, {.exclusive = true});  // of likelier ones
  return scatter(logits, 1, indices, masked_fill(values, gt(before, thres), kNever));
}

Tensor min_p(const Tensor& logits, double min_p) {
  check(min_p >= 0 && min_p <= 1, "min_p: min_p must be in [0, 1], got ", min_p);
  return top_a(logits, 1, min_p);
}

Tensor top_a(const Tensor& logits, double min_p_pow, double min_p_ratio) {
  check_logits("top_a", logits);
  check(min_p_pow >= 0, "top_a: min_p_pow must not be negative, got ", min_p_pow);
  check(min_p_ratio >= 0 && min_p_ratio <= 1, "top_a: min_p_ratio must be in [0, 1], got ", min_p_ratio);
  const Tensor p = softmax(logits, -1);
  return masked_fill(logits, lt(p, pow(amax(p, -1, keepdim), min_p_pow) * min_p_ratio), kNever);
}

Tensor contrastive_decode(const Tensor& expert, const Tensor& amateur, double alpha, double beta) {
  check_logits("contrastive_decode", expert), check_logits("contrastive_decode", amateur);
  check(expert.shape() == amateur.shape(), "contrastive_decode: the expert gives logits ", expert.shape(),
        ", the amateur ", amateur.shape());
  check(alpha > 0 && alpha <= 1, "contrastive_decode: alpha must be in (0, 1], got ", alpha);
  const Tensor unlikely = lt(expert, amax(expert, -1, keepdim) + std::log(alpha));
  return masked_fill(expert * (1 + beta) - amateur * beta, unlikely, kNever);
}

bool Repetition::any() const {
  return penalty != 1 || presence_penalty != 0 || frequency_penalty != 0 || no_repeat_ngram_size > 0;
}

void check_repetition(const char* owner, const Repetition& how) {
  check(how.penalty > 0, owner, ": the repetition penalty must be positive, got ", how.penalty);
  check(how.no_repeat_ngram_size >= 0, owner, ": no_repeat_ngram_size must not be negative, got ",
        how.no_repeat_ngram_size);
}

Tensor discourage(const Tensor& logits0, const Repetition& how, const Tensor& text, const Tensor& start,
                  const Tensor& length) {
  check_logits("discourage", logits0);
  check_repetition("discourage", how);
  const int64_t n = text.size(1), run = how.no_repeat_ngram_size;
  const Shape shape = logits0.shape();
  const Tensor place = places(0, n, text.device());
  Tensor there = expand(unsqueeze(lt(place, length), 0), text.shape());  // [b, n]
  if (start.defined()) there = logical_and(there, ge(place, unsqueeze(start, 1)));
  const Tensor tokens = where(there, text, 0);
  // How often each token is at the places where `at` [b, m] is true: [b, c].
  const auto counted = [&](const Tensor& at, const Tensor& ids) {
    return scatter_add(zeros(shape, {.device = text.device()}), 1, ids, at.to(float32));
  };

  Tensor logits = logits0.to(float32);
  if (how.penalty != 1 || how.presence_penalty != 0 || how.frequency_penalty != 0) {
    const Tensor count = counted(there, tokens), seen = gt(count, 0);
    const Tensor scaled = where(gt(logits, 0), logits / how.penalty, logits * how.penalty);
    logits = where(seen, scaled - how.presence_penalty, logits) - count * how.frequency_penalty;
  }
  if (run > 0 && run <= n) {  // the last run - 1 tokens, wherever they were before, and what came after them there
    const int64_t windows = n - run + 1;
    Tensor again = logical_and(slice(there, 1, 0, windows), slice(there, 1, run - 1));
    for (int64_t i = 0; i < run - 1; ++i) {
      const Tensor last = index_select(tokens, 1, clamp_min(length - (run - 1 - i), 0));  // [b, 1]
      again = logical_and(again, eq(slice(tokens, 1, i, i + windows), last));
    }
    logits = masked_fill(logits, gt(counted(again, slice(tokens, 1, run - 1)), 0), kNever);
  }
  return logits;
}

Tensor sample(const Tensor& logits, double temperature, const FilterLogitsFn& filter, Generator& generator) {
  check_logits("sample", logits);
  const auto checked = [&](const Tensor& bad, const Tensor& token) {
    check(!logits.device().is_cpu() || !any(bad).item<bool>(), "sample: the logits are not numbers, or none is left");
    return where(bad, Scalar(logits.size(1)), token);
  };
  if (temperature == 0) {
    const auto [largest, likeliest] = max(logits, -1, keepdim);
    return checked(logical_not(gt(largest, kNever)), likeliest);
  }
  const int64_t b = logits.size(0), c = logits.size(1);
  const Tensor kept = filter ? filter(logits.to(float32)) : logits.to(float32);
  // As multinomial does, which waits for the device.
  const Tensor sums = cumsum(softmax(kept / temperature, -1).to(float64), -1), total = slice(sums, 1, c - 1);
  const Tensor u = rand({b, 1}, {.dtype = float64, .device = logits.device()}, generator);
  return checked(logical_not(gt(total, 0)), searchsorted(sums / total, u, true));
}

Tensor pad_after_eos(const Tensor& tokens, int64_t eos, int64_t pad_value) {
  const Tensor ends = cumsum(eq(tokens, eos).to(int64), 1, {.exclusive = true});  // before this place
  return masked_fill(tokens, gt(ends, 0), pad_value);
}

}  // namespace weft::xt
