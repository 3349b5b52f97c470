#include <weft/nn/flash/masks.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>

namespace weft::flash {

int64_t hidden_features(const char* owner, int64_t dim, int64_t query_key_dim, double expansion_factor) {
  check(dim > 0 && query_key_dim > 0, owner, ": dim and query_key_dim must be positive, got ", dim, " and ",
        query_key_dim);
  const double hidden = expansion_factor * static_cast<double>(dim);
  check(hidden >= 1 && hidden < 2147483648.0, owner, ": expansion_factor ", expansion_factor, " gives ", hidden,
        " hidden features");
  return static_cast<int64_t>(hidden);
}

void check_input(const char* owner, const Tensor& x, int64_t dim, const Tensor& mask) {
  check(x.dim() == 3 && x.size(2) == dim, owner, ": expected x [batch, length, ", dim, "], got ", x.shape());
  if (!mask.defined()) return;
  check(mask.dtype() == boolean, owner, ": expected a bool mask, got ", mask.dtype());
  check(mask.shape() == Shape{x.size(0), x.size(1)}, owner, ": mask ", mask.shape(), " does not fit x ", x.shape());
}

Tensor real_lengths(const Tensor& mask, DType dtype) { return clamp_min(sum(mask, -1, keepdim), 1).to(dtype); }

}  // namespace weft::flash
