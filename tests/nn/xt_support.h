// What the tests of x-transformers share.
#pragma once

#include <weft/autograd/autograd.h>
#include <weft/nn/xt.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::test {

/// float64, in evaluation mode, with every parameter away from its initial value.
inline void prepare(Module& m) {
  m.to(float64);
  m.eval();
  NoGrad guard;
  for (auto& [name, p] : m.named_parameters()) Tensor(p).copy_(p.detach() + randn(p.shape(), {.dtype = float64}) * 0.3);
}

/// Largest difference; NaN counts as infinite.
inline double difference(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) return INFINITY;
  const auto x = a.detach().to_vector<double>(), y = b.detach().to_vector<double>();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(x[i] - y[i]);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
  }
  return worst;
}

/// [b, n], true on the first real[i] places of row i.
inline Tensor mask_of(int64_t n, const std::vector<int64_t>& real) {
  std::vector<bool> values;
  for (int64_t r : real)
    for (int64_t i = 0; i < n; ++i) values.push_back(i < r);
  return tensor(values, {static_cast<int64_t>(real.size()), n});
}

/// A config from the defaults of a small one and the options in JSON.
inline xt::AttentionLayersConfig small_layers(const char* json, int64_t dim = 12) {
  auto c = config_from_json<xt::AttentionLayersConfig>(json, "layers");
  c.dim = dim, c.heads = 2, c.attn_dim_head = 6;
  if (!c.depth && c.custom_layers.empty()) c.depth = 2;
  return c;
}

inline std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace weft::test
