// What a reduction does to two partial results, shared by the CPU and CUDA kernels.
#pragma once

#include <weft/tensor/dtype.h>

#include <limits>

namespace weft {

enum class ReduceOp : uint8_t { sum, prod, max, min, any, all };

namespace fn {
// clang-format off
struct Sum { template <class T> static WEFT_HD T start() { return T(0); } template <class T> WEFT_HD T operator()(T a, T b) const { return a + b; } };
struct Prod { template <class T> static WEFT_HD T start() { return T(1); } template <class T> WEFT_HD T operator()(T a, T b) const { return a * b; } };
struct Max {
  template <class T> static WEFT_HD T start() { return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest(); }
  template <class T> WEFT_HD T operator()(T a, T b) const { return a > b || a != a ? a : b; }
};
struct Min {
  template <class T> static WEFT_HD T start() { return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max(); }
  template <class T> WEFT_HD T operator()(T a, T b) const { return a < b || a != a ? a : b; }
};
struct Any { template <class T> static WEFT_HD T start() { return T(0); } template <class T> WEFT_HD T operator()(T a, T b) const { return T((a != T(0)) | (b != T(0))); } };
struct All { template <class T> static WEFT_HD T start() { return T(1); } template <class T> WEFT_HD T operator()(T a, T b) const { return T((a != T(0)) & (b != T(0))); } };
// clang-format on
}  // namespace fn

template <class F>
WEFT_HD void visit(ReduceOp op, F&& f) {
  switch (op) {
    case ReduceOp::sum:
      return f(fn::Sum{});
    case ReduceOp::prod:
      return f(fn::Prod{});
    case ReduceOp::max:
      return f(fn::Max{});
    case ReduceOp::min:
      return f(fn::Min{});
    case ReduceOp::any:
      return f(fn::Any{});
    case ReduceOp::all:
      return f(fn::All{});
  }
}

}  // namespace weft
