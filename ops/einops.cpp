#include <weft/ops/einops.h>
#include <weft/ops/shape.h>

namespace weft {

namespace {

using detail::EinopsKind;

// Every step is skipped by the operation itself, or here, where it would change nothing.
Tensor apply(EinopsKind kind, const Tensor& x, std::string_view pattern, const AxisSizes& sizes, Reducer reducer) {
  const detail::EinopsPlan plan = detail::plan_einops(kind, pattern, x.shape(), sizes);
  Tensor y = reshape(x, plan.split);
  if (!plan.reduced.empty()) y = reducer(y, plan.reduced, false);
  bool in_order = true;
  for (int64_t i = 0; i < plan.order.size(); ++i) in_order = in_order && plan.order[i] == i;
  if (!in_order) y = permute(y, plan.order);
  return reshape(expand(reshape(y, plan.spaced), plan.expanded), plan.result);
}

}  // namespace

Tensor rearrange(const Tensor& x, std::string_view pattern, const AxisSizes& sizes) {
  return apply(EinopsKind::rearrange, x, pattern, sizes, nullptr);
}

Tensor repeat(const Tensor& x, std::string_view pattern, const AxisSizes& sizes) {
  return apply(EinopsKind::repeat, x, pattern, sizes, nullptr);
}

Tensor reduce(const Tensor& x, std::string_view pattern, Reducer reducer, const AxisSizes& sizes) {
  return apply(EinopsKind::reduce, x, pattern, sizes, reducer);
}

}  // namespace weft
