// Cross entropy by rows of logits, in one pass where only the loss is asked for and in one read and one write where the
// gradient takes the logits' place (docs/cuda_rows.md).
#include <weft/ops/loss_op.h>
#include <weft/cuda/row_walk.cuh>

#include <cmath>

namespace weft::cuda {

namespace {

constexpr const char* kRange = "target {index} is out of range for {size} classes";
// Threads for a row that is kept in shared memory: of half types two rows fit, so that one is read while the other is
// computed.
template <class T>
inline constexpr int kWide = sizeof(T) == 2 ? 512 : 1024;

// What a row's target is: the class itself with weight on·w, and every class with all·w.
template <class C>
struct Classes {
  const int64_t* target;
  Data weight;  // of each class; no data: 1
  int64_t weight_stride, ignore_index, rows, n;
  int64_t stride;  // from row to row of the logits
  C on, all;
  Fault out_of_range;

  __device__ C factor(int64_t i) const { return weight.data ? weight.load<C>(i * weight_stride) : C(1); }
  // The class of a row, -1 for none.
  __device__ int64_t of(int64_t row) const {
    const int64_t t = target[row];
    return t >= 0 && t < n && t != ignore_index ? t : -1;
  }
};

// What one thread knows of its entries: log Σ exp, and for smoothing Σ w·x and Σ w.
template <class T, class C = acc_t<T>>
struct Seen {
  ExpSum<T> exps;
  C along = 0, weights = 0;

  template <int M>
  __device__ void add(const Classes<C>& a, int64_t i, const RowPack<T, M>& raw) {
    C v[M];
#pragma unroll
    for (int j = 0; j < M; ++j) v[j] = widen(raw.v[j]);
    exps.add(v);
    if (!(a.all > C(0))) return;
#pragma unroll
    for (int j = 0; j < M; ++j) {
      const C w = a.factor(i + j);
      along += w * v[j];
      weights += w;
    }
  }
};

// Brings together what the threads of a team have seen; returns log Σ exp, -inf where every entry is.
template <int G, class T, class C>
__device__ C log_sum_exp(const Team<G, C>& team, Seen<T, C>& seen, bool smoothing) {
  const ExpSum<T> all = seen.exps.over(team);
  if (smoothing) seen.along = team.sum(seen.along), seen.weights = team.sum(seen.weights);
  return all.top == minus_infinity<C>() ? all.top : all.top + ::log(all.sum);
}

// The loss of a row of class t, whose logit is `logit`.
template <class T, class C>
__device__ C row_loss(const Classes<C>& a, int64_t t, C logit, C lse, const Seen<T, C>& seen) {
  if (lse == minus_infinity<C>()) return std::numeric_limits<C>::infinity();
  const C hit = a.on * a.factor(t) * (lse - logit);
  return a.all > C(0) ? hit + a.all * (seen.weights * lse - seen.along) : hit;
}

template <class C>
__device__ void check_target(const Classes<C>& a, int64_t row) {
  const int64_t t = a.target[row];
  if (t != a.ignore_index && (t < 0 || t >= a.n)) a.out_of_range.raise(t);
}

// --- the loss --------------------------------------------------------------------------------------------------------

template <class T, int V, int G>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(Classes<acc_t<T>> a, const T* logits, acc_t<T>* loss, acc_t<T>* row_weight, acc_t<T>* lse) {
  using C = acc_t<T>;
  __shared__ C part[kThreads / 32];
  const Team<G, C> team{part};
  constexpr int kTeams = kThreads / G;
  for (int64_t r = int64_t{blockIdx.x} * kTeams + threadIdx.x / G; r < a.rows; r += int64_t{gridDim.x} * kTeams) {
    const int64_t t = a.of(r);
    if (t < 0) {
      if (team.thread() != 0) continue;
      check_target(a, r);
      loss[r] = row_weight[r] = lse[r] = C(0);
      continue;
    }
    const T* row = logits + r * a.stride;
    Seen<T> seen;
    each_in_row<V, G>(row, a.n, team.thread(), [&](int64_t, int64_t i, const auto& raw) { seen.add(a, i, raw); });
    const C sum = log_sum_exp(team, seen, a.all > C(0));
    if (team.thread() == 0) {
      loss[r] = row_loss(a, t, widen(row[t]), sum, seen);
      row_weight[r] = a.factor(t);
      lse[r] = sum;
    }
  }
}

// --- the gradient ----------------------------------------------------------------------------------------------------

// With q the smoothed target times the class weights: d = g·(exp(x - lse)·Σ q - q).
template <class C>
struct RowGradient {
  int64_t t;
  C lse, total, hit, each;  // g·Σ q, what the class itself loses, what every class loses before its weight

