#include <weft/cpu/strided.h>
#include <weft/ops/copy.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft::cpu {

void affine_heads(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y) {
  const auto wide = [&](const Tensor& t) { return expand(t, y.shape()); };
  dispatch_compute(y.dtype(), [&]<class C>(Type<C>) {
    map<C, C, C>([](C v, C w, C b) { return v * w + b; }, wide(unsqueeze(x, 1)), wide(weight), wide(bias), y);
  });
}

void affine_heads_backward(const Tensor& x, const Tensor& weight, const Tensor& dy, Tensor& dx, Tensor& dweight,
                           Tensor& dbias) {
  const Tensor g = dy.to(weight.dtype()), in = x.to(weight.dtype());
  copy_into(sum(mul(g, weight), 1), dx);
  copy_into(sum(mul(g, unsqueeze(in, 1)), 0), dweight);
  copy_into(sum(g, 0), dbias);
}

}  // namespace weft::cpu
