#include <weft/ops/einops.h>
#include <weft/ops/shape.h>

#include <functional>

namespace weft {

namespace {

using detail::EinopsKind;
using detail::EinopsPlan;

// Programs use few patterns, each on few shapes, many times: a small table by hash keeps the last plans of a thread.
struct Planned {
  EinopsKind kind = EinopsKind::rearrange;
  std::string pattern;
  Shape shape;
  AxisSizes sizes;
  EinopsPlan plan;
};

EinopsPlan plan_of(EinopsKind kind, std::string_view pattern, const Shape& shape, const AxisSizes& sizes) {
  constexpr size_t slots = 128, longest = 200;
  if (pattern.empty() || pattern.size() > longest) return detail::plan_einops(kind, pattern, shape, sizes);
  thread_local std::vector<Planned> table(slots);
  size_t hash = std::hash<std::string_view>{}(pattern);
  for (int64_t d : shape) hash = hash * 31 + static_cast<size_t>(d);
  for (const auto& [name, length] : sizes) hash = hash * 31 + static_cast<size_t>(length);
  Planned& p = table[(hash ^ hash >> 17) % slots];
  if (p.kind != kind || p.pattern != pattern || !(p.shape == shape) || p.sizes != sizes)
    p = {kind, std::string(pattern), shape, sizes, detail::plan_einops(kind, pattern, shape, sizes)};
  return p.plan;
}

// Every step is skipped by the operation itself, or here, where it would change nothing.
Tensor apply(EinopsKind kind, const Tensor& x, std::string_view pattern, const AxisSizes& sizes, Reducer reducer) {
  const EinopsPlan plan = plan_of(kind, pattern, x.shape(), sizes);
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
