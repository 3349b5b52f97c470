// A row that fits into registers is read once and written once, each way; the sums over rows that weight and bias get
// are kept by each block and added up by a second kernel. Other rows (float64, very long ones) take a block and several
// passes.
#include <weft/ops/norm_kind.h>
#include <weft/cuda/rows.cuh>

#include <cmath>

namespace weft::cuda {

namespace {

// What all kernels here get. x̂ = (x - mean)·r, y = x̂·(weight + offset) + bias.
template <class C>
struct Norm {
  NormKind kind;
  int64_t rows, n;
  Data weight, bias;  // contiguous, or no data: 0
  C eps, offset;      // offset: 1 where there is no weight
  C* stats;           // [2, rows]: mean, r

  __host__ __device__ bool limited() const { return kind == NormKind::scale || kind == NormKind::l2; }
  // From Σ (x - mean)².
  __device__ C scale(C power) const {
    if (kind != NormKind::l2) power /= C(n);
    const C root = ::sqrt(limited() ? power : power + eps);
    return C(1) / (limited() && root < eps ? eps : root);
  }
  // From Σ h and Σ h·x̂ with h = dy·(weight + offset), the c of dx = r·(h - c[0] - x̂·c[1]), as on the CPU.
  __device__ void coefficients(C r, C (&c)[2]) const {
    c[0] = kind == NormKind::layer ? c[0] / C(n) : C(0);
    c[1] = limited() && !(r < C(1) / eps) ? C(0) : kind == NormKind::l2 ? c[1] : c[1] / C(n);
  }
  __device__ C factor(int64_t i) const { return weight.data ? weight.load<C>(i) + offset : offset; }
  __device__ C shift(int64_t i) const { return bias.data ? bias.load<C>(i) : C(0); }
};

// A parameter as the kernels read it: of x's dtype or float32.
Tensor plain(const Tensor& p, const Tensor& x) {
  if (!p.defined()) return p;
  return (p.dtype() == x.dtype() || x.dtype() == float64 ? p : p.to(float32)).contiguous();
}

// --- rows in registers -----------------------------------------------------------------------------------------------

// That a multiprocessor has at least, for loads enough under way.
template <class S>
constexpr int kForwardThreads = S::E <= 8    ? 1536
                                : S::E <= 24 ? 1024
                                             : 768;

// residual, sum: none, or what is normalised is sum = x + residual, as its dtype holds it. Blocks are small and many:
// where one ends the next one loads.
template <class T, class S>
__global__ void __launch_bounds__(S::threads, kForwardThreads<S> / S::threads)
    norm_kernel(Norm<float> a, const T* x, const T* residual, T* sum, T* y) {
  __shared__ float part[kThreads / 32];
  const int n = static_cast<int>(a.n);
  for (int64_t row = S::first(); row < a.rows; row += S::step()) {
    // Load.
    float v[S::E];
    load_row<S>(x + row * n, n, v);
    if (residual) {
      float more[S::E];
      load_row<S>(residual + row * n, n, more);
#pragma unroll
      for (int e = 0; e < S::E; ++e) v[e] = widen(narrow<T>(v[e] + more[e]));
      store_row<S>(sum + row * n, n, v);
    }

    // Statistics.
    float mean = 0, power = 0;
    if (a.kind == NormKind::layer) {
#pragma unroll
      for (int e = 0; e < S::E; ++e) mean += v[e];
      mean = S::sum(mean, part) / static_cast<float>(n);
    }
    each_pack<S>(n, [&](int k, int) {
#pragma unroll
      for (int e = k * S::V; e < (k + 1) * S::V; ++e) power += (v[e] - mean) * (v[e] - mean);
    });
    const float r = a.scale(S::sum(power, part));
    if (S::thread() == 0) a.stats[row] = mean, a.stats[a.rows + row] = r;

    // Result.
    each_pack<S>(n, [&](int k, int i) {
      float* p = v + k * S::V;
      float w[S::V], b[S::V];
#pragma unroll
      for (int j = 0; j < S::V; ++j) w[j] = b[j] = 0;
      if (a.weight.data) load_pack<T>(a.weight, i, w);
      if (a.bias.data) load_pack<T>(a.bias, i, b);
#pragma unroll
      for (int j = 0; j < S::V; ++j) p[j] = (p[j] - mean) * r * (w[j] + a.offset) + b[j];
    });
    store_row<S>(y + row * n, n, v);
  }
}

// One block's sums over its rows: over the warps that share columns, in order.
template <class S>
__device__ void store_sums(int n, const float (&sum)[S::E], float* out) {
  if constexpr (S::rows == 1) {
    each_pack<S>(n, [&](int k, int i) {
#pragma unroll
      for (int j = 0; j < S::V; ++j) out[i + j] = sum[k * S::V + j];
    });
  } else {
    __shared__ float columns[S::rows][S::G * S::E];
    __syncthreads();  // they have been read by those before
    each_pack<S>(n, [&](int k, int i) {
#pragma unroll
      for (int j = 0; j < S::V; ++j) columns[threadIdx.x / S::G][i + j] = sum[k * S::V + j];
    });
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += S::threads) {
      float total = 0;
#pragma unroll
      for (int g = 0; g < S::rows; ++g) total += columns[g][i];
      out[i] = total;
    }
  }
}

// The kernel below stays for all rows, with as many threads on a multiprocessor as its registers leave room for. Where
// a warp takes a row they are one block: fewer partial sums.
template <class T, class S>
constexpr int kWarps = (S::E <= 8    ? 24
                        : S::E <= 16 ? 16
                        : S::E <= 24 ? 12
                                     : 8) -
                       (sizeof(T) > 2 && S::E <= 24 ? 4 : 0);
template <class T, class S>
using BackwardShape = std::conditional_t<S::G == 32, RowShape<32, S::E, S::V, 32 * kWarps<T, S>>, S>;
template <class S>
constexpr int kResident = S::G > 32 && S::E <= 8 ? 3 : 1;

// partial: [2, blocks, n], a block's Σ dy·x̂ and Σ dy over its rows; none where it is not wanted.
template <class T, class S>
__global__ void __launch_bounds__(S::threads, kResident<S>)
    norm_backward_kernel(Norm<float> a, const T* x, const T* dy, const T* dsum, T* dx, float* partial_w,
                         float* partial_b) {
  __shared__ float part[kThreads / 32];
  const int n = static_cast<int>(a.n);
  float dw[S::E] = {}, db[S::E] = {};
  RawRow<S, T> next_x, next_dy;
  float next_mean = 0, next_r = 0;
  const auto ask = [&](int64_t row) {
    if (row >= a.rows) return;
    next_x.load(x + row * n, n), next_dy.load(dy + row * n, n);
    next_mean = a.stats[row], next_r = a.stats[a.rows + row];
  };
  ask(S::first());
  for (int64_t row = S::first(); row < a.rows; row += S::step()) {
    // Load: x becomes x̂.
    float v[S::E], g[S::E];
    const float mean = next_mean, r = next_r;
    next_x.get(v), next_dy.get(g);
    ask(row + S::step());
    // Sums: over rows as they are, over the row with g as h = dy·(weight + offset).
    float c[2] = {0, 0};
    each_pack<S>(n, [&](int k, int i) {
      float w[S::V];
#pragma unroll
      for (int j = 0; j < S::V; ++j) w[j] = 0;
      if (a.weight.data) load_pack<T>(a.weight, i, w);
#pragma unroll
      for (int j = 0; j < S::V; ++j) {
        const int e = k * S::V + j;
        v[e] = (v[e] - mean) * r;
        dw[e] += g[e] * v[e];
        db[e] += g[e];
        g[e] *= w[j] + a.offset;
        c[0] += g[e];
        c[1] += g[e] * v[e];
      }
    });
    c[0] = S::sum(c[0], part);
    c[1] = S::sum(c[1], part);
    a.coefficients(r, c);
    // Result.
#pragma unroll
    for (int e = 0; e < S::E; ++e) g[e] = (g[e] - c[0] - v[e] * c[1]) * r;
    if (dsum) {
      load_row<S>(dsum + row * n, n, v);
#pragma unroll
      for (int e = 0; e < S::E; ++e) g[e] += v[e];
    }
    store_row<S>(dx + row * n, n, g);
  }
  if (partial_w) store_sums<S>(n, dw, partial_w + int64_t{blockIdx.x} * n);
  if (partial_b) store_sums<S>(n, db, partial_b + int64_t{blockIdx.x} * n);
}

// --- rows in several passes ------------------------------------------------------------------------------------------

template <class C>
__global__ void norm_passes_kernel(Norm<C> a, Data x, Data residual, Data sum, Data y) {
  __shared__ C part[kThreads / 32];
  WEFT_ROW_LOOP(row, a.rows) {
    const int64_t at = row * a.n;
    if (residual.data) {  // a thread meets its own elements again
      WEFT_THREAD_LOOP(i, a.n) sum.store(at + i, x.load<C>(at + i) + residual.load<C>(at + i));
    }
    const Data in = residual.data ? sum : x;
    C mean = 0, power = 0;
    if (a.kind == NormKind::layer) {
      WEFT_THREAD_LOOP(i, a.n) mean += in.load<C>(at + i);
      mean = block_sum(mean, part) / C(a.n);
    }
    WEFT_THREAD_LOOP(i, a.n) {
      const C v = in.load<C>(at + i) - mean;
      power += v * v;
    }
    const C r = a.scale(block_sum(power, part));
    WEFT_THREAD_LOOP(i, a.n) y.store(at + i, (in.load<C>(at + i) - mean) * r * a.factor(i) + a.shift(i));
    if (threadIdx.x == 0) a.stats[row] = mean, a.stats[a.rows + row] = r;
  }
}

template <class C>
__global__ void norm_dx_kernel(Norm<C> a, Data x, Data dy, Data dsum, Data dx) {
  __shared__ C part[kThreads / 32];
  WEFT_ROW_LOOP(row, a.rows) {
    const int64_t at = row * a.n;
    const C mean = a.stats[row], r = a.stats[a.rows + row];
    C c[2] = {0, 0};
    WEFT_THREAD_LOOP(i, a.n) {
      const C h = dy.load<C>(at + i) * a.factor(i);
      c[0] += h;
      c[1] += h * ((x.load<C>(at + i) - mean) * r);
    }
    c[0] = block_sum(c[0], part), c[1] = block_sum(c[1], part);
    a.coefficients(r, c);
    WEFT_THREAD_LOOP(i, a.n) {
      const C h = dy.load<C>(at + i) * a.factor(i);
      const C more = dsum.data ? dsum.load<C>(at + i) : C(0);
      dx.store(at + i, (h - c[0] - (x.load<C>(at + i) - mean) * r * c[1]) * r + more);
    }
  }
}

// A thread a column, a block (in y) each `chunk` rows: partial as above.
template <class C>
__global__ void norm_dw_kernel(Norm<C> a, int64_t chunk, Data x, Data dy, C* partial_w, C* partial_b) {
  const int64_t first = blockIdx.y * chunk, last = first + chunk < a.rows ? first + chunk : a.rows;
  WEFT_GRID_LOOP(i, a.n) {
    C w = 0, b = 0;
    for (int64_t row = first; row < last; ++row) {
      const C g = dy.load<C>(row * a.n + i);
      w += g * ((x.load<C>(row * a.n + i) - a.stats[row]) * a.stats[a.rows + row]);
      b += g;
    }
    if (partial_w) partial_w[blockIdx.y * a.n + i] = w;
    if (partial_b) partial_b[blockIdx.y * a.n + i] = b;
  }
}

// --- the second stage: sums over blocks ------------------------------------------------------------------------------

// partial: [blocks, n] → out [n]. 32 columns a block, whose 32 warps take every 32nd row; y of the grid: weight, bias.
template <class C>
__global__ void __launch_bounds__(1024)
    sum_blocks_kernel(const C* partial_w, const C* partial_b, int blocks, int64_t n, C* dweight, C* dbias) {
  __shared__ C part[32][33];
  const C* partial = blockIdx.y == 0 ? partial_w : partial_b;
  C* out = blockIdx.y == 0 ? dweight : dbias;
  if (!partial) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t i = int64_t{blockIdx.x} * 32 + lane;
  C total = 0;
  if (i < n) {
#pragma unroll 4
    for (int b = warp; b < blocks; b += 32) total += partial[b * n + i];
  }
  part[warp][lane] = total;
  __syncthreads();
  const C sum = warp_reduce(part[lane][warp], [](C a, C b) { return a + b; });  // of column `warp`
  const int64_t column = int64_t{blockIdx.x} * 32 + warp;
  if (lane == 0 && column < n) out[column] = sum;
}

template <class C>
struct Partial {  // [blocks, n] each, or none
  int blocks;
  Tensor memory;
  C *w = nullptr, *b = nullptr;

