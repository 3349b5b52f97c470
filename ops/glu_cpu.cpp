#include <weft/cpu/strided.h>
#include <weft/ops/glu_fn.h>

namespace weft::cpu {

void glu(Gate f, const Tensor& value, const Tensor& gate, Tensor& y) {
  visit(f, [&](auto f) {
    dispatch_compute(y.dtype(), [&]<class C>(Type<C>) {
      if constexpr (!std::is_integral_v<C>) map<C, C>([f](C v, C g) { return v * f(g).value; }, value, gate, y);
    });
  });
}

void glu_backward(Gate f, const Tensor& value, const Tensor& gate, const Tensor& dy, Tensor& dvalue, Tensor& dgate,
                  Tensor& y) {
  visit(f, [&](auto f) {
    dispatch_compute(dy.dtype(), [&]<class C>(Type<C>) {
      if constexpr (!std::is_integral_v<C>) {
        map<C, C>([f](C d, C g) { return d * f(g).value; }, dy, gate, dvalue);
        map<C, C, C>([f](C d, C v, C g) { return d * v * f(g).slope; }, dy, value, gate, dgate);
      }
    });
  });
  if (y.defined()) glu(f, value, gate, y);
}

}  // namespace weft::cpu
