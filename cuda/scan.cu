// Scans along one dimension of any layout. Where lanes, the other dimensions, are neighbours in memory a thread takes a
// pack of them and walks along dim; where dim is, a group of threads takes a lane, a tile of it at a time. With few
// lanes dim is cut into segments: a first pass finds what each adds up to (states join in any order), a second scans
// each from what came before it. A scan in reverse is one with negative strides. argmax is the first pass alone.
#include <weft/ops/scan_op.h>
#include <weft/cuda/walk.cuh>

#include <array>
#include <bit>

namespace weft::cuda {

namespace {

// --- what is scanned: a state for each element, how two of them join, and what of it is the result -------------------

template <class C_, class F>
struct Running {
  using C = C_;
  using Out = C_;
  using State = C_;
  __device__ State none() const { return F::template start<C>(); }
  __device__ State of(C v, int64_t) const { return v; }
  __device__ State join(State before, State after) const { return F{}(before, after); }
  __device__ Out result(State s) const { return s; }
};

template <class C_>
struct Extreme {
  using C = C_;
  using Out = int64_t;
  struct State {
    C value;
    int64_t at;  // -1: of nothing
  };
  bool largest, later;  // which one of equal values
  __device__ State none() const { return {C(0), -1}; }
  __device__ State of(C v, int64_t at) const { return {v, at}; }
  __device__ State join(State a, State b) const {
    if (a.at < 0 || b.at < 0) return a.at < 0 ? b : a;
    if (beats(largest, a.value, b.value)) return a;
    if (beats(largest, b.value, a.value)) return b;
    return (a.at > b.at) == later ? a : b;
  }
  __device__ Out result(State s) const { return s.at; }
};

struct Job {
  Walk<2> lanes;             // y, x at the first element of each lane
  int64_t step[2], length;   // along dim
  int64_t segment;           // elements of one
  uint32_t segments, group;  // group: threads that share a lane (along)
  bool exclusive, totals_only;
  int64_t first, sign;  // the element at step t has index first + sign·t
};

// --- lanes side by side ----------------------------------------------------------------------------------------------

constexpr int V = 4, kAhead = 4;  // lanes of a thread; elements of each that it has under way

template <class A>
__global__ void __launch_bounds__(kThreads)
    across_kernel(A scan, const __grid_constant__ Job j, typename A::State* totals) {
  using C = typename A::C;
  using State = typename A::State;
  const uint32_t number = blockIdx.x * kThreads + threadIdx.x, segment = number / j.lanes.packs;
  const uint32_t pack = number - segment * j.lanes.packs;
  if (segment >= j.segments) return;
  int64_t at[2];
  const int count = locate(j.lanes, V, pack, at);

  State total[V];
#pragma unroll
  for (int i = 0; i < V; ++i) total[i] = scan.none();
  for (uint32_t s = 0; s < segment && !j.totals_only; ++s) {
#pragma unroll
    for (int i = 0; i < V; ++i) total[i] = scan.join(total[i], totals[(int64_t{s} * j.lanes.packs + pack) * V + i]);
  }

  const int64_t begin = segment * j.segment, end = min(begin + j.segment, j.length);
  for (int64_t t = begin; t < end; t += kAhead) {
    Values<C, Any, V, kAhead> in;
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (t + u < end) in.load(u, j.lanes.operand[1], at[1] + (t + u) * j.step[1], count);
    }
    in.convert(j.lanes.operand[1]);
    Values<typename A::Out, Any, V, 1> out;
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (t + u >= end) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const State before = total[i];
        total[i] = scan.join(before, scan.of(in.value[u * V + i], j.first + j.sign * (t + u)));
        out.value[i] = scan.result(j.exclusive ? before : total[i]);
      }
      if (!j.totals_only) out.store(0, j.lanes.operand[0], at[0] + (t + u) * j.step[0], count);
    }
  }
  if (j.totals_only) {
#pragma unroll
    for (int i = 0; i < V; ++i) totals[int64_t{number} * V + i] = total[i];
  }
}

// --- along memory ----------------------------------------------------------------------------------------------------

template <class T>
__device__ T shuffle_up(T v, unsigned distance) {
  constexpr int kWords = sizeof(T) / 4;
  struct Words {
    uint32_t w[kWords];
  } words = std::bit_cast<Words>(v);
#pragma unroll
  for (int i = 0; i < kWords; ++i) words.w[i] = __shfl_up_sync(~0u, words.w[i], distance);
  return std::bit_cast<T>(words);
}

