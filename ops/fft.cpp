#include <weft/autograd/autograd.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/fft.h>
#include <weft/ops/kernel.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft {

// x: [rows, length], any length (cropped or padded to n) -> y: [rows, n/2 + 1, 2], times scale
WEFT_DECLARE_KERNEL(rfft, const Tensor& x, int64_t n, double scale, Tensor& y)
// x: [rows, length, 2] -> y: [rows, n], times scale
WEFT_DECLARE_KERNEL(irfft, const Tensor& x, int64_t n, double scale, Tensor& y)
// u, y: [b, h, n], k: [h, taps], k_rev: [h, taps] or undefined, d: [h] or undefined, gate: [b, h, n] or undefined; all
// contiguous, of one dtype
WEFT_DECLARE_KERNEL(fft_conv, const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d,
                    const Tensor& gate, Tensor& y)
// Gradients that are undefined are not wanted.
WEFT_DECLARE_KERNEL(fft_conv_backward, const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d,
                    const Tensor& gate, const Tensor& dy, Tensor& du, Tensor& dk, Tensor& dk_rev, Tensor& dd,
                    Tensor& dgate)

// --- transforms: each is the other's gradient, up to the weight of a bin ---------------------------------------------

namespace {

Tensor irfft_rows(const Tensor& x, int64_t n, double scale);

// How often a bin of the half spectrum stands in the full one (its mirror counts), or one over that: [n/2 + 1, 1].
Tensor bin_weights(int64_t n, bool inverse, const Tensor& like) {
  std::vector<double> w(static_cast<size_t>(n / 2 + 1), inverse ? 0.5 : 2.0);
  w.front() = 1;
  if (n % 2 == 0) w.back() = 1;
  return tensor(w, {n / 2 + 1, 1}).to(like.dtype()).to(like.device());
}

// Crops or zero-pads one dimension to a size.
Tensor fit(const Tensor& x, int64_t dim, int64_t size) {
  const int64_t now = x.size(dim);
  if (size < now) return slice(x, dim, 0, size);
  if (size == now) return x;
  std::vector<int64_t> amounts(static_cast<size_t>(2 * (x.dim() - wrap_dim(dim, x.dim(), "fit"))), 0);
  amounts.back() = size - now;
  return pad(x, amounts);
}

// x: [rows, length]
Tensor rfft_rows(const Tensor& x0, int64_t n, double scale) {
  const Tensor x = x0.contiguous();
  Tensor y = empty({x.size(0), n / 2 + 1, 2}, x.dtype(), x.device());
  WEFT_KERNEL(x.device(), rfft, x, n, scale, y);
  return record("rfft", y, {x}, [n, scale, length = x.size(1)](const Tensor& dy) -> Grads {
    return {fit(irfft_rows(mul(dy, bin_weights(n, true, dy)), n, scale), 1, length)};
  });
}

// x: [rows, length, 2]
Tensor irfft_rows(const Tensor& x0, int64_t n, double scale) {
  const Tensor x = x0.contiguous();
  Tensor y = empty({x.size(0), n}, x.dtype(), x.device());
  WEFT_KERNEL(x.device(), irfft, x, n, scale, y);
  return record("irfft", y, {x}, [n, scale, length = x.size(1)](const Tensor& dy) -> Grads {
    return {fit(mul(rfft_rows(dy, n, scale), bin_weights(n, false, dy)), 1, length)};
  });
}

double fft_scale(FftNorm norm, bool inverse, int64_t n) {
  if (norm == FftNorm::ortho) return 1 / std::sqrt(static_cast<double>(n));
  return (norm == FftNorm::backward) == inverse ? 1 / static_cast<double>(n) : 1;
}

}  // namespace

Tensor rfft(const Tensor& x0, std::optional<int64_t> n0, int64_t dim, FftNorm norm) {
  check(x0.dim() >= 1, "rfft: expected at least one dimension, got ", x0.shape());
  dim = wrap_dim(dim, x0.dim(), "rfft");
  const int64_t n = n0.value_or(x0.size(dim));
  check(n >= 1, "rfft: expected a length of at least 1, got ", n);
  const Tensor x = movedim(x0.is_floating() ? x0 : x0.to(float32), dim, -1);
  Shape shape = x.shape();
  const int64_t length = shape.back();
  shape.back() = n / 2 + 1;
  shape.push_back(2);
  const int64_t rows = Shape(x.shape().begin(), x.shape().end() - 1).numel();
  return movedim(reshape(rfft_rows(reshape(x, {rows, length}), n, fft_scale(norm, false, n)), shape), -2, dim);
}

Tensor irfft(const Tensor& x0, std::optional<int64_t> n0, int64_t dim, FftNorm norm) {
  check(x0.dim() >= 2 && x0.size(-1) == 2, "irfft: expected [..., bins, 2], got ", x0.shape());
  dim = wrap_dim(dim, x0.dim() - 1, "irfft");
  const int64_t n = n0.value_or(2 * (x0.size(dim) - 1));
  check(n >= 1, "irfft: expected a length of at least 1, got ", n);
  const Tensor x = movedim(x0.is_floating() ? x0 : x0.to(float32), dim, -2);
  Shape shape(x.shape().begin(), x.shape().end() - 1);
  const int64_t length = shape.back();
  shape.back() = n;
  const int64_t rows = Shape(x.shape().begin(), x.shape().end() - 2).numel();
  return movedim(reshape(irfft_rows(reshape(x, {rows, length, 2}), n, fft_scale(norm, true, n)), shape), -1, dim);
}

