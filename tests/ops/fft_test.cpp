#include <doctest/doctest.h>
#include <weft/weft.h>

#include <cmath>

#include "support/sample.h"

namespace {

using namespace weft;
using test::values;

double distance(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  REQUIRE(a.shape() == b.shape());
  double diff = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) diff += (x[i] - y[i]) * (x[i] - y[i]), norm += y[i] * y[i];
  return std::sqrt(diff / norm);
}

/// Product of complex numbers in the last dimension.
Tensor complex_mul(const Tensor& a, const Tensor& b) {
  const Tensor ar = select(a, -1, 0), ai = select(a, -1, 1), br = select(b, -1, 0), bi = select(b, -1, 1);
  return stack({ar * br - ai * bi, ar * bi + ai * br}, -1);
}

/// SGConv's own way: everything zero-padded to twice the length, the reversed taps at the end.
Tensor composed_conv(const Tensor& u, const Tensor& k, const Tensor& D, const Tensor& k_rev) {
  const int64_t n = u.size(-1);
  auto cropped = [n](const Tensor& x) { return pad(x, {0, n - x.size(-1)}); };
  Tensor both = pad(cropped(k), {0, n});
  if (k_rev.defined()) {
    Tensors reversed;
    for (int64_t j = n - 1; j >= 0; --j) reversed.push_back(slice(cropped(k_rev), -1, j, j + 1));
    both = both + pad(cat(reversed, -1), {n, 0});
  }
  const Tensor y = slice(irfft(complex_mul(rfft(u, 2 * n), rfft(both)), 2 * n), -1, 0, n);
  return y + u * unsqueeze(D, -1);
}

}  // namespace

TEST_CASE("fft_conv: equals its composition of transforms, and so do its gradients, fused and of second order") {
  for (int64_t taps : {5, 12, 20}) {
    for (int variant = 0; variant < 4; ++variant) {
      const bool both_sides = variant % 2, gated = variant / 2;
      CAPTURE(taps);
      CAPTURE(both_sides);
      CAPTURE(gated);
      Tensors in = {values({2, 3, 12}, 1), values({3, taps}, 2), values({3}, 3)};
      if (both_sides) in.push_back(values({3, taps}, 4));
      if (gated) in.push_back(values({2, 3, 12}, 6));
      for (Tensor& x : in) x.requires_grad_();
      const Tensor k_rev = both_sides ? in[3] : Tensor(), up = values({2, 3, 12}, 5);
      const Tensor gate = gated ? in.back() : Tensor();
      const Tensor y = fft_conv(in[0], in[1], in[2], k_rev, gate);
      const Tensor plain = composed_conv(in[0], in[1], in[2], k_rev), want = gated ? plain * gate : plain;
      CHECK(distance(y, want) < 1e-14);
      const Tensors fused = grad({y}, in, {up}, {.retain_graph = true});
      const Tensors composed = grad({want}, in, {up}, {.retain_graph = true});
      const Tensors recorded = grad({y}, in, {up}, {.create_graph = true});
      const Tensors recorded_want = grad({want}, in, {up}, {.create_graph = true});
      Tensor a = scalar(0, {.dtype = float64}), b = a;
      for (size_t i = 0; i < in.size(); ++i) {
        CHECK(distance(fused[i], composed[i]) < 1e-13);
        CHECK(distance(recorded[i], composed[i]) < 1e-13);
        a = a + sum(recorded[i] * recorded[i]);
        b = b + sum(recorded_want[i] * recorded_want[i]);
      }
      const Tensors second = grad({a}, in), second_want = grad({b}, in);
      for (size_t i = 0; i < in.size(); ++i) CHECK(distance(second[i], second_want[i]) < 1e-12);
    }
  }
}

TEST_CASE("fft: the inverse undoes the transform along any dimension and for any norm") {
  const Tensor x = values({4, 9, 3}, 1);
  for (FftNorm norm : {FftNorm::backward, FftNorm::ortho, FftNorm::forward}) {
    for (int64_t dim : {0, 1, -1}) {
      CHECK(distance(irfft(rfft(x, {}, dim, norm), x.size(dim), dim, norm), x) < 1e-14);
    }
  }
}

TEST_CASE("fft_conv: SGConv's kernel of interpolated, decaying parts trains all of them") {
  // three parts of 4 taps, stretched to 4, 4 and 8, each half as loud as the next shorter one
  Tensors parts;
  for (uint64_t i = 0; i < 3; ++i) parts.push_back(values({2, 4}, i + 1));
  for (Tensor& p : parts) p.requires_grad_();
  Tensors stretched;
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t times = int64_t{1} << std::max<int64_t>(0, i - 1);
    stretched.push_back(interpolate1d(parts[static_cast<size_t>(i)], 4 * times) *
                        std::pow(2.0, static_cast<double>(2 - i)));
  }
  const Tensor k = cat(stretched, -1);
  CHECK(k.shape() == Shape{2, 16});
  const Tensor norm = sqrt(sum(k * k, -1, keepdim)).detach();
  for (int64_t n : {10, 16, 21}) {
    const Tensor u = values({3, 2, n}, 9), D = values({2}, 10);
    const Tensor y = fft_conv(u, k / norm, D);
    CHECK(y.shape() == u.shape());
    for (const Tensor& g : grad({sum(y * y)}, parts, {}, {.retain_graph = true})) CHECK(sum(g * g).item() > 0);
  }
}
