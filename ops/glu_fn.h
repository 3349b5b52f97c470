// The gates of gated linear units with their derivatives, shared by the CPU and CUDA kernels.
#pragma once

#include <weft/ops/elementwise_fn.h>
#include <weft/ops/kernel.h>

namespace weft {

enum class Gate : uint8_t { sigmoid, gelu, silu, relu };

// y = value·f(gate): floating tensors of one shape and dtype, any strides.
WEFT_DECLARE_KERNEL(glu, Gate f, const Tensor& value, const Tensor& gate, Tensor& y)
// dvalue = dy·f(gate), dgate = dy·value·f'(gate); y, unless it is undefined, is made once more.
WEFT_DECLARE_KERNEL(glu_backward, Gate f, const Tensor& value, const Tensor& gate, const Tensor& dy, Tensor& dvalue,
                    Tensor& dgate, Tensor& y)

namespace fn {

// f(g) and f'(g), which have most of their work in common.
template <class T>
struct GateValue {
  T value, slope;
};
struct SigmoidGate {
  template <class T>
  WEFT_HD GateValue<T> operator()(T g) const {
    const T s = num::sigmoid(g);
    return {s, s * (T(1) - s)};
  }
};
struct GeluGate {
  template <class T>
  WEFT_HD GateValue<T> operator()(T g) const {
    const T cdf = T(0.5) * (T(1) + num::erf(g * T(0.70710678118654752440)));
    return {g * cdf, cdf + g * T(0.39894228040143267794) * num::exp(T(-0.5) * g * g)};
  }
};
struct SiluGate {
  template <class T>
  WEFT_HD GateValue<T> operator()(T g) const {
    const T s = num::sigmoid(g);
    return {g * s, s * (T(1) + g * (T(1) - s))};
  }
};
struct ReluGate {
  template <class T>
  WEFT_HD GateValue<T> operator()(T g) const {
    return {Relu{}(g), g > T(0) ? T(1) : T(0)};
  }
};

}  // namespace fn

template <class F>
WEFT_HD void visit(Gate gate, F&& f) {
  switch (gate) {
    case Gate::sigmoid:
      return f(fn::SigmoidGate{});
    case Gate::gelu:
      return f(fn::GeluGate{});
    case Gate::silu:
      return f(fn::SiluGate{});
    case Gate::relu:
      return f(fn::ReluGate{});
  }
}

}  // namespace weft
