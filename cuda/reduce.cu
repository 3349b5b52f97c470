// Reductions of any dimensions of any layout. Where memory runs along a reduced dimension, a group of threads takes a
// row; where it runs along a kept one, a thread takes a pack of columns and a block a few rows at a time. With few
// results the reduced elements are dealt to more blocks in segments, whose partial results are reduced in turn. The
// order depends on the shape alone; sums are kept in float (double and int64 for their own kind).
#include <weft/ops/copy.h>
#include <weft/ops/reduce_op.h>
#include <weft/ops/shape.h>
#include <weft/cuda/walk.cuh>

#include <bit>

namespace weft::cuda {

namespace {

constexpr int kLoads = 4;             // packs that a thread has under way
constexpr int64_t kBusy = 16;         // packs a thread should have before others share its work
constexpr int64_t kEnough = 4 * 132;  // blocks that fill the device

// What a kernel reduces: x, or with N = 2 the products of two tensors.
template <int N>
struct Job {
  Walk<N + 1> kept;     // the inputs at the first reduced element, then y
  Walk<N> reduced;      // the inputs at the first kept element
  uint32_t group;       // threads that share a row (rows), packs of columns that a block takes (columns)
  uint32_t segments;    // that the reduced packs are cut into
  uint32_t segment;     // packs of one
  int64_t result_step;  // elements of y from one segment's results to the next
};

template <class C>
__device__ C merge(ReduceOp op, C a, C b) {
  C r = a;
  visit(op, [&](auto f) { r = f(a, b); });
  return r;
}

/// What a thread has of V results, and how it takes in more.
template <class C, class S, int V, int N>
struct Partial {
  C total[V];

  __device__ explicit Partial(ReduceOp op) {
    visit(op, [&]<class F>(F) {
#pragma unroll
      for (int i = 0; i < V; ++i) total[i] = F::template start<C>();
    });
  }
  /// kLoads packs of each input, which begin where locate(u, offsets) says; it returns how many elements there are.
  template <class Locate>
  __device__ void take(ReduceOp op, const WalkOperand* x, Locate locate) {
    Values<C, S, V, kLoads> in[N];
    int count[kLoads];
#pragma unroll
    for (int u = 0; u < kLoads; ++u) {
      int64_t offset[N];
      count[u] = locate(u, offset);
      if (count[u] == 0) continue;
#pragma unroll
      for (int k = 0; k < N; ++k) in[k].load(u, x[k], offset[k], count[u]);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) in[k].convert(x[k]);
    if constexpr (N == 2) {
#pragma unroll
      for (int i = 0; i < kLoads * V; ++i) in[0].value[i] *= in[1].value[i];
    }
    visit(op, [&](auto f) {
#pragma unroll
      for (int i = 0; i < kLoads * V; ++i) {
        if (i % V < count[i / V]) total[i % V] = f(total[i % V], in[0].value[i]);
      }
    });
  }
};

// --- rows ------------------------------------------------------------------------------------------------------------

template <class C, class S, int V, int N>
__global__ void __launch_bounds__(kThreads) rows_kernel(ReduceOp op, const __grid_constant__ Job<N> j) {
  __shared__ C of_warp[kThreads / 32];
  const uint32_t lane = threadIdx.x % j.group, number = blockIdx.x * (kThreads / j.group) + threadIdx.x / j.group;
  const uint32_t row = number / j.segments, segment = number - row * j.segments;
  const bool there = row < j.kept.packs;

  int64_t at[N + 1] = {};
  Partial<C, S, V, N> partial(op);
  if (there) {
    locate(j.kept, 1, row, at);
    const uint32_t begin = segment * j.segment, end = min(begin + j.segment, j.reduced.packs);
    for (uint32_t first = begin + lane; first < end; first += kLoads * j.group) {
      partial.take(op, j.reduced.operand, [&](int u, int64_t(&offset)[N]) {
        const uint32_t i = first + u * j.group;
        if (i >= end) return 0;
        const int count = locate(j.reduced, V, i, offset);
#pragma unroll
        for (int k = 0; k < N; ++k) offset[k] += at[k];
        return count;
      });
    }
  }

  C total = partial.total[0];
#pragma unroll
  for (int i = 1; i < V; ++i) total = merge(op, total, partial.total[i]);
  for (uint32_t step = min(j.group, 32u) / 2; step > 0; step /= 2)
    total = merge(op, total, __shfl_down_sync(~0u, total, step));
  if (j.group > 32) {
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = total;
    __syncthreads();
    for (int i = 1; i < kThreads / 32; ++i) total = merge(op, total, of_warp[i]);  // of thread 0
  }
  if (there && lane == 0) {
    const WalkOperand& y = j.kept.operand[N];
    Data{y.data, y.dtype}.store(at[N] + segment * j.result_step, total);
  }
}

// --- columns ---------------------------------------------------------------------------------------------------------

template <class C, class S, int V, int N>
__global__ void __launch_bounds__(kThreads) columns_kernel(ReduceOp op, const __grid_constant__ Job<N> j) {
  __shared__ C part[kThreads][V];
  const uint32_t column = threadIdx.x % j.group, row = threadIdx.x / j.group, rows = kThreads / j.group;
  const uint32_t across = (j.kept.packs + j.group - 1) / j.group, segment = blockIdx.x / across;
  const uint32_t pack = (blockIdx.x - segment * across) * j.group + column;

  int64_t at[N + 1] = {};
  const int count = pack < j.kept.packs ? locate(j.kept, V, pack, at) : 0;
  Partial<C, S, V, N> partial(op);
  if (count > 0) {
    const uint32_t begin = segment * j.segment, end = min(begin + j.segment, j.reduced.packs);
    for (uint32_t first = begin + row; first < end; first += kLoads * rows) {
      partial.take(op, j.kept.operand, [&](int u, int64_t(&offset)[N]) {
        const uint32_t i = first + u * rows;
        if (i >= end) return 0;
        locate(j.reduced, 1, i, offset);
#pragma unroll
        for (int k = 0; k < N; ++k) offset[k] += at[k];
        return count;
      });
    }
  }

#pragma unroll
  for (int i = 0; i < V; ++i) part[threadIdx.x][i] = partial.total[i];
  for (uint32_t half = rows / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row >= half) continue;
#pragma unroll
    for (int i = 0; i < V; ++i)
      part[threadIdx.x][i] = merge(op, part[threadIdx.x][i], part[threadIdx.x + half * j.group][i]);
  }
  if (row == 0 && count > 0) {
    Values<C, Any, V, 1> out;
#pragma unroll
    for (int i = 0; i < V; ++i) out.value[i] = part[threadIdx.x][i];
    out.store(0, j.kept.operand[N], at[N] + segment * j.result_step, count);
  }
}

// --- the plan --------------------------------------------------------------------------------------------------------

/// The dimensions of the problem, sorted into kept and reduced: views of each tensor over both.
template <int N>
struct Split {
  Tensor kept[N + 1], reduced[N];  // the inputs, then y
  bool along_rows = true;          // memory runs along a reduced dimension

