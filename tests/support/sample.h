// Op samples: what the suite knows about every public op. A family's samples live in tests/samples/S.cpp, which appends
// them to the list; one walker takes each through values, gradients, second order, dtypes, layouts and devices.
#pragma once

#include <weft/weft.h>

#include <functional>
#include <string>
#include <vector>

namespace weft::test {

struct Sample {
  std::string op;       ///< name of the public function, e.g. "softmax"
  std::string variant;  ///< what this sample is about, e.g. "dim 0, size 1"
  /// Arguments that are tensors. Floating ones are given in float64; the walker converts them to each dtype tested.
  Tensors inputs;
  /// Calls the op; several results where it has several.
  std::function<Tensors(const Tensors& x)> call;
  /// The same values by an independent formula in float64 on the host (loops over to_vector<double>(), not the op
  /// itself or what it is made of). Gets float64 inputs, rounded to the tested dtype first; returns float64 (or
  /// integer) results.
  std::function<Tensors(const Tensors& x)> reference;
  int order = 2;  ///< how many times it is differentiable: 0, 1 or 2
  std::vector<size_t> frozen =
      {};            ///< inputs that gradients do not flow to (declared stop-gradient or straight-through)
  bool half = true;  ///< tested in bfloat16 and float16 too
  double scale = 1;  ///< factor on the dtype's tolerance, with a reason in a comment where it is not 1
};

/// A wrong use of an op and the exact message it must give.
struct ErrorSample {
  std::string op;
  std::function<void()> call;
  std::string message;
};

struct SampleList {
  std::vector<Sample> samples;
  std::vector<ErrorSample> errors;
};

/// Every family's samples; all.cpp calls each family's function.
const SampleList& all_samples();

// --- to write references with ----------------------------------------------------------------------------------------

/// A float64 tensor with the values f(i) at flat index i.
Tensor make(const Shape& shape, const std::function<double(int64_t)>& f);
/// The same with f given the multi-index.
using Index = std::vector<int64_t>;
Tensor make_at(const Shape& shape, const std::function<double(const Index&)>& f);
/// Repeatable values in [low, high), different for each seed.
Tensor values(const Shape& shape, uint64_t seed, double low = -2, double high = 2);
/// Element-by-element with broadcasting: f over doubles.
Tensor map1(const Tensor& x, const std::function<double(double)>& f);
Tensor map2(const Tensor& a, const Tensor& b, const std::function<double(double, double)>& f);
/// Value at a multi-index, as double; a size-1 dimension accepts any index.
double at(const Tensor& x, const std::vector<int64_t>& index);

}  // namespace weft::test
