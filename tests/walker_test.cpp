// The walk over samples must be able to fail: each case breaks one thing in an op and expects to hear of it.
#include "support/walker.h"

#include <doctest/doctest.h>
#include <weft/tensor/parallel.h>

#include <algorithm>
#include <cmath>

using namespace weft;
using namespace weft::test;

namespace {

Sample exponential() {
  return {.op = "exp",
          .variant = "test",
          .inputs = {values({3, 4}, 1)},
          .call = [](const Tensors& x) -> Tensors { return {exp(x[0])}; },
          .reference = [](const Tensors& x) -> Tensors { return {map1(x[0], [](double v) { return std::exp(v); })}; }};
}

// Whether a problem of this order mentions the text.
bool found(const Sample& s, int order, const std::string& part) {
  std::string all;
  for (const Measured& m : walk(s, Device::cpu())) {
    if (m.order == order && m.problem.find(part) != std::string::npos) return true;
    if (!m.problem.empty()) all += "\n" + m.problem;
  }
  MESSAGE("problems found:", all);
  return false;
}

// exp in values, with a backward of the caller's.
template <class F>
Tensor exp_with(const Tensor& x, F&& backward) {
  return record("exp", exp(x.detach()), {x}, std::forward<F>(backward));
}

}  // namespace

TEST_CASE("walker: a right op has no problem in any dtype, layout and order") {
  const auto all = walk(exponential(), test_device());
  for (const Measured& m : all) CHECK_MESSAGE(m.problem.empty(), m.problem);
  for (const DType d : {float64, float32, bfloat16, float16}) {
    for (const int order : {0, 1}) {
      CHECK(std::any_of(all.begin(), all.end(), [&](const Measured& m) { return m.dtype == d && m.order == order; }));
    }
  }
}

TEST_CASE("walker: wrong values, shapes, dtypes and NaN") {
  Sample s = exponential();
  s.call = [](const Tensors& x) -> Tensors { return {exp(x[0]) * 1.00001}; };
  CHECK(found(s, 0, "float64, contiguous: the value is off by"));
  s.call = [](const Tensors& x) -> Tensors { return {x[0].dtype() == bfloat16 ? exp(x[0]) * 1.1 : exp(x[0])}; };
  CHECK(found(s, 0, "bfloat16, contiguous: the value is off by"));
  s.call = [](const Tensors& x) -> Tensors { return {exp(x[0]).unsqueeze(0)}; };
  CHECK(found(s, 0, "result 0 has shape [1, 3, 4], the reference [3, 4]"));
  s.call = [](const Tensors& x) -> Tensors { return {exp(x[0]).to(float64)}; };
  CHECK(found(s, 0, "result 0 is float64 for inputs of float32"));
  s.call = [](const Tensors& x) -> Tensors { return {exp(x[0]) * NAN}; };
  CHECK(found(s, 0, "off by inf"));
  s.reference = [](const Tensors& x) -> Tensors { return {x[0] * NAN}; };
  CHECK(found(s, 0, "off by inf"));
}

TEST_CASE("walker: wrong gradients, in one dtype, in one layout, in the second order") {
  Sample s = exponential();
  s.call = [](const Tensors& x) -> Tensors { return {exp_with(x[0], [](const Tensor& dy) -> Grads { return {dy}; })}; };
  CHECK(found(s, 1, "gradcheck: the gradient of output 0 by input 0 is wrong"));
  s.call = [](const Tensors& x) -> Tensors { return {exp(x[0].detach())}; };
  CHECK(found(s, 1, "cut off"));
  s.call = [](const Tensors& x) -> Tensors {
    return {exp_with(x[0], [x = x[0]](const Tensor& dy) -> Grads {
      return {mul(dy, mul(exp(x), x.dtype() == float32 ? 1.1 : 1.0))};
    })};
  };
  CHECK(found(s, 1, "float32, contiguous: the gradient is off by"));
  s.call = [](const Tensors& x) -> Tensors {
    return {exp_with(x[0], [x = x[0]](const Tensor& dy) -> Grads {
      return {mul(dy, mul(exp(x), dy.is_contiguous() ? 1.0 : 1.1))};
    })};
  };
  CHECK(found(s, 1, "float64, transposed: the gradient is off by"));
  s.call = [](const Tensors& x) -> Tensors {
    return {exp_with(x[0], [x = x[0]](const Tensor& dy) -> Grads { return {mul(dy, exp(x.detach()))}; })};
  };
  CHECK(found(s, 2, "gradgradcheck"));
  s.order = 1;  // declared as once differentiable, a wrong second derivative is still a fault
  CHECK(found(s, 2, "a second derivative is given and wrong"));
}

TEST_CASE("walker: layouts, modified inputs and threads") {
  Sample s = exponential();
  s.call = [](const Tensors& x) -> Tensors {  // reads memory as if it were contiguous
    const Tensor flat = as_strided_raw(x[0], x[0].shape(), x[0].shape().contiguous_strides(), x[0].impl().offset);
    return {exp_with(flat, [](const Tensor& dy) -> Grads { return {dy}; })};
  };
  CHECK(found(s, 0, "float64, strided: the value is off by"));
  s.call = [](const Tensors& x) -> Tensors {
    Tensor y = exp(x[0]);
    x[0].detach().fill_(1);
    return {y};
  };
  CHECK(found(s, 0, "the op modifies an input"));
  s = exponential();
  s.order = 0;
  s.call = [](const Tensors& x) -> Tensors { return {exp(x[0].detach()) * (1 + 1e-15 * num_threads())}; };
  CHECK(found(s, 0, "the result changes with 2 threads"));
}

TEST_CASE("walker: a header's declarations are read") {
  const auto ops = public_ops(WEFT_SOURCE_DIR);
  const auto find = [&](const char* name) {
    return std::find_if(ops.begin(), ops.end(), [&](const PublicOp& o) { return o.name == name; });
  };
  for (const char* name : {"add", "split", "topk", "zeros", "softmax", "linear"}) {
    CAPTURE(name);
    CHECK(find(name) != ops.end());
  }
  for (const char* name : {"uniform_", "operator", "default_generator", "Tensor", "manual_seed"}) {
    CAPTURE(name);
    CHECK(find(name) == ops.end());
  }
  CHECK(find("eq")->declared_non_differentiable);
  CHECK_FALSE(find("exp")->declared_non_differentiable);
}
