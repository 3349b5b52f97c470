#include <weft/nn/flash/token_shift.h>
#include <weft/ops/shape.h>

namespace weft::flash {

Tensor shift_tokens(const Tensor& x) {
  check(x.dim() >= 2, "shift_tokens: expected [..., length, features], got ", x.shape());
  const int64_t shifted = (x.size(-1) + 1) / 2;
  return cat({pad(slice(x, -1, 0, shifted), {0, 0, 1, -1}), slice(x, -1, shifted)}, -1);
}

}  // namespace weft::flash