  Split(const Tensor* const (&x)[N], const Tensor& y) {
    int64_t least[2] = {INT64_MAX, INT64_MAX};  // stride of a reduced, a kept dimension
    Shape shape[2];
    for (int k = 0; k <= N; ++k) {
      const Tensor& t = k < N ? *x[k] : y;
      Shape strides[2];
      shape[0] = shape[1] = {};
      for (int64_t d = 0; d < y.dim(); ++d) {
        const int64_t n = x[0]->shape()[d], step = t.strides()[d];
        const bool keep = y.shape()[d] == n;
        shape[keep].push_back(n);
        strides[keep].push_back(step);
        if (k == 0 && n > 1 && step != 0) least[keep] = std::min(least[keep], std::abs(step));
      }
      kept[k] = as_strided_raw(t, shape[1], strides[1], t.impl().offset);
      if (k < N) reduced[k] = as_strided_raw(t, shape[0], strides[0], t.impl().offset);
    }
    along_rows = shape[1].numel() == 1 || least[0] <= least[1];
  }
};

template <int N>
Layout<N> layout(const Tensor (&tensors)[N]) {
  const Tensor* pointers[N];
  for (int k = 0; k < N; ++k) pointers[k] = &tensors[k];
  return Layout<N>(tensors[0].shape(), pointers);
}

// Packs run along one kind of dimensions; they are aligned only if the other kind keeps them so.
template <int A, int B>
void keep_aligned(Walk<A>& packed, const Walk<B>& other, int k, int64_t v) {
  bool& vector = packed.operand[k].vector;
  vector = vector && (other.operand[k].inner % v == 0 || other.length == 1);
  for (uint32_t d = 0; d < other.rows_dims; ++d) vector = vector && other.operand[k].strides[d] % v == 0;
}

uint32_t power_of_two(int64_t at_least) { return std::bit_ceil(static_cast<uint32_t>(std::max<int64_t>(at_least, 1))); }

template <class C, class S, int V, int N>
void run(ReduceOp op, const Tensor* const (&x)[N], Tensor& y) {
  const Split<N> s(x, y);
  const bool rows = s.along_rows;
  Job<N> j{Walk<N + 1>(layout(s.kept), rows ? 1 : V), Walk<N>(layout(s.reduced), rows ? V : 1)};
  for (int k = 0; k < N; ++k) rows ? keep_aligned(j.reduced, j.kept, k, V) : keep_aligned(j.kept, j.reduced, k, V);
  const int64_t kept = j.kept.packs, packs = j.reduced.packs;

  int64_t blocks, most;  // blocks without segments, and the most segments that are worth it
  if (rows) {
    j.group = packs <= 512 ? std::min(power_of_two(packs), 32u) : kThreads;
    const int64_t in_block = kThreads / j.group;
    blocks = (kept + in_block - 1) / in_block;
    most = j.group == kThreads ? packs / (kBusy * kThreads) : 1;
  } else {
    const uint32_t deep = power_of_two((packs + kLoads - 1) / kLoads);
    j.group = std::min(power_of_two(kept), std::max(32u, kThreads / std::min<uint32_t>(deep, kThreads)));
    j.group = std::min<uint32_t>(j.group, kThreads);
    blocks = (kept + j.group - 1) / j.group;
    most = packs * j.group / (kBusy * kThreads);
  }
  const int64_t segments = std::clamp<int64_t>(kEnough / blocks, 1, std::max<int64_t>(most, 1));
  j.segments = static_cast<uint32_t>(segments);
  j.segment = static_cast<uint32_t>((packs + segments - 1) / segments);
  j.result_step = 0;

  auto start = [&] {
    const int64_t n = rows ? (kept * segments * j.group + kThreads - 1) / kThreads : blocks * segments;
    auto* kernel = rows ? rows_kernel<C, S, V, N> : columns_kernel<C, S, V, N>;
    kernel<<<static_cast<unsigned>(n), kThreads, 0, stream()>>>(op, j);
    check_cuda(cudaGetLastError(), "reduce");
  };
  if (segments == 1) return start();

  Shape shape = y.shape();
  shape.insert(0, segments);
  const Tensor parts = empty(shape, dtype_of<C>(), y.device());  // [segments, y's shape]
  Tensor views[N + 1];                                           // y is the first of them
  for (int k = 0; k < N; ++k) views[k] = s.kept[k];
  views[N] = as_strided_raw(parts, s.kept[N].shape(), s.kept[N].shape().contiguous_strides(), 0);
  j.kept = Walk<N + 1>(layout(views), rows ? 1 : V);
  if (!rows) {
    for (int k = 0; k < N; ++k) keep_aligned(j.kept, j.reduced, k, V);
  }
  j.result_step = y.numel();
  j.kept.operand[N].vector = j.kept.operand[N].vector && y.numel() % V == 0;
  start();
  Tensor out = unsqueeze(y, 0);
  run<C, Any, 4, 1>(op, {&parts}, out);
}

}  // namespace

