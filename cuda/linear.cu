// Dense layers. What cuBLASLt can do to a product on its way out, it does; the rest is done by two kernels:
//
//   finish   y = activation(z + bias)                             reads z once, writes y (and z + bias on request)
//   grad     dz = dy·activation'(saved), db = column sums of dz   reads dy and saved once, writes dz
//
// Both move 16 bytes a thread where the addresses allow. Column sums are taken in two steps, each in a fixed order: the
// blocks of `grad` sum the rows they own, `add_parts` adds up the blocks. Sums are float32 (float64 for float64).
#include <weft/cuda/blas.h>
#include <weft/ops/copy.h>
#include <weft/ops/elementwise_fn.h>
#include <weft/ops/linear.h>
#include <weft/cuda/rows.cuh>

namespace weft::cuda {

namespace {

// --- numbers --------------------------------------------------------------------------------------------------------

// Half types keep 8 or 11 bits, so they are served by the fast exponential and division (errors of some 1e-7 beside 1).
__device__ inline float fast_sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }
__device__ inline float fast_tanh(float x) { return 1.0f - __fdividef(2.0f, __expf(2.0f * x) + 1.0f); }
// The normal distribution: its density without the factor 1/√2π, and from that its integral by formula 7.1.26 of
// Abramowitz and Stegun, Handbook of Mathematical Functions.
__device__ inline float fast_density(float x) { return __expf(-0.5f * x * x); }
__device__ inline float fast_normal(float x, float density) {
  const float t = __fdividef(1.0f, 1.0f + 0.3275911f * 0.70710678f * fabsf(x));
  const float tail = 0.5f * density * t *
                     (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  return x < 0 ? tail : 1.0f - tail;
}

template <class T, Activation A, class C>
__device__ C activate(C v) {
  constexpr bool kFast = sizeof(T) == 2;
  if constexpr (A == Activation::relu) return fn::Relu{}(v);
  if constexpr (A == Activation::gelu) {
    if constexpr (kFast) return v * fast_normal(v, fast_density(v));
    return fn::Gelu{}(v);
  }
  if constexpr (A == Activation::gelu_tanh) {
    if constexpr (kFast) return 0.5f * v * (1.0f + fast_tanh(0.79788456f * (v + 0.044715f * v * v * v)));
    return fn::GeluTanh{}(v);
  }
  if constexpr (A == Activation::silu) {
    if constexpr (kFast) return v * fast_sigmoid(v);
    return fn::Silu{}(v);
  }
  return v;
}

// saved: the activation's argument, for relu its result.
template <class T, Activation A, class C>
__device__ C activation_grad(C saved, C dy) {
  constexpr bool kFast = sizeof(T) == 2;
  if constexpr (A == Activation::relu) return fn::ReluGrad{}(saved, dy);
  if constexpr (A == Activation::gelu) {
    if constexpr (kFast) {
      const float density = fast_density(saved);
      return dy * (fast_normal(saved, density) + saved * 0.39894228f * density);
    }
    return fn::GeluGrad{}(saved, dy);
  }
  if constexpr (A == Activation::gelu_tanh) {
    if constexpr (kFast) {
      const float x2 = saved * saved, t = fast_tanh(0.79788456f * saved * (1.0f + 0.044715f * x2));
      return dy * 0.5f * (1.0f + t + saved * (1.0f - t * t) * 0.79788456f * (1.0f + 3 * 0.044715f * x2));
    }
    return fn::GeluTanhGrad{}(saved, dy);
  }
  if constexpr (A == Activation::silu) {
    if constexpr (kFast) {
      const float s = fast_sigmoid(saved);
      return dy * s * (1.0f + saved * (1.0f - s));
    }
    return fn::SiluGrad{}(saved, dy);
  }
  return dy;
}

// f(std::integral_constant<Activation, activation>).
template <class F>
__device__ void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::none:
      return f(std::integral_constant<Activation, Activation::none>{});
    case Activation::relu:
      return f(std::integral_constant<Activation, Activation::relu>{});
    case Activation::gelu:
      return f(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::gelu_tanh:
      return f(std::integral_constant<Activation, Activation::gelu_tanh>{});
    case Activation::silu:
      return f(std::integral_constant<Activation, Activation::silu>{});
  }
}

// --- memory ---------------------------------------------------------------------------------------------------------

// A matrix of T whose rows are `stride` apart; data may be null.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;

