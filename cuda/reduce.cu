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

struct Job {
  Walk<2> kept;         // operand 0: x at the first reduced element, 1: y
  Walk<1> reduced;      // x at the first kept element
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
template <class C, class S, int V>
struct Partial {
  C total[V];

  __device__ explicit Partial(ReduceOp op) {
    visit(op, [&]<class F>(F) {
#pragma unroll
      for (int i = 0; i < V; ++i) total[i] = F::template start<C>();
    });
  }
  /// kLoads packs that fetch(u, values, count) asks for; it sets count to how many elements there are.
  template <class Fetch>
  __device__ void take(ReduceOp op, const WalkOperand& x, Fetch fetch) {
    Values<C, S, V, kLoads> in;
    int count[kLoads];
#pragma unroll
    for (int u = 0; u < kLoads; ++u) fetch(u, in, count[u]);
    in.convert(x);
    visit(op, [&](auto f) {
#pragma unroll
      for (int i = 0; i < kLoads * V; ++i) {
        if (i % V < count[i / V]) total[i % V] = f(total[i % V], in.value[i]);
      }
    });
  }
};

// --- rows ------------------------------------------------------------------------------------------------------------

template <class C, class S, int V>
__global__ void __launch_bounds__(kThreads) rows_kernel(ReduceOp op, const __grid_constant__ Job j) {
  __shared__ C of_warp[kThreads / 32];
  const uint32_t lane = threadIdx.x % j.group, number = blockIdx.x * (kThreads / j.group) + threadIdx.x / j.group;
  const uint32_t row = number / j.segments, segment = number - row * j.segments;
  const bool there = row < j.kept.packs;
  const WalkOperand& x = j.reduced.operand[0];

  int64_t at[2] = {};
  Partial<C, S, V> partial(op);
  if (there) {
    locate(j.kept, 1, row, at);
    const uint32_t begin = segment * j.segment, end = min(begin + j.segment, j.reduced.packs);
    for (uint32_t first = begin + lane; first < end; first += kLoads * j.group) {
      partial.take(op, x, [&](int u, auto& in, int& count) {
        int64_t from[1];
        const uint32_t i = first + u * j.group;
        count = i < end ? locate(j.reduced, V, i, from) : 0;
        if (count > 0) in.load(u, x, at[0] + from[0], count);
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
    const WalkOperand& y = j.kept.operand[1];
    Data{y.data, y.dtype}.store(at[1] + segment * j.result_step, total);
  }
}

// --- columns ---------------------------------------------------------------------------------------------------------

template <class C, class S, int V>
__global__ void __launch_bounds__(kThreads) columns_kernel(ReduceOp op, const __grid_constant__ Job j) {
  __shared__ C part[kThreads][V];
  const uint32_t column = threadIdx.x % j.group, row = threadIdx.x / j.group, rows = kThreads / j.group;
  const uint32_t across = (j.kept.packs + j.group - 1) / j.group, segment = blockIdx.x / across;
  const uint32_t pack = (blockIdx.x - segment * across) * j.group + column;
  const WalkOperand& x = j.kept.operand[0];

  int64_t at[2] = {};
  const int count = pack < j.kept.packs ? locate(j.kept, V, pack, at) : 0;
  Partial<C, S, V> partial(op);
  if (count > 0) {
    const uint32_t begin = segment * j.segment, end = min(begin + j.segment, j.reduced.packs);
    for (uint32_t first = begin + row; first < end; first += kLoads * rows) {
      partial.take(op, x, [&](int u, auto& in, int& elements) {
        int64_t from[1];
        const uint32_t i = first + u * rows;
        elements = i < end ? count : 0;
        if (i >= end) return;
        locate(j.reduced, 1, i, from);
        in.load(u, x, at[0] + from[0], count);
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
    out.store(0, j.kept.operand[1], at[1] + segment * j.result_step, count);
  }
}

// --- the plan --------------------------------------------------------------------------------------------------------

/// The dimensions of the problem, sorted into kept and reduced.
struct Split {
  Tensor kept_x, kept_y, reduced_x;
  bool along_rows = true;  // memory runs along a reduced dimension

  Split(const Tensor& x, const Tensor& y) {
    Shape kept, kept_xs, kept_ys, gone, gone_xs;
    int64_t kept_least = INT64_MAX, gone_least = INT64_MAX;
    for (int64_t d = 0; d < x.dim(); ++d) {
      const int64_t n = x.shape()[d], step = x.strides()[d];
      const bool keep = y.shape()[d] == n;
      (keep ? kept : gone).push_back(n);
      (keep ? kept_xs : gone_xs).push_back(step);
      if (keep) kept_ys.push_back(y.strides()[d]);
      if (n > 1 && step != 0)
        (keep ? kept_least : gone_least) = std::min(keep ? kept_least : gone_least, std::abs(step));
    }
    kept_x = as_strided_raw(x, kept, kept_xs, x.impl().offset);
    kept_y = as_strided_raw(y, kept, kept_ys, y.impl().offset);
    reduced_x = as_strided_raw(x, gone, gone_xs, x.impl().offset);
    along_rows = kept.numel() == 1 || gone_least <= kept_least;
  }
};

uint32_t power_of_two(int64_t at_least) { return std::bit_ceil(static_cast<uint32_t>(std::max<int64_t>(at_least, 1))); }

template <class C, class S, int V>
void run(ReduceOp op, const Tensor& x, Tensor& y) {
  const Split s(x, y);
  const Layout<1> reduced(s.reduced_x.shape(), {&s.reduced_x});
  const bool rows = s.along_rows;
  const auto job = [&](const Tensor& kept_y) {
    Job j{Walk<2>(Layout<2>(s.kept_x.shape(), {&s.kept_x, &kept_y}), rows ? 1 : V), Walk<1>(reduced, rows ? V : 1)};
    // Packs are aligned only if the other kind of dimensions keeps them so.
    WalkOperand &in = rows ? j.reduced.operand[0] : j.kept.operand[0],
                &other = rows ? j.kept.operand[0] : j.reduced.operand[0];
    in.vector = in.vector && (other.inner % V == 0 || (rows ? j.kept.length : j.reduced.length) == 1);
    for (uint32_t d = 0; d < (rows ? j.kept.rows_dims : j.reduced.rows_dims); ++d)
      in.vector = in.vector && other.strides[d] % V == 0;
    return j;
  };
  Job j = job(s.kept_y);
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

  auto start = [&](const Job& job) {
    const auto n = static_cast<unsigned>(rows ? (kept * segments + kThreads / job.group - 1) / (kThreads / job.group)
                                              : blocks * segments);
    auto* kernel = rows ? rows_kernel<C, S, V> : columns_kernel<C, S, V>;
    kernel<<<n, kThreads, 0, stream()>>>(op, job);
    check_cuda(cudaGetLastError(), "reduce");
  };
  if (segments == 1) return start(j);

  Shape shape = y.shape();
  shape.insert(0, segments);
  const Tensor parts = empty(shape, dtype_of<C>(), x.device());  // [segments, y's shape]
  const Tensor first = as_strided_raw(parts, s.kept_x.shape(), s.kept_x.shape().contiguous_strides(), 0);
  Job partial = job(first);
  partial.group = j.group, partial.segments = j.segments, partial.segment = j.segment;
  partial.result_step = y.numel();
  partial.kept.operand[1].vector = partial.kept.operand[1].vector && y.numel() % V == 0;
  start(partial);
  Tensor out = unsqueeze(y, 0);
  run<C, Any, 4>(op, parts, out);
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
  if (x.dtype() == float64) return run<double, Any, 4>(op, x, y);
  if (!x.is_floating()) return run<int64_t, Any, 4>(op, x, y);
  dispatch_storage({x.dtype()}, [&]<class S>(Type<S>) { run<float, S, kPackOf<S>>(op, x, y); });
}

}  // namespace weft::cuda