  Partial(int blocks, int64_t n, const Tensor& dweight, const Tensor& dbias) : blocks(blocks) {
    const int64_t size = blocks * n, count = int64_t{dweight.defined()} + int64_t{dbias.defined()};
    if (count == 0) return;
    memory = empty({count * size}, dtype_of<C>(), (dweight.defined() ? dweight : dbias).device());
    C* next = memory.data<C>();
    if (dweight.defined()) w = next, next += size;
    if (dbias.defined()) b = next;
  }
  void sum(int64_t n, Tensor& dweight, Tensor& dbias) const {
    if (!w && !b) return;
    const dim3 grid(static_cast<unsigned>((n + 31) / 32), 2);
    sum_blocks_kernel<C>
        <<<grid, 1024, 0, stream()>>>(w, b, blocks, n, w ? dweight.data<C>() : nullptr, b ? dbias.data<C>() : nullptr);
    check_cuda(cudaGetLastError(), "norm");
  }
};

template <class C>
Norm<C> arguments(const NormArgs& args, const Tensor& x, int64_t n, const Tensor& weight, const Tensor& bias,
                  const Tensor& stats) {
  const C offset = weight.defined() ? C(args.offset) : C(1);
  return {args.kind, x.numel() / n, n, data_of(weight), data_of(bias), C(args.eps), offset, stats.data<C>()};
}

template <class T>
T* pointer(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

bool aligned(const Tensor& x) { return !x.defined() || reinterpret_cast<uintptr_t>(x.raw_data()) % 16 == 0; }

}  // namespace

void norm(const NormArgs& args, const Tensor& x, const Tensor& residual, int64_t n, const Tensor& weight0,
          const Tensor& bias0, Tensor& sum, Tensor& y, Tensor& stats) {
  DeviceScope scope(x);
  const Tensor weight = plain(weight0, x), bias = plain(bias0, x);
  const bool packed = packs(x, n) && packs(residual, n) && packs(y, n) && aligned(weight) && aligned(bias);
  const bool done = float_rows(x.dtype(), [&]<class T>(Type<T>) {
    const auto a = arguments<float>(args, x, n, weight, bias, stats);
    return in_registers<T, 128>(n, packed, [&]<class S>(S) {
      norm_kernel<T, S><<<row_blocks<S>(a.rows, 132 * 32), S::threads, 0, stream()>>>(
          a, x.data<T>(), pointer<T>(residual), pointer<T>(sum), y.data<T>());
      check_cuda(cudaGetLastError(), "norm");
    });
  });
  if (done) return;
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    const auto a = arguments<C>(args, x, n, weight, bias, stats);
    launch_rows("norm", a.rows, norm_passes_kernel<C>, a, data_of(x), data_of(residual), data_of(sum), data_of(y));
  });
}