// y: x's shape with size 1 where reduced.
void reduce(ReduceOp op, const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  if (x.numel() == 0) return visit(op, [&]<class F>(F) { fill_into(y, F::template start<int64_t>()); });
  DeviceScope scope(x);
  if (x.numel() >= int64_t{1} << 31) {  // kernels number packs with 32 bits
    const int64_t d = std::max_element(x.shape().begin(), x.shape().end()) - x.shape().begin(), n = x.shape()[d];
    const Tensor low = narrow(x.detach(), d, 0, n / 2), high = narrow(x.detach(), d, n / 2, n - n / 2);
    if (y.shape()[d] == n) {
      Tensor y_low = narrow(y, d, 0, n / 2), y_high = narrow(y, d, n / 2, n - n / 2);
      reduce(op, low, y_low);
      return reduce(op, high, y_high);
    }
    Shape shape = y.shape();
    shape.insert(0, 2);
    return dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
      Tensor parts = empty(shape, dtype_of<C>(), x.device()), first = select(parts, 0, 0), second = select(parts, 0, 1);
      reduce(op, low, first);
      reduce(op, high, second);
      Tensor out = unsqueeze(y, 0);
      reduce(op, parts, out);
    });
  }
  if (x.dtype() == float64) return run<double, Any, 4, 1>(op, {&x}, y);
  if (!x.is_floating()) return run<int64_t, Any, 4, 1>(op, {&x}, y);
  dispatch_storage({x.dtype()}, [&]<class S>(Type<S>) { run<float, S, kPackOf<S>, 1>(op, {&x}, y); });
}

// y = Σ a·b: floating tensors of one shape, and y of that shape with size 1 where reduced.
void sum_product(const Tensor& a, const Tensor& b, Tensor& y) {
  if (y.numel() == 0) return;
  if (a.numel() == 0) return fill_into(y, 0);
  DeviceScope scope(y);
  check(a.numel() < int64_t{1} << 31, "sum_product: ", a.shape(), " has too many elements");
  if (y.dtype() == float64) return run<double, Any, 4, 2>(ReduceOp::sum, {&a, &b}, y);
  dispatch_storage({a.dtype(), b.dtype()}, [&]<class S>(Type<S>) {
    run<float, S, kPackOf<S>, 2>(ReduceOp::sum, {&a, &b}, y);
  });
}

}  // namespace weft::cuda