// What the threads of the group before this one have in all; whole: what all of them have.
template <class A>
__device__ typename A::State join_before(A scan, typename A::State mine, uint32_t group, typename A::State* of_warp,
                                         typename A::State& whole) {
  using State = typename A::State;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  State upto = mine;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const State other = shuffle_up(upto, step);
    if (lane >= step) upto = scan.join(other, upto);
  }
  State before = shuffle_up(upto, 1);
  if (lane == 0) before = scan.none();
  __syncthreads();
  if (lane == 31) of_warp[warp] = upto;
  __syncthreads();
  whole = of_warp[warp];
  if (group == 32) return before;
  State warps_before = scan.none();
  whole = scan.none();
  for (uint32_t w = 0; w < kThreads / 32; ++w) {
    if (w == warp) warps_before = whole;
    whole = scan.join(whole, of_warp[w]);
  }
  return scan.join(warps_before, before);
}

// The elements [begin, end) of a lane that a group of threads takes, and how the operands lie along dim.
struct Part {
  int64_t at[2] = {}, begin = 0, end = 0;
  uint32_t member, number, row, segment;
  WalkOperand y, x;

  __device__ explicit Part(const Job& j) : y(j.lanes.operand[0]), x(j.lanes.operand[1]) {
    member = threadIdx.x % j.group, number = blockIdx.x * (kThreads / j.group) + threadIdx.x / j.group;
    row = number / j.segments, segment = number - row * j.segments;
    y.inner = j.step[0], x.inner = j.step[1];
    if (row >= j.lanes.packs) return;  // no such lane: nothing to do but to take part
    locate(j.lanes, 1, row, at);
    begin = segment * j.segment, end = min(begin + j.segment, j.length);
  }
};

template <class A>
__global__ void __launch_bounds__(kThreads)
    along_totals_kernel(A scan, const __grid_constant__ Job j, typename A::State* totals) {
  __shared__ typename A::State of_warp[kThreads / 32];
  const Part part(j);
  typename A::State total = scan.none(), whole;
  const int64_t tile = int64_t{j.group} * V;
  for (int64_t t = part.begin + part.member * V; t < part.end; t += kAhead * tile) {
    Values<typename A::C, Any, V, kAhead> in;
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int64_t from = t + u * tile, left = part.end - from;
      if (left > 0) in.load(u, part.x, part.at[1] + from * j.step[1], left < V ? static_cast<int>(left) : V);
    }
    in.convert(part.x);
#pragma unroll
    for (int i = 0; i < kAhead * V; ++i) {
      const int64_t at = t + i / V * tile + i % V;
      if (at < part.end) total = scan.join(total, scan.of(in.value[i], j.first + j.sign * at));
    }
  }
  join_before(scan, total, j.group, of_warp, whole);
  if (part.row < j.lanes.packs && part.member == 0) totals[part.number] = whole;
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    along_kernel(A scan, const __grid_constant__ Job j, const typename A::State* totals) {
  using State = typename A::State;
  __shared__ State of_warp[kThreads / 32];
  const Part part(j);
  State carry = scan.none();
  if (part.row < j.lanes.packs) {
    for (uint32_t s = 0; s < part.segment; ++s) carry = scan.join(carry, totals[int64_t{part.row} * j.segments + s]);
  }
  const int64_t tiles = (j.segment + j.group * V - 1) / (j.group * V);  // the same for all threads of a block
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t t = part.begin + (tile * j.group + part.member) * V;
    const int count = static_cast<int>(min(max(part.end - t, int64_t{0}), int64_t{V}));
    Values<typename A::C, Any, V, 1> in;
    if (count > 0) in.load(0, part.x, part.at[1] + t * j.step[1], count);
    in.convert(part.x);
    State upto[V], total = scan.none(), whole;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < count) total = scan.join(total, scan.of(in.value[i], j.first + j.sign * (t + i)));
      upto[i] = total;
    }
    const State before = scan.join(carry, join_before(scan, total, j.group, of_warp, whole));
    carry = scan.join(carry, whole);
    if (count == 0) continue;
    Values<typename A::Out, Any, V, 1> out;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const State mine = !j.exclusive ? scan.join(before, upto[i])
                         : i == 0     ? before
                                      : scan.join(before, upto[i > 0 ? i - 1 : 0]);
      out.value[i] = scan.result(mine);
    }
    out.store(0, part.y, part.at[0] + t * j.step[0], count);
  }
}