// --- long convolution ------------------------------------------------------------------------------------------------

namespace {

struct LongConv {
  Tensor u, k, k_rev, d, gate;  // u: [b, h, n], contiguous
};

Tensor long_conv(const LongConv& c);

// Σ_t a[b, h, t]·u[b, h, t - j] for each lag j in [0, n), summed over the batch: a long convolution whose taps are u's
// rows, all turned backwards. -> [h, n]
Tensor correlate(const Tensor& a, const Tensor& u) {
  const int64_t b = u.size(0), h = u.size(1), n = u.size(2);
  const Tensor taps = reshape(u, {b * h, n}), later = slice(taps, 1, 1);
  const Tensor y =
      long_conv({reshape(a, {1, b * h, n}), slice(taps, 1, 0, 1), later.size(1) ? later : Tensor(), {}, {}});
  return sum(reshape(y, {b, h, n}), 0);
}

// The gradients, made of long convolutions and so differentiable again.
Grads long_conv_grads(const LongConv& c, const Tensor& dy0) {
  Grads g(5);
  if (c.gate.defined() && c.gate.requires_grad()) g[4] = mul(dy0, long_conv({c.u, c.k, c.k_rev, c.d, {}}));
  const Tensor dy = c.gate.defined() ? mul(dy0, c.gate) : dy0;
  if (c.u.requires_grad()) {  // every tap at lag j goes to lag -j
    const Tensor now = slice(c.k, 1, 0, 1), later = slice(c.k, 1, 1);
    g[0] = long_conv(
        {dy.contiguous(), c.k_rev.defined() ? cat({now, c.k_rev}, 1) : now, later.size(1) ? later : Tensor(), c.d, {}});
  }
  if (c.k.requires_grad()) g[1] = fit(correlate(dy, c.u), 1, c.k.size(1));
  if (c.k_rev.defined() && c.k_rev.requires_grad()) {
    g[2] = fit(slice(correlate(c.u, dy), 1, 1), 1, c.k_rev.size(1));
  }
  if (c.d.defined() && c.d.requires_grad()) g[3] = sum(mul(dy, c.u), {0, 2});
  return g;
}

Grads fused_long_conv_grads(const LongConv& c, const Tensor& dy) {
  auto wanted = [](const Tensor& x) {
    return x.defined() && x.requires_grad() ? empty(x.shape(), x.dtype(), x.device()) : Tensor();
  };
  Grads g{wanted(c.u), wanted(c.k), wanted(c.k_rev), wanted(c.d), wanted(c.gate)};
  WEFT_KERNEL(dy.device(), fft_conv_backward, c.u, c.k, c.k_rev, c.d, c.gate, dy.contiguous(), g[0], g[1], g[2], g[3],
              g[4]);
  return g;
}

Tensor long_conv(const LongConv& c0) {
  auto contiguous = [](const Tensor& x) { return x.defined() ? x.contiguous() : Tensor(); };
  const LongConv c{contiguous(c0.u), contiguous(c0.k), contiguous(c0.k_rev), contiguous(c0.d), contiguous(c0.gate)};
  Tensor y = empty(c.u.shape(), c.u.dtype(), c.u.device());
  WEFT_KERNEL(y.device(), fft_conv, c.u, c.k, c.k_rev, c.d, c.gate, y);
  return record("fft_conv", y, {c.u, c.k, c.k_rev, c.d, c.gate}, [c](const Tensor& dy) -> Grads {
    return grad_enabled() ? long_conv_grads(c, dy) : fused_long_conv_grads(c, dy);
  });
}

}  // namespace

Tensor fft_conv(const Tensor& u, const Tensor& k, const Tensor& D, const Tensor& k_rev, const Tensor& gate) {
  check(u.dim() >= 2 && u.is_floating(), "fft_conv: expected a floating input [..., channels, n], got ", u.dtype(), " ",
        u.shape());
  const int64_t h = u.size(-2), n = u.size(-1);
  auto check_kernel = [&](const char* name, const Tensor& x, int64_t dims) {
    if (!x.defined()) return;
    check(x.dim() == dims && x.size(0) == h, "fft_conv: ", name, " ", x.shape(), " does not fit input ", u.shape());
    check(x.dtype() == u.dtype(), "fft_conv: dtypes differ: input ", u.dtype(), ", ", name, " ", x.dtype());
  };
  check(k.defined(), "fft_conv: expected a kernel [channels, taps], got none");
  check_kernel("kernel", k, 2);
  check_kernel("reversed kernel", k_rev, 2);
  check_kernel("D", D, 1);
  if (gate.defined()) {
    check(gate.shape() == u.shape(), "fft_conv: gate ", gate.shape(), " does not fit input ", u.shape());
    check(gate.dtype() == u.dtype(), "fft_conv: dtypes differ: input ", u.dtype(), ", gate ", gate.dtype());
  }
  check_same_device("fft_conv", {&u, &k, &D, &k_rev, &gate});
  const int64_t rows = Shape(u.shape().begin(), u.shape().end() - 2).numel();
  auto flat = [&](const Tensor& x) { return x.defined() ? reshape(x, {rows, h, n}) : Tensor(); };
  return reshape(long_conv({flat(u), k, k_rev, D, flat(gate)}), u.shape());
}

}  // namespace weft
