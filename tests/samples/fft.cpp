#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

double scale_of(FftNorm norm, bool inverse, int64_t n) {
  const double length = static_cast<double>(n);
  if (norm == FftNorm::ortho) return 1 / std::sqrt(length);
  return (norm == FftNorm::backward) == inverse ? 1 / length : 1;
}

double angle(int64_t j, int64_t k, int64_t n) {
  return 2 * M_PI * static_cast<double>(j * k % n) / static_cast<double>(n);
}

// x: [rows, length] -> [rows, n/2 + 1, 2], by the definition
Tensor naive_rfft(const Tensor& x, int64_t n, FftNorm norm) {
  const int64_t bins = n / 2 + 1, length = std::min(n, x.size(1));
  return make({x.size(0), bins, 2}, [&](int64_t flat) {
    const int64_t part = flat % 2, k = flat / 2 % bins, row = flat / 2 / bins;
    double s = 0;
    for (int64_t j = 0; j < length; ++j)
      s += at(x, {row, j}) * (part ? -std::sin(angle(j, k, n)) : std::cos(angle(j, k, n)));
    return s * scale_of(norm, false, n);
  });
}

// x: [rows, length, 2] -> [rows, n]: every bin of the full spectrum, the upper half mirrored
Tensor naive_irfft(const Tensor& x, int64_t n, FftNorm norm) {
  const int64_t length = x.size(1);
  return make({x.size(0), n}, [&](int64_t flat) {
    const int64_t j = flat % n, row = flat / n;
    double s = 0;
    for (int64_t k = 0; k < n; ++k) {
      const int64_t bin = std::min(k, n - k);
      if (bin >= length) continue;
      const double re = at(x, {row, bin, 0}), im = bin == 0 || 2 * bin == n ? 0 : at(x, {row, bin, 1});
      s += re * std::cos(angle(j, k, n)) - (k == bin ? im : -im) * std::sin(angle(j, k, n));
    }
    return s * scale_of(norm, true, n);
  });
}

void add_rfft(SampleList& l, const char* variant, int64_t rows, int64_t length, int64_t n,
              FftNorm norm = FftNorm::backward) {
  l.samples.push_back({.op = "rfft",
                       .variant = variant,
                       .inputs = {values({rows, length}, 1)},
                       .call = [=](const Tensors& x) -> Tensors { return {rfft(x[0], n, -1, norm)}; },
                       .reference = [=](const Tensors& x) -> Tensors { return {naive_rfft(x[0], n, norm)}; }});
}
void add_irfft(SampleList& l, const char* variant, int64_t rows, int64_t bins, int64_t n,
               FftNorm norm = FftNorm::backward) {
  l.samples.push_back({.op = "irfft",
                       .variant = variant,
                       .inputs = {values({rows, bins, 2}, 2)},
                       .call = [=](const Tensors& x) -> Tensors { return {irfft(x[0], n, -1, norm)}; },
                       .reference = [=](const Tensors& x) -> Tensors { return {naive_irfft(x[0], n, norm)}; }});
}

// u: [..., h, n], k: [h, taps], d: [h] or undefined, r: [h, taps] or undefined, gate: like u or undefined
Tensor naive_fft_conv(const Tensor& u, const Tensor& k, const Tensor& d, const Tensor& r, const Tensor& gate) {
  const int64_t h = u.size(-2), n = u.size(-1);
  const Tensor rows = u.contiguous().reshape({-1, n});
  const Tensor gates = gate.defined() ? gate.contiguous().reshape({-1, n}) : Tensor();
  return make(u.shape(), [&](int64_t flat) {
    const int64_t t = flat % n, row = flat / n, c = row % h;
    double s = d.defined() ? at(d, {c}) * at(rows, {row, t}) : 0;
    for (int64_t j = 0; j <= t && j < k.size(1); ++j) s += at(k, {c, j}) * at(rows, {row, t - j});
    for (int64_t j = 0; r.defined() && j < r.size(1) && t + 1 + j < n; ++j)
      s += at(r, {c, j}) * at(rows, {row, t + 1 + j});
    return gate.defined() ? s * at(gates, {row, t}) : s;
  });
}

struct ConvShapes {
  Shape u;
  int64_t taps, taps_rev;
  bool skip;
  bool gate = false;
};
void add_fft_conv(SampleList& l, const char* variant, const ConvShapes& s) {
  const int64_t h = s.u[s.u.size() - 2];
  Tensors inputs = {values(s.u, 3), values({h, s.taps}, 4)};
  if (s.skip) inputs.push_back(values({h}, 5));
  if (s.taps_rev) inputs.push_back(values({h, s.taps_rev}, 6));
  if (s.gate) inputs.push_back(values(s.u, 7));
  auto d = [skip = s.skip](const Tensors& x) { return skip ? x[2] : Tensor(); };
  auto r = [=](const Tensors& x) { return s.taps_rev ? x[s.skip ? 3 : 2] : Tensor(); };
  auto gate = [=](const Tensors& x) { return s.gate ? x.back() : Tensor(); };
  l.samples.push_back(
      {.op = "fft_conv",
       .variant = variant,
       .inputs = inputs,
       .call = [=](const Tensors& x) -> Tensors { return {fft_conv(x[0], x[1], d(x), r(x), gate(x))}; },
       .reference = [=](const Tensors& x) -> Tensors { return {naive_fft_conv(x[0], x[1], d(x), r(x), gate(x))}; }});
}

}  // namespace

