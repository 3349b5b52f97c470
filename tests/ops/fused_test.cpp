// The fused kernels against the compositions that stand in for them at second order, and what is special in the rows
// that have nothing to say.
#include <doctest/doctest.h>
#include <weft/tensor/parallel.h>
#include <weft/weft.h>

#include "support/sample.h"

#include <cmath>
#include <limits>

using namespace weft;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

double distance(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double d = 0, n = 0;
  for (size_t i = 0; i < x.size(); ++i) d += (x[i] - y[i]) * (x[i] - y[i]), n += y[i] * y[i];
  return std::sqrt(d) / std::max(std::sqrt(n), 1e-30);
}

bool finite(const Tensor& x) {
  for (const double v : x.to_vector<double>()) {
    if (!std::isfinite(v)) return false;
  }
  return true;
}

Tensors gradients(const test::Sample& s, DType dtype, bool composed) {
  Tensors x, wanted;
  for (const Tensor& t : s.inputs) {
    const Tensor there = t.to(default_device());
    x.push_back(t.is_floating() ? there.to(dtype).clone().requires_grad_() : there);
    const bool frozen = std::find(s.frozen.begin(), s.frozen.end(), x.size() - 1) != s.frozen.end();
    if (t.is_floating() && !frozen) wanted.push_back(x.back());
  }
  Tensors y, dy;
  for (const Tensor& out : s.call(x)) {
    if (!out.defined() || !out.requires_grad()) continue;
    y.push_back(out);
    dy.push_back(test::values(out.shape(), 98 + y.size()).to(out.dtype()).to(out.device()));
  }
  return grad(y, wanted, dy, {.create_graph = composed});
}

}  // namespace

TEST_CASE("fused: every backward kernel agrees with its composition") {
  for (const test::Sample& s : test::all_samples().samples) {
    const bool fused =
        s.op.find("norm") != std::string::npos || s.op.find("softmax") != std::string::npos || s.op == "cross_entropy";
    if (!fused) continue;
    for (const auto& [dtype, tolerance] :
         {std::pair{float64, 1e-12}, {float32, 5e-6}, {bfloat16, 1e-2}, {float16, 2e-3}}) {
      const Tensors a = gradients(s, dtype, false), b = gradients(s, dtype, true);
      for (size_t i = 0; i < a.size(); ++i) {
        INFO(s.op, ", ", s.variant, ", ", name(dtype), ", input ", i);
        CHECK(a[i].shape() == b[i].shape());
        CHECK(distance(a[i], b[i]) <= tolerance);
      }
    }
  }
}

TEST_CASE("softmax: a row without entries gives 0 and passes no gradient") {
  Tensor x = tensor(std::vector<double>{-kInf, -kInf, -kInf, 1, -kInf, 2}, {2, 3}).requires_grad_();
  const Tensor upstream = test::values({2, 3}, 1).to(x.device());
  for (const bool composed : {false, true}) {
    const Tensor y = softmax(x, -1);
    CHECK(y.to_vector<double>()[0] == 0);
    CHECK(y.to_vector<double>()[4] == 0);
    CHECK(finite(y));
    const Tensor dx = grad({y}, {x}, {upstream}, {.create_graph = composed})[0];
    CHECK(finite(dx));
    CHECK(dx.to_vector<double>()[1] == 0);
    const Tensor l = log_softmax(x, -1);
    CHECK(l.to_vector<double>()[0] == -kInf);
    CHECK(l.to_vector<double>()[5] == doctest::Approx(-std::log1p(std::exp(-1))));
    const Tensor dl = grad({l}, {x}, {upstream}, {.create_graph = composed})[0];
    CHECK(finite(dl));
    CHECK(dl.to_vector<double>()[1] == 0);
  }
  Tensor mask = tensor(std::vector<bool>{false, false, false}, {3});
  CHECK(softmax(zeros({2, 3}), mask, -1).to_vector<double>() == std::vector<double>(6, 0));
}

