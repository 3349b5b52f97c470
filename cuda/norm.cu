#include <weft/ops/norm_kind.h>
#include <weft/cuda/block.cuh>

#include <cmath>

namespace weft::cuda {

namespace {

struct Vector {
  Data data;
  int64_t stride;
  template <class C>
  __device__ C at(int64_t i, C otherwise) const {
    return data.data ? data.load<C>(i * stride) : otherwise;
  }
};
// x: contiguous or undefined
Vector vector(const Tensor& x) { return {data_of(x), 1}; }
Tensor plain(const Tensor& x) { return x.defined() ? x.contiguous() : x; }

template <class C>
__global__ void norm_kernel(NormKind kind, Data x, int64_t rows, int64_t n, Vector weight, Vector bias, C eps, Data y,
                            C* stats) {
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(row, rows) {
    C mean = 0, power = 0;
    if (kind == NormKind::layer) {
      WEFT_THREAD_LOOP(i, n) mean += x.load<C>(row * n + i);
      mean = block_sum(mean, part) / C(n);
    }
    WEFT_THREAD_LOOP(i, n) {
      const C v = x.load<C>(row * n + i) - mean;
      power += v * v;
    }
    power = block_sum(power, part);
    if (kind != NormKind::l2) power /= C(n);
    const bool limited = kind == NormKind::scale || kind == NormKind::l2;
    const C root = ::sqrt(limited ? power : power + eps), r = C(1) / (limited && root < eps ? eps : root);
    WEFT_THREAD_LOOP(i, n)
    y.store(row * n + i, (x.load<C>(row * n + i) - mean) * r * weight.at(i, C(1)) + bias.at(i, C(0)));
    if (threadIdx.x == 0) stats[row] = mean, stats[rows + row] = r;
  }
}

// With x̂ = (x - mean)·r and h = dy·weight: dx = r·(h - c1 - x̂·c2), as on the CPU.
template <class C>
__global__ void norm_dx_kernel(NormKind kind, Data x, int64_t rows, int64_t n, Vector weight, C eps, const C* stats,
                               Data dy, Data dx) {
  __shared__ C part[kThreads];
  const bool limited = kind == NormKind::scale || kind == NormKind::l2;
  WEFT_ROW_LOOP(row, rows) {
    const C mean = stats[row], r = stats[rows + row];
    C c1 = 0, c2 = 0;
    WEFT_THREAD_LOOP(i, n) {
      const C h = dy.load<C>(row * n + i) * weight.at(i, C(1));
      c1 += h;
      c2 += h * ((x.load<C>(row * n + i) - mean) * r);
    }
    c1 = block_sum(c1, part), c2 = block_sum(c2, part);
    c1 = kind == NormKind::layer ? c1 / C(n) : C(0);
    c2 = limited && !(r < C(1) / eps) ? C(0) : kind == NormKind::l2 ? c2 : c2 / C(n);
    WEFT_THREAD_LOOP(i, n) {
      const C h = dy.load<C>(row * n + i) * weight.at(i, C(1));
      dx.store(row * n + i, (h - c1 - (x.load<C>(row * n + i) - mean) * r * c2) * r);
    }
  }
}

// A block a column: dweight = Σ dy·x̂, dbias = Σ dy over rows.
template <class C>
__global__ void norm_dw_kernel(Data x, int64_t rows, int64_t n, const C* stats, Data dy, C* dweight, C* dbias) {
  __shared__ C part[kThreads];
  WEFT_ROW_LOOP(i, n) {
    C w = 0, b = 0;
    WEFT_THREAD_LOOP(row, rows) {
      const C g = dy.load<C>(row * n + i);
      w += g * ((x.load<C>(row * n + i) - stats[row]) * stats[rows + row]);
      b += g;
    }
    w = block_sum(w, part), b = block_sum(b, part);
    if (threadIdx.x == 0) {
      if (dweight) dweight[i] = w;
      if (dbias) dbias[i] = b;
    }
  }
}

}  // namespace

void norm(NormKind kind, const Tensor& x, int64_t n, const Tensor& weight0, const Tensor& bias0, double eps, Tensor& y,
          Tensor& stats) {
  const Tensor weight = plain(weight0), bias = plain(bias0);
  DeviceScope scope(x);
  const int64_t rows = x.numel() / n;
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    launch_rows("norm", rows, norm_kernel<C>, kind, data_of(x), rows, n, vector(weight), vector(bias), C(eps),
                data_of(y), stats.data<C>());
  });
}

void norm_backward(NormKind kind, const Tensor& x, int64_t n, const Tensor& weight0, double eps, const Tensor& stats,
                   const Tensor& dy, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  const Tensor weight = plain(weight0);
  DeviceScope scope(x);
  const int64_t rows = x.numel() / n;
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    launch_rows("norm", rows, norm_dx_kernel<C>, kind, data_of(x), rows, n, vector(weight), C(eps), stats.data<C>(),
                data_of(dy), data_of(dx));
    if (!dweight.defined() && !dbias.defined()) return;
    launch_rows("norm", n, norm_dw_kernel<C>, data_of(x), rows, n, stats.data<C>(), data_of(dy),
                dweight.defined() ? dweight.data<C>() : nullptr, dbias.defined() ? dbias.data<C>() : nullptr);
  });
}

}  // namespace weft::cuda