  explicit Rows(const Tensor& x) {
    if (x.defined())
      data = x.data<T>(), stride = x.dim() == 2 ? x.strides()[0] : 0;  // a vector is the same in all rows
  }
  template <int N>
  __device__ RowPack<T, N> load(int64_t row, int64_t col) const {
    return *reinterpret_cast<const RowPack<T, N>*>(data + row * stride + col);
  }
  template <int N>
  __device__ void store(int64_t row, int64_t col, const RowPack<T, N>& p) const {
    *reinterpret_cast<RowPack<T, N>*>(data + row * stride + col) = p;
  }
  bool packs(int64_t n) const { return reinterpret_cast<uintptr_t>(data) % (n * sizeof(T)) == 0 && stride % n == 0; }
};

// Calls f(integral constant N): as many elements as fit 16 bytes where all rows start at a multiple of that, else 1.
template <class T, class F>
void with_pack(int64_t cols, std::initializer_list<Rows<T>> operands, F&& f) {
  bool fits = cols % kPack<T> == 0;
  for (const Rows<T>& r : operands) fits = fits && r.packs(kPack<T>);
  if (fits)
    f(std::integral_constant<int, kPack<T>>{});
  else
    f(std::integral_constant<int, 1>{});
}

// --- finish ---------------------------------------------------------------------------------------------------------

// z, pre, y: [rows, cols]; bias: [cols] or null; pre may be null, y may be z. row_packs: packs of N in a row.
template <class T, int N>
__global__ void finish_kernel(Rows<T> z, Rows<T> bias, Activation activation, Rows<T> pre, Rows<T> y, int64_t packs,
                              uint32_t row_packs) {
  using C = acc_t<T>;
  with_activation(activation, [&]<Activation A>(std::integral_constant<Activation, A>) {
    WEFT_GRID_LOOP(i, packs) {
      const bool small = packs <= UINT32_MAX;
      const int64_t row = small ? static_cast<uint32_t>(i) / row_packs : i / row_packs, col = (i - row * row_packs) * N;
      RowPack<T, N> v = z.template load<N>(row, col), b{}, out;
      if (bias.data) b = bias.template load<N>(row, col);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        C s = widen(v.v[j]);
        if (bias.data) s += widen(b.v[j]);
        v.v[j] = narrow<T>(s);
        out.v[j] = narrow<T>(activate<T, A>(s));
      }
      if (pre.data) pre.store(row, col, v);
      y.store(row, col, out);
    }
  });
}

void finish(const Tensor& z, const Tensor& bias, Activation activation, const Tensor& pre, const Tensor& y) {
  const int64_t cols = y.shape()[1];
  dispatch_floating(y.dtype(), [&]<class T>(Type<T>) {
    const Rows<T> rz(z), rb(bias), rp(pre), ry(y);
    with_pack<T>(cols, {rz, rb, rp, ry}, [&]<int N>(std::integral_constant<int, N>) {
      launch("linear", y.numel() / N, finish_kernel<T, N>, rz, rb, activation, rp, ry, y.numel() / N,
             static_cast<uint32_t>(cols / N));
    });
  });
}

// --- grad -----------------------------------------------------------------------------------------------------------

constexpr int kLanes = 32, kWarps = kThreads / kLanes, kRows = 4;

