// A thread turns a few pairs, or copies a few of the features that stay.
#include <weft/cuda/rows.cuh>

#include <cmath>

namespace weft::cuda {

namespace {

struct Positions {
  int64_t rows, n, inner, per_batch;  // row r is at position r / inner % n of batch r / per_batch
  int pairs, d;
  bool inverse;

  __device__ int64_t table(int64_t r) const { return (r / per_batch * n + r / inner % n) * pairs; }
};

// P pairs a thread. Pairs of neighbours lie in one pack of 2P elements, those of halves in two of P; a single pair is
// read element by element. What follows the pairs is copied W elements a thread.
template <class T, bool halves, int P>
__global__ void rotary_kernel(Positions p, const T* x, const acc_t<T>* angles, const acc_t<T>* scale, T* y) {
  using C = acc_t<T>;
  constexpr int W = P == 1 ? 1 : kPack<T>;
  const int turning = p.pairs / P, units = turning + (p.d - 2 * p.pairs) / W;
  WEFT_GRID_LOOP(i, p.rows * units) {
    const int64_t row = i / units;
    const int u = static_cast<int>(i % units);
    const T* in = x + row * p.d;
    T* out = y + row * p.d;
    if (u >= turning) {
      const int at = 2 * p.pairs + (u - turning) * W;
      *reinterpret_cast<RowPack<T, W>*>(out + at) = *reinterpret_cast<const RowPack<T, W>*>(in + at);
      continue;
    }
    const int k = u * P;
    const int64_t table = p.table(row) + k;
    constexpr bool together = !halves && P > 1;
    const int first = halves ? k : 2 * k, second = halves ? p.pairs + k : 2 * k + 1;
    RowPack<T, P> a, b;
    if constexpr (together) {
      const auto both = *reinterpret_cast<const RowPack<T, 2 * P>*>(in + first);
#pragma unroll
      for (int j = 0; j < P; ++j) a.v[j] = both.v[2 * j], b.v[j] = both.v[2 * j + 1];
    } else {
      a = *reinterpret_cast<const RowPack<T, P>*>(in + first);
      b = *reinterpret_cast<const RowPack<T, P>*>(in + second);
    }
#pragma unroll
    for (int j = 0; j < P; ++j) {
      C s, c;
      sine_cosine(angles[table + j], s, c);
      const C factor = scale ? scale[table + j] : C(1);
      s *= p.inverse ? -factor : factor;
      c *= factor;
      const C va = widen(a.v[j]), vb = widen(b.v[j]);
      a.v[j] = narrow<T>(va * c - vb * s);
      b.v[j] = narrow<T>(vb * c + va * s);
    }
    if constexpr (together) {
      RowPack<T, 2 * P> both;
#pragma unroll
      for (int j = 0; j < P; ++j) both.v[2 * j] = a.v[j], both.v[2 * j + 1] = b.v[j];
      *reinterpret_cast<RowPack<T, 2 * P>*>(out + first) = both;
    } else {
      *reinterpret_cast<RowPack<T, P>*>(out + first) = a;
      *reinterpret_cast<RowPack<T, P>*>(out + second) = b;
    }
  }
}

}  // namespace

void rotary(const Tensor& x, const Tensor& angles, const Tensor& scale, bool inverse, bool halves, int64_t n,
            int64_t inner, Tensor& y) {
  DeviceScope scope(x);
  const int64_t d = x.shape().back(), pairs = angles.shape()[2], rows = x.numel() / d;
  const Positions p{rows, n, inner, rows / angles.shape()[0], static_cast<int>(pairs), static_cast<int>(d), inverse};
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    constexpr int V = kPack<T>;
    const bool packed = packs(x, d) && packs(y, d) && (2 * pairs) % V == 0 && (!halves || pairs % V == 0);
    const auto run = [&](auto kernel, int64_t at_a_time, int64_t copied) {
      launch("rotary", rows * (pairs / at_a_time + (d - 2 * pairs) / copied), kernel, p, x.data<T>(), angles.data<C>(),
             scale.defined() ? scale.data<C>() : nullptr, y.data<T>());
    };
    if (!packed || V == 2)
      halves ? run(rotary_kernel<T, true, 1>, 1, 1) : run(rotary_kernel<T, false, 1>, 1, 1);
    else
      halves ? run(rotary_kernel<T, true, V>, V, V) : run(rotary_kernel<T, false, V / 2>, V / 2, V);
  });
}

}  // namespace weft::cuda