void norm_backward(const NormArgs& args, const Tensor& x, int64_t n, const Tensor& weight0, const Tensor& stats,
                   const Tensor& dy, const Tensor& dsum, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  DeviceScope scope(x);
  const Tensor weight = plain(weight0, x);
  const bool packed = packs(x, n) && packs(dy, n) && packs(dsum, n) && packs(dx, n) && aligned(weight);
  const bool done = float_rows(x.dtype(), [&]<class T>(Type<T>) {
    const auto a = arguments<float>(args, x, n, weight, {}, stats);
    return in_registers<T>(n, packed, [&]<class Shape>(Shape) {
      using S = BackwardShape<T, Shape>;
      const Partial<float> partial(row_blocks<S>(a.rows, 132 * kResident<S>), n, dweight, dbias);
      norm_backward_kernel<T, S><<<partial.blocks, S::threads, 0, stream()>>>(
          a, x.data<T>(), dy.data<T>(), pointer<T>(dsum), dx.data<T>(), partial.w, partial.b);
      check_cuda(cudaGetLastError(), "norm");
      partial.sum(n, dweight, dbias);
    });
  });
  if (done) return;
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    const auto a = arguments<C>(args, x, n, weight, {}, stats);
    launch_rows("norm", a.rows, norm_dx_kernel<C>, a, data_of(x), data_of(dy), data_of(dsum), data_of(dx));
    if (!dweight.defined() && !dbias.defined()) return;
    const int64_t chunk = std::max<int64_t>(16, (a.rows + 63) / 64);
    const Partial<C> partial(static_cast<int>((a.rows + chunk - 1) / chunk), n, dweight, dbias);
    const dim3 grid(blocks_for(n), partial.blocks);
    norm_dw_kernel<C><<<grid, kThreads, 0, stream()>>>(a, chunk, data_of(x), data_of(dy), partial.w, partial.b);
    check_cuda(cudaGetLastError(), "norm");
    partial.sum(n, dweight, dbias);
  });
}

}  // namespace weft::cuda