void fft_samples(SampleList& l) {
  add_rfft(l, "power of two", 3, 16, 16);
  add_rfft(l, "length 1", 2, 1, 1);
  add_rfft(l, "odd", 3, 15, 15);
  add_rfft(l, "prime", 2, 17, 17);
  add_rfft(l, "prime factor above 13", 2, 34, 34);
  add_rfft(l, "zero-padded", 2, 5, 12);
  add_rfft(l, "cropped", 2, 12, 7);
  add_rfft(l, "no rows", 0, 8, 8);
  add_rfft(l, "ortho", 2, 10, 10, FftNorm::ortho);
  add_rfft(l, "forward", 2, 9, 9, FftNorm::forward);
  l.samples.push_back({.op = "rfft",
                       .variant = "first of two dimensions",
                       .inputs = {values({6, 3}, 1)},
                       .call = [](const Tensors& x) -> Tensors { return {rfft(x[0], {}, 0)}; },
                       .reference = [](const Tensors& x) -> Tensors {
                         const Tensor y = naive_rfft(x[0].t().contiguous(), 6, FftNorm::backward);  // [3, 4, 2]
                         return {y.transpose(0, 1).contiguous()};
                       }});
  l.errors.push_back({"rfft", [] { rfft(zeros({2, 3}), 0); }, "rfft: expected a length of at least 1, got 0"});

  add_irfft(l, "power of two", 3, 9, 16);
  add_irfft(l, "length 1", 2, 1, 1);
  add_irfft(l, "odd", 2, 8, 15);
  add_irfft(l, "prime", 2, 9, 17);
  add_irfft(l, "zero-padded", 2, 3, 12);
  add_irfft(l, "cropped", 2, 9, 8);
  add_irfft(l, "ortho", 2, 6, 10, FftNorm::ortho);
  add_irfft(l, "forward", 2, 5, 9, FftNorm::forward);
  l.samples.push_back({.op = "irfft",
                       .variant = "first dimension, length by default",
                       .inputs = {values({4, 3, 2}, 2)},
                       .call = [](const Tensors& x) -> Tensors { return {irfft(x[0], {}, 0)}; },
                       .reference = [](const Tensors& x) -> Tensors {
                         const Tensor y =
                             naive_irfft(x[0].transpose(0, 1).contiguous(), 6, FftNorm::backward);  // [3, 6]
                         return {y.t().contiguous()};
                       }});
  l.errors.push_back({"irfft", [] { irfft(zeros({2, 3})); }, "irfft: expected [..., bins, 2], got [2, 3]"});

  add_fft_conv(l, "kernel as long as the input", {{2, 3, 8}, 8, 0, false});
  add_fft_conv(l, "shorter kernel, skip", {{2, 3, 9}, 4, 0, true});
  add_fft_conv(l, "longer kernel", {{2, 2, 5}, 9, 0, true});
  add_fft_conv(l, "both sides", {{2, 2, 7}, 7, 7, true});
  add_fft_conv(l, "both sides, shorter and longer", {{1, 2, 6}, 3, 8, false});
  add_fft_conv(l, "one tap", {{2, 2, 5}, 1, 0, false});
  add_fft_conv(l, "length 1", {{2, 3, 1}, 2, 2, true});
  add_fft_conv(l, "without batch dimension", {{3, 10}, 10, 0, true});
  add_fft_conv(l, "two batch dimensions", {{2, 2, 2, 6}, 6, 0, false});
  add_fft_conv(l, "gate", {{2, 3, 7}, 7, 0, false, true});
  add_fft_conv(l, "gate, both sides, skip", {{3, 2, 6}, 4, 9, true, true});
  add_fft_conv(l, "empty batch", {{0, 2, 6}, 3, 2, true});
  l.errors.push_back({"fft_conv",
                      [] {
                        fft_conv(zeros({2, 3, 8}), zeros({4, 8}));
                      },
                      "fft_conv: kernel [4, 8] does not fit input [2, 3, 8]"});
  l.errors.push_back({"fft_conv",
                      [] {
                        fft_conv(zeros({2, 3, 8}), zeros({3, 8}), {}, {}, zeros({3, 8}));
                      },
                      "fft_conv: gate [3, 8] does not fit input [2, 3, 8]"});
  l.errors.push_back({"fft_conv",
                      [] {
                        fft_conv(zeros({2, 3, 8}), zeros({3, 8}), {}, {}, zeros({2, 3, 8}, {.dtype = float64}));
                      },
                      "fft_conv: dtypes differ: input float32, gate float64"});
}

}  // namespace weft::test
