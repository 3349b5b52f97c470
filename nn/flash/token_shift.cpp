#include <weft/autograd/autograd.h>
#include <weft/nn/flash/token_shift.h>
#include <weft/ops/copy.h>
#include <weft/ops/shape.h>

namespace weft::flash {
namespace {

// The first features of each token moved to the next one (or back), 0 where none comes from; the others stay.
Tensor shift(const Tensor& x, bool back) {
  const int64_t shifted = (x.size(-1) + 1) / 2, n = x.size(-2), from = back ? 1 : 0, to = back ? 0 : 1;
  const Tensor in = x.detach(), y = empty_like(x);
  const auto copy = [](const Tensor& source, Tensor target) { copy_into(source, target); };
  if (n > 0) {
    const Tensor moved = slice(in, -1, 0, shifted), place = slice(y, -1, 0, shifted);
    copy(narrow(moved, -2, from, n - 1), narrow(place, -2, to, n - 1));
    Tensor free = narrow(place, -2, back ? n - 1 : 0, 1);
    fill_into(free, 0);
    copy(slice(in, -1, shifted), slice(y, -1, shifted));
  }
  return record("shift_tokens", y, {x}, [back](const Tensor& dy) -> Grads { return {shift(dy, !back)}; });
}

}  // namespace

Tensor shift_tokens(const Tensor& x) {
  check(x.dim() >= 2, "shift_tokens: expected [..., length, features], got ", x.shape());
  return shift(x, false);
}

}  // namespace weft::flash
