#include "float32_softmax.h"

#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>

#include <cmath>
#include <limits>
#include <vector>

namespace weft::parity {
namespace {

constexpr int64_t kLanes = 16;

// exp by reduction to |s| <= ln 2 / 2 and a polynomial of degree 6: Sleef's expf of at most one unit in the last place.
float exp_u10(float x) {
  if (x < -104) return 0;
  const float q = std::rint(x * 1.442695040888963407359924681001892137426645954152985934135449406931f);
  float s = std::fma(q, -0.693145751953125f, x);
  s = std::fma(q, -1.428606765330187045e-06f, s);
  float u = 0.000198527617612853646278381f;
  for (const float c : {0.00139304355252534151077271f, 0.00833336077630519866943359f, 0.0416664853692054748535156f,
                        0.166666671633720397949219f, 0.5f})
    u = std::fma(u, s, c);
  u = 1 + std::fma(s * s, u, s);
  return std::ldexp(u, static_cast<int>(q));
}

// The order in which the lanes of a vector register are added: rows shorter than one go in turn; else lane by lane, the
// rest onto the first lanes, and then halves onto halves.
float lane_sum(const std::vector<float>& v) {
  const auto n = static_cast<int64_t>(v.size());
  if (n < kLanes) {
    float total = v[0];
    for (int64_t i = 1; i < n; ++i) total += v[static_cast<size_t>(i)];
    return total;
  }
  std::vector<float> lanes(v.begin(), v.begin() + kLanes);
  for (int64_t i = kLanes; i < n; ++i) lanes[static_cast<size_t>(i % kLanes)] += v[static_cast<size_t>(i)];
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// f(row of a, row of b) -> row, over the last dimension, in float32. b has a's shape.
template <class F>
Tensor by_rows(const Tensor& a, const Tensor& b, F&& f) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  const auto n = static_cast<size_t>(a.size(-1));
  std::vector<double> out(x.size());
  std::vector<float> p(n), q(n);
  for (size_t at = 0; at + n <= x.size() && n > 0; at += n) {
    for (size_t i = 0; i < n; ++i) p[i] = static_cast<float>(x[at + i]), q[i] = static_cast<float>(y[at + i]);
    const std::vector<float> row = f(p, q);
    std::copy(row.begin(), row.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return tensor(out, a.shape(), {.dtype = float64}).to(a.device());
}

std::vector<float> softmax_row(const std::vector<float>& x, const std::vector<float>&) {
  float top = -std::numeric_limits<float>::infinity();
  for (const float v : x) top = std::max(top, v);
  if (top == -std::numeric_limits<float>::infinity())
    return std::vector<float>(x.size(), 0);  // nothing may be seen: the row is masked later there
  std::vector<float> e;
  for (const float v : x) e.push_back(exp_u10(v - top));
  const float factor = 1 / lane_sum(e);
  for (float& v : e) v *= factor;
  return e;
}

// dx = (dy - Σ dy·y)·y
std::vector<float> backward_row(const std::vector<float>& dy, const std::vector<float>& y) {
  std::vector<float> product;
  for (size_t i = 0; i < y.size(); ++i) product.push_back(dy[i] * y[i]);
  const float total = lane_sum(product);
  std::vector<float> dx;
  for (size_t i = 0; i < y.size(); ++i) dx.push_back((dy[i] - total) * y[i]);
  return dx;
}

}  // namespace

Tensor float32_softmax(const Tensor& scores, const Tensor& may) {
  const Tensor s = masked_fill(scores, logical_not(may), -std::numeric_limits<double>::infinity());
  const Tensor y = by_rows(s.detach(), s.detach(), softmax_row);
  return record("float32_softmax", y, {s}, [](const Tensor& dy, const Tensor& y) -> Grads {
    return {by_rows(dy.detach(), y.detach(), backward_row)};
  });
}

}  // namespace weft::parity
