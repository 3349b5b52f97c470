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

Tensor min_p(const Tensor& logits, double min_p) { return top_a(logits, 1, min_p); }

Tensor top_a(const Tensor& logits, double min_p_pow, double min_p_ratio) {
  check_logits("top_a", logits);
  const Tensor p = softmax(logits, -1);
  return masked_fill(logits, lt(p, pow(amax(p, -1, keepdim), min_p_pow) * min_p_ratio), kNever);
}

Tensor sample(const Tensor& logits, double temperature, const FilterLogitsFn& filter, Generator& generator) {
  if (temperature == 0) return argmax(logits, -1, keepdim);
  const Tensor kept = filter ? filter(logits.to(float32)) : logits.to(float32);
  return multinomial(softmax(kept / temperature, -1), 1, false, generator);
}

Tensor pad_after_eos(const Tensor& tokens, int64_t eos, int64_t pad_value) {
  const Tensor ends = cumsum(eq(tokens, eos).to(int64), 1, {.exclusive = true});  // before this place
  return masked_fill(tokens, gt(ends, 0), pad_value);
}

}  // namespace weft::xt
