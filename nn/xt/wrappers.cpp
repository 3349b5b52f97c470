#include <weft/nn/init.h>
#include <weft/nn/xt/norm.h>
#include <weft/nn/xt/wrappers.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/shape.h>

namespace weft::xt {

Tensor Scale::operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const {
  return (*fn_)(x, args, out) * value_;
}

ShiftTokens::ShiftTokens(int64_t first, int64_t last, std::shared_ptr<Sublayer> fn)
    : Wrapper(std::move(fn)), first_(first), last_(last) {}

Tensor ShiftTokens::operator()(const Tensor& x0, const SublayerArguments& args, Intermediates* out) const {
  Tensor x = x0;  // what is moved
  if (args.shift_mask.defined()) x = masked_fill(x, logical_not(unsqueeze(args.shift_mask, -1)), 0);
  const int64_t n = x.size(-2);

  // With a cache, what lies before x is its last inputs.
  const Tensor before = args.cache && args.cache->shifted.count(this) ? args.cache->shifted[this] : Tensor();
  if (before.defined()) x = cat({before, x}, -2);
  if (args.cache) {  // in the same memory, zeros where there is nothing yet
    Tensor& kept = args.cache->shifted[this];
    const Tensor last = slice(pad(x, {0, 0, std::max<int64_t>(0, last_ - x.size(-2)), 0}), -2, -last_);
    kept.defined() ? void(kept.copy_(last)) : void(kept = last.clone());
  }

  const int64_t pieces = last_ - first_ + 1, d = x.size(-1), width = d / pieces, length = x.size(-2);
  check(width > 0, "ShiftTokens: ", d, " features cannot be shifted by ", pieces, " amounts");
  Tensors parts;
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t by = std::clamp(first_ + i, -length, length);
    const auto part = [&](const Tensor& t) { return slice(t, -1, i * width, (i + 1) * width); };
    parts.push_back(by == 0 ? part(x0) : slice(pad(part(x), {0, 0, by, -by}), -2, length - n));
  }
  if (pieces * width < d) parts.push_back(slice(x0, -1, pieces * width));
  return (*fn_)(cat(parts, -1), args, out);
}

LayerScale::LayerScale(std::shared_ptr<Sublayer> fn, int64_t dim, double init_value, bool unit_offset)
    : Wrapper(std::move(fn)), unit_offset_(unit_offset) {
  gamma_ = register_parameter("gamma", full({dim}, init_value - (unit_offset ? 1 : 0)));
}

Tensor LayerScale::operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const {
  return (*fn_)(x, args, out) * (unit_offset_ ? gamma_ + 1 : gamma_);
}

AdaptiveLayerScale::AdaptiveLayerScale(std::shared_ptr<Sublayer> fn, int64_t dim, int64_t dim_condition, double bias)
    : Wrapper(std::move(fn)), to_gamma_(dim_condition, dim) {
  register_module("to_gamma", to_gamma_);
  init::zeros_(to_gamma_.weight);
  init::constant_(to_gamma_.bias, bias);
}

Tensor AdaptiveLayerScale::operator()(const Tensor& x, const SublayerArguments& args, Intermediates* out) const {
  check(args.condition.defined(), "AdaptiveLayerScale: needs a condition");
  const Tensor condition = condition_rows(args.condition, to_gamma_.weight.size(1), "AdaptiveLayerScale");
  return (*fn_)(x, args, out) * sigmoid(to_gamma_(condition));
}

}  // namespace weft::xt
