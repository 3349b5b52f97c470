// Any bytes as a pattern of rearrange, repeat and reduce and as an equation of einsum. The first byte picks how many
// dimensions there are, the next ones their sizes and those of the axes h and w; the rest is the pattern. Either
// weft::Error, or a plan; a small one is carried out too, and has the shape that it promised.
#include <weft/ops/create.h>
#include <weft/ops/einops.h>
#include <weft/ops/einsum.h>
#include <weft/ops/reduce.h>

#include <cstdint>
#include <cstdlib>

using namespace weft;

namespace {

constexpr int64_t kSmall = 4096;

template <class F>
void attempt(F&& f) {
  try {
    f();
  } catch (const Error&) {
  }
}

void run_einops(std::string_view pattern, const Shape& shape, const AxisSizes& sizes) {
  using detail::EinopsKind;
  for (const EinopsKind kind : {EinopsKind::rearrange, EinopsKind::repeat, EinopsKind::reduce}) {
    attempt([&] {
      const auto plan = detail::plan_einops(kind, pattern, shape, sizes);
      if (shape.numel() > kSmall || plan.expanded.numel() > kSmall || plan.result.numel() > kSmall) return;
      const Tensor x = zeros(shape);
      const Tensor y = kind == EinopsKind::rearrange ? rearrange(x, pattern, sizes)
                       : kind == EinopsKind::repeat  ? repeat(x, pattern, sizes)
                                                     : reduce(x, pattern, sum, sizes);
      if (!(y.shape() == plan.result)) std::abort();
    });
  }
}

void run_einsum(std::string_view equation, const Shape& shape) {
  for (const size_t operands : {1u, 2u, 3u}) {
    attempt([&] {
      const auto plan = detail::plan_einsum(equation, std::vector<Shape>(operands, shape));
      int64_t work = 1;
      for (int64_t s : plan.sizes) work = std::min(work * std::max<int64_t>(s, 1), kSmall + 1);
      if (work > kSmall) return;
      const Tensor y = einsum(equation, Tensors(operands, zeros(shape)));
      if (y.dim() != static_cast<int64_t>(plan.output.size())) std::abort();
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t dims = data[0] % 6;
  if (size < 3 + dims) return 0;
  Shape shape;
  for (size_t i = 0; i < dims; ++i) shape.push_back(data[1 + i] % 8);
  // Signed: sizes from a caller may be anything.
  const AxisSizes sizes{{"h", static_cast<int8_t>(data[1 + dims])}, {"w", static_cast<int8_t>(data[2 + dims])}};
  const std::string_view pattern(reinterpret_cast<const char*>(data) + 3 + dims, size - 3 - dims);
  run_einops(pattern, shape, sizes);
  run_einops(pattern, shape, {});
  run_einsum(pattern, shape);
  return 0;
}