int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// dz and parts may be null; parts: [gridDim.y, cols]. A block owns 32·N columns and `chunk` rows; a warp of it reads
// every kWarps-th row, kRows of them at a time, which are then under way together.
template <class T, int N>
__global__ void grad_kernel(Rows<T> dy, Rows<T> saved, Activation activation, Rows<T> dz, acc_t<T>* parts, int64_t rows,
                            int64_t cols, int64_t chunk) {
  using C = acc_t<T>;
  __shared__ C shared[kWarps][kLanes * N];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t col = (int64_t{blockIdx.x} * kLanes + lane) * N, start = int64_t{blockIdx.y} * chunk;
  const int64_t end = col < cols ? min(rows, start + chunk) : 0;
  C sum[N] = {};
  with_activation(activation, [&]<Activation A>(std::integral_constant<Activation, A>) {
    for (int64_t first = start + warp; first < end; first += kRows * kWarps) {
      RowPack<T, N> g[kRows], s[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int64_t row = first + r * kWarps;
        if (row >= end) continue;
        g[r] = dy.template load<N>(row, col);
        if constexpr (A != Activation::none) s[r] = saved.template load<N>(row, col);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int64_t row = first + r * kWarps;
        if (row >= end) continue;
#pragma unroll
        for (int j = 0; j < N; ++j) {
          C d = widen(g[r].v[j]);
          if constexpr (A != Activation::none) d = activation_grad<T, A>(widen(s[r].v[j]), d);
          sum[j] += d;
          g[r].v[j] = narrow<T>(d);
        }
        if (dz.data) dz.store(row, col, g[r]);
      }
    }
  });
  if (!parts) return;
#pragma unroll
  for (int j = 0; j < N; ++j) shared[warp][j * kLanes + lane] = sum[j];
  __syncthreads();
  if (warp != 0 || col >= cols) return;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    C total = 0;
    for (int w = 0; w < kWarps; ++w) total += shared[w][j * kLanes + lane];
    parts[int64_t{blockIdx.y} * cols + col + j] = total;
  }
}

// sums[col] = Σ_p parts[p, col]. A block takes 32 columns, its warps the parts in turn.
template <class C>
__global__ void add_parts_kernel(const C* parts, Data sums, int64_t count, int64_t cols) {
  __shared__ C shared[kWarps][kLanes];
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t col = int64_t{blockIdx.x} * kLanes + lane;
  C sum = 0;
  if (col < cols) {
    for (int64_t p = warp; p < count; p += kWarps) sum += parts[p * cols + col];
  }
  shared[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || col >= cols) return;
  C total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared[w][lane];
  sums.store(col, total);
}

// dz may be undefined (sums alone), db too (no sums).
void grad(const Tensor& dy, const Tensor& saved, Activation activation, const Tensor& dz, const Tensor& db) {
  const int64_t rows = dy.shape()[0], cols = dy.shape()[1];
  if (cols == 0) return;
  dispatch_floating(dy.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    const Rows<T> g(dy), s(activation == Activation::none ? Tensor() : saved), out(dz);
    with_pack<T>(cols, {g, s, out}, [&]<int N>(std::integral_constant<int, N>) {
      // A few blocks a multiprocessor, each with enough rows to be worth its sum; the bound is that of a grid.
      const int64_t tiles = div_up(cols, kLanes * N), most = div_up(rows, 2 * kRows * kWarps);
      const int64_t chunks = std::clamp<int64_t>(std::min(div_up(132 * 8, tiles), most), 1, 65535);
      const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(chunks));
      const Tensor parts = db.defined() ? empty({chunks, cols}, dtype_of<C>(), dy.device()) : Tensor();
      grad_kernel<T, N><<<grid, kThreads, 0, stream()>>>(
          g, s, activation, out, db.defined() ? parts.data<C>() : nullptr, rows, cols, div_up(rows, chunks));
      check_cuda(cudaGetLastError(), "linear");
      if (!db.defined()) return;
      add_parts_kernel<C><<<static_cast<unsigned>(div_up(cols, kLanes)), kThreads, 0, stream()>>>(
          parts.data<C>(), data_of(db), chunks, cols);
      check_cuda(cudaGetLastError(), "linear");
    });
  });
}