// What all segments of a lane have in all, where only that is wanted.
template <class A>
__global__ void __launch_bounds__(kThreads)
    last_kernel(A scan, const __grid_constant__ Job j, bool along, const typename A::State* totals) {
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  if (pack >= j.lanes.packs) return;
  int64_t at[2];
  const int count = locate(j.lanes, along ? 1 : V, pack, at);
  const WalkOperand& y = j.lanes.operand[0];
  for (int i = 0; i < count; ++i) {
    auto total = scan.none();
    for (int64_t s = 0; s < j.segments; ++s)
      total = scan.join(total, totals[along ? pack * int64_t{j.segments} + s : (s * j.lanes.packs + pack) * V + i]);
    Data{y.data, y.dtype}.store(at[0] + i * y.inner, scan.result(total));
  }
}

// --- the plan --------------------------------------------------------------------------------------------------------

// Whether a pack that is aligned at the start of a lane stays so at each of its steps.
void keep_aligned(WalkOperand& o, int64_t step) { o.vector = o.vector && step % V == 0; }

// As it lies along dim, for every lane.
void align_along(WalkOperand& o, int64_t step, const Walk<2>& lanes, int k) {
  o.vector = step == 1 && reinterpret_cast<uintptr_t>(o.data) % (V * size_of(o.dtype)) == 0;
  o.vector = o.vector && (lanes.operand[k].inner % V == 0 || lanes.length == 1);
  for (uint32_t d = 0; d < lanes.rows_dims; ++d) o.vector = o.vector && lanes.operand[k].strides[d] % V == 0;
}

// Tensors of one shape (the first may have size 1 in dim) as lanes along dim, in reverse from its end.
template <int K>
struct Lanes {
  Shape shape;      // with size 1 in dim
  Tensor views[K];  // the first of each lane
  int64_t step[K];  // from one of a lane to the next

  Lanes(const std::array<const Tensor*, K>& tensors, const Shape& whole, int64_t dim, bool reverse) : shape(whole) {
    shape[dim] = 1;
    for (int k = 0; k < K; ++k) {
      const Tensor& x = *tensors[static_cast<size_t>(k)];
      step[k] = x.strides()[dim];
      views[k] = as_strided_raw(x, shape, x.strides(), x.impl().offset + (reverse ? (whole[dim] - 1) * step[k] : 0));
      if (reverse) step[k] = -step[k];
    }
  }
};

template <class A>
void run(A scan, const Tensor& x, int64_t dim, bool exclusive, bool reverse, bool last_only, Tensor& y) {
  const Lanes<2> lanes({&y, &x}, x.shape(), dim, reverse);
  const int64_t n = x.shape()[dim], *step = lanes.step;
  const Layout<2> layout(lanes.shape, {&lanes.views[0], &lanes.views[1]});
  // What is written in order (or, where that is one element a lane, read) says which way memory runs.
  const bool along = std::abs(step[last_only]) == 1 && n > 1;
  Job j{Walk<2>(layout, along ? 1 : V),
        {step[0], step[1]},
        n,
        n,
        1,
        kThreads,
        exclusive,
        false,
        reverse ? n - 1 : 0,
        reverse ? -1 : 1};
  int64_t blocks;
  if (along) {
    j.group = n <= 32 * V * 4 ? 32 : kThreads;
    blocks = (int64_t{j.lanes.packs} * j.group + kThreads - 1) / kThreads;
    for (int k = 0; k < 2; ++k) align_along(j.lanes.operand[k], step[k], j.lanes, k);
  } else {
    blocks = (int64_t{j.lanes.packs} + kThreads - 1) / kThreads;
    for (int k = 0; k < 2; ++k) keep_aligned(j.lanes.operand[k], step[k]);
  }
  const int64_t least = along ? kThreads * V * 4 : 32;  // elements that a segment is worth having for
  const int64_t segments = std::clamp<int64_t>(4 * 132 / blocks, 1, std::clamp<int64_t>(n / least, 1, 128));
  j.segments = static_cast<uint32_t>(segments);
  j.segment = ((n + segments - 1) / segments + V - 1) / V * V;  // packs stay aligned

  const int64_t threads = int64_t{j.lanes.packs} * segments * (along ? j.group : 1);
  auto start = [&](typename A::State* totals) {
    const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
    if (!along)
      across_kernel<A><<<blocks, kThreads, 0, stream()>>>(scan, j, totals);
    else if (j.totals_only)
      along_totals_kernel<A><<<blocks, kThreads, 0, stream()>>>(scan, j, totals);
    else
      along_kernel<A><<<blocks, kThreads, 0, stream()>>>(scan, j, totals);
    check_cuda(cudaGetLastError(), "scan");
  };
  if (segments == 1 && !last_only) return start(nullptr);
  const int64_t states = int64_t{j.lanes.packs} * segments * (along ? 1 : V);
  const Tensor scratch = empty({states * static_cast<int64_t>(sizeof(typename A::State))}, uint8, x.device());
  auto* totals = static_cast<typename A::State*>(scratch.raw_data());
  j.totals_only = true;
  start(totals);
  j.totals_only = false;
  if (!last_only) return start(totals);
  last_kernel<A><<<(j.lanes.packs + kThreads - 1) / kThreads, kThreads, 0, stream()>>>(scan, j, along, totals);
  check_cuda(cudaGetLastError(), "argmax");
}