TEST_CASE("softmax: NaN stays visible, large entries do not overflow") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& row : {std::vector<double>{nan, nan, nan}, {nan, -kInf, -kInf}, {1, nan, 2}}) {
    CHECK(std::isnan(softmax(tensor(row), 0).to_vector<double>()[0]));
    CHECK(std::isnan(softmax(tensor(row).to(float32), 0).to_vector<double>()[0]));
  }
  CHECK(finite(softmax(tensor({1e30f, -1e30f, 88.0f}), 0)));
  CHECK(finite(log_softmax(tensor({1e30f, -1e30f, 88.0f}), 0)));
}

TEST_CASE("softmax: rows that are not contiguous in memory") {
  const Tensor x = test::values({7, 5, 6}, 3).permute({2, 0, 1}).slice(1, 1, 6, 2);
  CHECK(distance(softmax(x, 1), softmax(x.clone(), 1)) == 0);
}

TEST_CASE("norm: parameters of another dtype, and a row of zeros") {
  const Tensor x = test::values({3, 8}, 1), w = test::values({8}, 2), b = test::values({8}, 3);
  const Tensor mixed = layer_norm(x.to(bfloat16), {8}, w.to(float32), b.to(float32));
  CHECK(mixed.dtype() == bfloat16);
  CHECK(distance(mixed, layer_norm(x, {8}, w, b)) < 1e-2);
  Tensor zero = zeros({2, 4}).requires_grad_(), gain = ones({1}).requires_grad_();
  for (const bool composed : {false, true}) {
    for (const Tensor& y : {layer_norm(zero, {4}), rms_norm(zero, {4}), scale_norm(zero, gain), normalize(zero)}) {
      CHECK(finite(y));
      CHECK(finite(grad({y.sum()}, {zero}, {}, {.create_graph = composed})[0]));
    }
  }
}

TEST_CASE("norm: the same bits for any number of threads") {
  const Tensor x = randn({301, 67}), w = randn({67}), b = randn({67}), dy = randn({301, 67});
  const auto run = [&](int threads) {
    set_num_threads(threads);
    Tensor a = x.clone().requires_grad_(), p = w.clone().requires_grad_(), q = b.clone().requires_grad_();
    return grad({layer_norm(a, {67}, p, q)}, {a, p, q}, {dy});
  };
  const Tensors one = run(1), three = run(3);
  set_num_threads(0);
  for (size_t i = 0; i < one.size(); ++i) CHECK(one[i].to_vector<double>() == three[i].to_vector<double>());
}

TEST_CASE("norm: a large mean does not drown the variance") {
  const Tensor x = test::values({4, 256}, 5, -1, 1);
  const Tensor far = (x + 100.0).to(float32);
  CHECK(distance(layer_norm(far, {256}), layer_norm(far.to(float64), {256})) < 2e-5);
}

TEST_CASE("cross entropy: impossible rows") {
  Tensor x = tensor(std::vector<double>{-kInf, -kInf, 1, 2}, {2, 2}).requires_grad_();
  const Tensor target = tensor(std::vector<int64_t>{0, 1});
  const Tensor y = cross_entropy(x, target, {.reduction = Reduction::none});
  CHECK(y.to_vector<double>()[0] == kInf);
  CHECK(finite(grad({y.sum()}, {x})[0]));
}

TEST_CASE("binary cross entropy is finite at certain probabilities") {
  Tensor p = tensor({0.0f, 1.0f, 0.0f, 1.0f}).requires_grad_();
  const Tensor y = binary_cross_entropy(p, tensor({0.0f, 1.0f, 1.0f, 0.0f}), {}, Reduction::none);
  CHECK(y.to_vector<double>() == std::vector<double>{0, 0, 100, 100});
  CHECK(finite(grad({y.sum()}, {p})[0]));
  CHECK(binary_cross_entropy_with_logits(tensor({1000.0f, -1000.0f}), tensor({1.0f, 0.0f})).item() == 0);
}