// The epilogue that makes all of a forward pass; none where there is no such.
Epilogue whole(Activation activation, bool bias, bool keeps_argument) {
  if (activation == Activation::relu) return bias ? Epilogue::relu_bias : Epilogue::relu;
  if (activation != Activation::gelu_tanh) return Epilogue::none;
  if (keeps_argument) return bias ? Epilogue::gelu_aux_bias : Epilogue::gelu_aux;
  return bias ? Epilogue::gelu_bias : Epilogue::gelu;
}

}  // namespace

void linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation, Tensor& y,
                    Tensor& pre) {
  if (y.numel() == 0) return;
  DeviceScope scope(y);
  if (x.shape()[1] == 0) {  // no sum to speak of
    fill_into(y, 0);
    return finish(y, bias, activation, pre, y);
  }
  Product p{.op = "linear", .a = matrices(x), .b = transposed(matrices(w)), .y = matrices(y)};
  if (bias.defined()) p.vector = bias.raw_data();
  p.epilogue = whole(activation, bias.defined(), pre.defined());
  if (p.epilogue != Epilogue::none) {
    if (pre.defined()) p.aux = pre.raw_data(), p.aux_stride = pre.strides()[0];
    if (multiply(p)) return;
    p.aux = nullptr, p.aux_stride = 0;
  }
  const Tensor& z = pre.defined() ? pre : y;
  p.y = matrices(z);
  p.epilogue = bias.defined() ? Epilogue::bias : Epilogue::none;
  const bool added = multiply(p);
  if (!added) {
    p.epilogue = Epilogue::none, p.vector = nullptr;
    multiply(p);
  }
  if (!added || activation != Activation::none)
    finish(z, added ? Tensor() : bias, activation, added ? Tensor() : pre, y);
}

void linear_activation_grad(const Tensor& dy, const Tensor& saved, Activation activation, Tensor& dz, Tensor& db) {
  DeviceScope scope(dz);
  grad(dy, saved, activation, dz, db);
}

void linear_input_grad(const Tensor& dy, const Tensor& w, Activation activation, const Tensor& saved, Tensor& dx) {
  if (dx.numel() == 0) return;
  if (dy.shape()[1] == 0) return fill_into(dx, 0);
  DeviceScope scope(dx);
  Product p{.op = "linear", .a = matrices(dy), .b = matrices(w), .y = matrices(dx)};
  if (activation == Activation::gelu_tanh) {
    p.epilogue = Epilogue::gelu_grad;
    p.aux = saved.raw_data(), p.aux_stride = saved.strides()[0];
    if (multiply(p)) return;
    p.epilogue = Epilogue::none, p.aux = nullptr, p.aux_stride = 0;
  }
  multiply(p);
  if (activation != Activation::none) grad(dx, saved, activation, dx, {});
}

void linear_weight_grad(const Tensor& dy, const Tensor& x, Tensor& dw, Tensor& db) {
  const Tensor& any = dw.defined() ? dw : db;
  DeviceScope scope(any);
  bool summed = false;
  if (dw.defined() && dw.numel() > 0) {
    if (dy.shape()[0] == 0) {
      fill_into(dw, 0);
    } else {
      Product p{.op = "linear", .a = transposed(matrices(dy)), .b = matrices(x), .y = matrices(dw)};
      const bool columns = dw.strides()[1] != 1 && dw.strides()[0] == 1;  // as the weight: dwᵀ = xᵀ·dy
      if (columns) p.a = transposed(matrices(x)), p.b = matrices(dy), p.y = transposed(matrices(dw));
      if (db.defined() && db.dtype() == dw.dtype()) {
        p.epilogue = columns ? Epilogue::col_sums : Epilogue::row_sums, p.vector = db.raw_data();
        summed = multiply(p);
      }
      if (!summed) {
        p.epilogue = Epilogue::none, p.vector = nullptr;
        multiply(p);
      }
    }
  }
  if (db.defined() && !summed) grad(dy, {}, Activation::none, {}, db);
}

}  // namespace weft::cuda