// --- the linear recurrence: a thread a lane --------------------------------------------------------------------------
// In segments its states would be products of many a, which may overflow where no result does.

struct Recurrence {
  Walk<3> lanes;  // y, a, b
  int64_t step[3], length;
};

template <class C>
__global__ void __launch_bounds__(kThreads) linear_kernel(const __grid_constant__ Recurrence r) {
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  if (pack >= r.lanes.packs) return;
  int64_t at[3];
  const int count = locate(r.lanes, V, pack, at);
  C state[V] = {};
  for (int64_t t = 0; t < r.length; t += kAhead) {
    Values<C, Any, V, kAhead> a, b;
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (t + u >= r.length) continue;
      a.load(u, r.lanes.operand[1], at[1] + (t + u) * r.step[1], count);
      b.load(u, r.lanes.operand[2], at[2] + (t + u) * r.step[2], count);
    }
    a.convert(r.lanes.operand[1]), b.convert(r.lanes.operand[2]);
    Values<C, Any, V, 1> out;
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (t + u >= r.length) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) out.value[i] = state[i] = a.value[u * V + i] * state[i] + b.value[u * V + i];
      out.store(0, r.lanes.operand[0], at[0] + (t + u) * r.step[0], count);
    }
  }
}

}  // namespace

void scan(ScanOp op, const Tensor& x, int64_t dim, bool exclusive, bool reverse, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  visit(op, [&]<class F>(F) {
    dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
      if constexpr (std::is_floating_point_v<C> || !std::is_same_v<F, fn::ScanLogSumExp>)
        run(Running<C, F>(), x, dim, exclusive, reverse, false, y);
    });
  });
}

void scan_extreme(bool largest, const Tensor& x, int64_t dim, Tensor& indices) {
  if (x.numel() == 0) return;
  DeviceScope scope(x);
  dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
    run(Extreme<C>{largest, true}, x, dim, false, false, false, indices);
  });
}

void arg_extreme(bool largest, const Tensor& x, int64_t dim, Tensor& indices) {
  if (indices.numel() == 0) return;
  DeviceScope scope(x);
  dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
    run(Extreme<C>{largest, false}, x, dim, false, false, true, indices);
  });
}

void linear_scan(const Tensor& a, const Tensor& b, int64_t dim, bool reverse, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(y);
  const Lanes<3> l({&y, &a, &b}, y.shape(), dim, reverse);
  const Layout<3> layout(l.shape, {&l.views[0], &l.views[1], &l.views[2]});
  Recurrence r{Walk<3>(layout, V), {l.step[0], l.step[1], l.step[2]}, y.shape()[dim]};
  for (int k = 0; k < 3; ++k) keep_aligned(r.lanes.operand[k], l.step[k]);
  dispatch_float(y.dtype(), [&]<class C>(Type<C>) {
    linear_kernel<C><<<(r.lanes.packs + kThreads - 1) / kThreads, kThreads, 0, stream()>>>(r);
    check_cuda(cudaGetLastError(), "linear_scan");
  });
}

}  // namespace weft::cuda