  // spread: Σ all·w over all classes.
  __device__ RowGradient(const Classes<C>& a, int64_t target, C lse, C g, C spread)
      : t(lse == minus_infinity<C>() ? -1 : target), lse(lse) {
    hit = t < 0 ? C(0) : g * a.on * a.factor(t);
    total = hit + g * spread;
    each = g * a.all;
  }
  template <class T, int M>
  __device__ RowPack<T, M> of(const Classes<C>& a, int64_t i, const RowPack<T, M>& raw) const {
    C d[M] = {};
    if (t >= 0) {
#pragma unroll
      for (int j = 0; j < M; ++j) d[j] = total * row_exp<T>(widen(raw.v[j]) - lse);
      if (each != C(0)) {
#pragma unroll
        for (int j = 0; j < M; ++j) d[j] -= each * a.factor(i + j);
      }
      if (t >= i && t < i + M) {
#pragma unroll
        for (int j = 0; j < M; ++j)
          if (i + j == t) d[j] -= hit;
      }
    }
    RowPack<T, M> out;
#pragma unroll
    for (int j = 0; j < M; ++j) out.v[j] = narrow<T>(d[j]);
    return out;
  }
};

// Σ all·w over all classes, by the whole team.
template <int G, class C>
__device__ C spread_of(const Classes<C>& a, const Team<G, C>& team) {
  if (!(a.all > C(0))) return C(0);
  C sum = 0;
  for (int64_t i = team.thread(); i < a.n; i += G) sum += a.all * a.factor(i);
  return team.sum(sum);
}

template <class T, int V, int G>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_backward_kernel(Classes<acc_t<T>> a, const T* __restrict__ logits, const acc_t<T>* lse,
                                  const acc_t<T>* scale, int64_t scale_step, T* __restrict__ dlogits) {
  using C = acc_t<T>;
  __shared__ C part[kThreads / 32];
  const Team<G, C> team{part};
  constexpr int kTeams = kThreads / G;
  const C spread = spread_of(a, team);
  for (int64_t r = int64_t{blockIdx.x} * kTeams + threadIdx.x / G; r < a.rows; r += int64_t{gridDim.x} * kTeams) {
    const RowGradient<C> d(a, a.of(r), lse[r], scale[r * scale_step], spread);
    T* out = dlogits + r * a.stride;
    each_in_row<V, G>(logits + r * a.stride, a.n, team.thread(),
                      [&](int64_t, int64_t i, const auto& raw) { put(out, i, d.of(a, i, raw)); });
  }
}

// Loss and gradient at once, the gradient over the logits. The first `kept` packs of a row stay in shared memory
// between its two walks; each thread meets its own entries again, so that nobody reads what another has written.
template <class T, int V, int G>
__global__ void __launch_bounds__(G == 32 ? kThreads : G, G == 512 ? 2 : 1)
    cross_entropy_over_kernel(Classes<acc_t<T>> a, T* logits, int64_t kept, const acc_t<T>* scale, int64_t scale_step,
                              acc_t<T>* loss) {
  using C = acc_t<T>;
  extern __shared__ __align__(16) unsigned char memory[];
  auto* keep = reinterpret_cast<RowPack<T, V>*>(memory);
  __shared__ C part[32];
  const Team<G, C> team{part};
  const int teams = blockDim.x / G;
  const C spread = spread_of(a, team);
  for (int64_t r = int64_t{blockIdx.x} * teams + threadIdx.x / G; r < a.rows; r += int64_t{gridDim.x} * teams) {
    T* row = logits + r * a.stride;
    const int64_t t = a.of(r);
    if (t < 0 && team.thread() == 0) check_target(a, r);

    // First walk: log Σ exp, and the logit of the class before anyone writes.
    Seen<T> seen;
    const C logit = t < 0 ? C(0) : widen(row[t]);
    if (t >= 0) {
      each_in_row<V, G>(row, a.n, team.thread(), [&]<int M>(int64_t k, int64_t i, const RowPack<T, M>& raw) {
        if constexpr (M == V && V > 1) {
          if (k >= 0 && k < kept) keep[k] = raw;
        }
        seen.add(a, i, raw);
      });
    }
    const C lse = log_sum_exp(team, seen, a.all > C(0));  // every thread has read its logit when this returns
    if constexpr (G == 32) __syncwarp();
    if (team.thread() == 0) loss[r] = t < 0 ? C(0) : row_loss(a, t, logit, lse, seen);

    // Second walk: the gradient.
    const RowGradient<C> d(a, t, lse, scale[r * scale_step], spread);
    const Span<V, T> span(row, a.n);
#pragma unroll 2
    for (int64_t k = team.thread(); k < span.packs; k += G) {
      const int64_t i = span.head + k * V;
      const RowPack<T, V> raw = k < kept ? keep[k] : get<V>(row, i);
      put(row, i, d.of(a, i, raw));
    }
    const auto single = [&](int64_t i) { put(row, i, d.of(a, i, RowPack<T, 1>{row[i]})); };
    for (int64_t i = team.thread(); i < span.head; i += G) single(i);
    for (int64_t i = span.tail() + team.thread(); i < a.n; i += G) single(i);
  }
}

// --- targets ---------------------------------------------------------------------------------------------------------

template <class C>
__global__ void row_weights_kernel(Classes<C> a, C* row_weight) {
  WEFT_GRID_LOOP(r, a.rows) {
    check_target(a, r);
    const int64_t t = a.of(r);
    row_weight[r] = t < 0 ? C(0) : a.factor(t);
  }
}

template <class C>
Classes<C> classes(const char* op, const Tensor& target, const Tensor& weight, int64_t ignore_index, double smoothing,
                   int64_t n, int64_t stride) {
  return {target.data<int64_t>(),
          data_of(weight),
          weight.defined() ? weight.strides()[0] : 0,
          ignore_index,
          target.numel(),
          n,
          stride,
          C(1 - smoothing),
          C(smoothing / static_cast<double>(n)),
          fault(op, 0, n, kRange)};
}

// f(Type<T>, V): V elements a pack if both tensors lie alike, else 1.
template <class F>
void with_packs(const Tensor& x, const Tensor& y, F&& f) {
  dispatch_floating(x.dtype(), [&]<class T>(Type<T> type) {
    if (alike(x, y))
      f(type, std::integral_constant<int, kPack<T>>{});
    else
      f(type, std::integral_constant<int, 1>{});
  });
}

constexpr int64_t kWarpRow = 1024;  // up to here a warp takes a row

int team_blocks(int64_t rows, int64_t teams) {
  return static_cast<int>(std::min<int64_t>((rows + teams - 1) / teams, 132 * 64));
}

}  // namespace

void cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                   double smoothing, Tensor& loss, Tensor& row_weight, Tensor& lse) {
  if (target.numel() == 0) return;
  DeviceScope scope(logits);
  const int64_t n = logits.size(-1), rows = target.numel();
  dispatch_floating(logits.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    constexpr int V = kPack<T>;
    const auto a = classes<C>("cross_entropy", target, weight, ignore_index, smoothing, n, detail::row_stride(logits));
    const auto run = [&](auto kernel, int64_t teams) {
      kernel<<<team_blocks(rows, teams), kThreads, 0, stream()>>>(a, logits.data<T>(), loss.data<C>(),
                                                                  row_weight.data<C>(), lse.data<C>());
      check_cuda(cudaGetLastError(), "cross_entropy");
    };
    n <= kWarpRow ? run(cross_entropy_kernel<T, V, 32>, kThreads / 32) : run(cross_entropy_kernel<T, V, kThreads>, 1);
  });
}

void cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                            double smoothing, const Tensor& lse, const Tensor& scale, Tensor& dlogits) {
  if (logits.numel() == 0) return;
  DeviceScope scope(logits);
  const int64_t n = logits.size(-1), rows = target.numel();
  with_packs(logits, dlogits, [&]<class T, int V>(Type<T>, std::integral_constant<int, V>) {
    using C = acc_t<T>;
    const auto a = classes<C>("cross_entropy", target, weight, ignore_index, smoothing, n, detail::row_stride(logits));
    const auto run = [&](auto kernel, int64_t teams) {
      kernel<<<team_blocks(rows, teams), kThreads, 0, stream()>>>(
          a, logits.data<T>(), lse.data<C>(), scale.data<C>(), int64_t{scale.numel() == 1 ? 0 : 1}, dlogits.data<T>());
      check_cuda(cudaGetLastError(), "cross_entropy");
    };
    n <= kWarpRow ? run(cross_entropy_backward_kernel<T, V, 32>, kThreads / 32)
                  : run(cross_entropy_backward_kernel<T, V, kThreads>, 1);
  });
}

void cross_entropy_over(Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                        double smoothing, const Tensor& scale, Tensor& loss) {
  if (target.numel() == 0) return;
  DeviceScope scope(logits);
  const int64_t n = logits.size(-1), rows = target.numel();
  dispatch_floating(logits.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    constexpr int V = kPack<T>;
    const auto a = classes<C>("cross_entropy", target, weight, ignore_index, smoothing, n, detail::row_stride(logits));
    const auto run = [&](auto kernel, int64_t teams, int threads, int64_t kept) {
      const auto bytes = static_cast<size_t>(kept) * 16;
      check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
                 "cross_entropy");
      kernel<<<team_blocks(rows, teams), threads, bytes, stream()>>>(
          a, logits.data<T>(), kept, scale.data<C>(), int64_t{scale.numel() == 1 ? 0 : 1}, loss.data<C>());
      check_cuda(cudaGetLastError(), "cross_entropy");
    };
    if (n <= kWarpRow) return run(cross_entropy_over_kernel<T, V, 32>, kThreads / 32, kThreads, 0);
    int device = 0, most = 0;
    check_cuda(cudaGetDevice(&device), "cross_entropy");
    check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cross_entropy");
    run(cross_entropy_over_kernel<T, V, kWide<T>>, 1, kWide<T>, std::min<int64_t>(n / V, (most - 1024) / 16));
  });
}

void row_weights(const char* op, const Tensor& target, const Tensor& weight, int64_t ignore_index, int64_t n,
                 Tensor& row_weight) {
  DeviceScope scope(target);
  dispatch_float(row_weight.dtype(), [&]<class C>(Type<C>) {
    launch(op, target.numel(), row_weights_kernel<C>, classes<C>(op, target, weight, ignore_index, 0, n, n),
           row_weight.data<C>());
  });
}

namespace {

template <class T>
__global__ void scale_kernel(T* x, int64_t n, const acc_t<T>* factor) {
  const acc_t<T> f = *factor;
  if (f == acc_t<T>(1)) return;
  WEFT_GRID_LOOP(i, n) x[i] = narrow<T>(widen(x[i]) * f);
}

}  // namespace

void scale_over(Tensor& x, const Tensor& factor) {
  DeviceScope scope(x);
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    launch("cross_entropy", x.numel(), scale_kernel<T>, x.data<T>(), x.numel(), factor.data<acc_t<T>>());
  });
}

}  // namespace weft::cuda
