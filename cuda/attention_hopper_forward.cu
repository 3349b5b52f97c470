// A block stays on its multiprocessor and takes tiles of queries from a counter until none is left. One of its
// warpgroups only loads (its first thread): the queries once, then keys and values through a ring of stages. The others
// each own 64 rows of queries, scores and output, and alternate: while one multiplies, the others take exponentials.
// Source of the schedule: FlashAttention-3 (arXiv:2407.08608).
#include <weft/cuda/attention_hopper.cuh>

namespace weft::cuda {

namespace hopper {
namespace {

// Rows of queries of a block are 64 · kConsumers. Registers a thread: an even share at first, then as set here.
template <int D, bool Causal, int Consumers>
struct Plan;
template <bool Causal>
struct Plan<64, Causal, 3> {
  static constexpr int kDim = 64, kConsumers = 3, kKeys = 128, kStages = 3, kLoaderRegisters = 32, kRegisters = 160;
};
template <bool Causal>  // for few queries: their number is rounded up less
struct Plan<64, Causal, 2> {
  static constexpr int kDim = 64, kConsumers = 2, kKeys = 128, kStages = 3, kLoaderRegisters = 40, kRegisters = 232;
};
template <bool Causal>
struct Plan<128, Causal, 2> {
  static constexpr int kDim = 128, kConsumers = 2, kKeys = Causal ? 128 : 176, kStages = 2, kLoaderRegisters = 40,
                       kRegisters = 232;
};

template <class T, class P>
struct Shared {
  Tile<T, 64, P::kDim> q[P::kConsumers];
  Tile<T, P::kKeys, P::kDim> k[P::kStages], v[P::kStages];
  Barrier q_full, q_empty, k_full[P::kStages], k_empty[P::kStages], v_full[P::kStages], v_empty[P::kStages];
  int work;  // which tile of queries q is of, or -1: no more
};

template <class T>
struct Params {
  CUtensorMap q, k, v;
  T* out;
  Strides out_strides;
  float* lse;  // [b, h, n]
  Sizes sizes;
  float scale_log2;  // scale · log2(e)
  int tiles;         // of queries, a head
  int group;         // heads that are worked on together: their keys and values fit the L2 cache
  int* next;         // how many tiles blocks have taken after their first
};

struct Work {
  int tile, h, b;
};

// Long tiles of a group of heads first: at the end only short ones are left to fill the machine.
template <class T>
__device__ Work work_at(const Params<T>& p, int index) {
  const int group = index / (p.group * p.tiles), rest = index % (p.group * p.tiles), first = group * p.group,
            members = min(p.group, p.sizes.b * p.sizes.h - first), head = first + rest % members;
  return {p.tiles - 1 - rest / members, head % p.sizes.h, head / p.sizes.h};
}

// Tiles of keys that the rows [row, row + rows) see.
template <bool Causal>
__device__ int key_tiles(const Sizes& s, int row, int rows, int keys) {
  const int end = Causal ? min(s.m, s.limit(min(row + rows, s.n) - 1)) : s.m;
  return end <= 0 ? 0 : (end + keys - 1) / keys;
}

// --- The loading warpgroup ---

template <class T, class P, bool Causal>
__device__ void load(const Params<T>& p, Shared<T, P>& shared) {
  const int rows = 64 * P::kConsumers, total = p.tiles * p.sizes.b * p.sizes.h;
  Ring<P::kStages> ring;
  uint32_t parity = 0;
  for (int index = blockIdx.x; index < total; index = gridDim.x + atomicAdd(p.next, 1)) {
    const Work w = work_at(p, index);
    const int hk = w.h / (p.sizes.h / p.sizes.hk);
    shared.q_empty.wait(parity ^ 1);
    shared.work = index;
    shared.q_full.expect(P::kConsumers * shared.q[0].kBytes);
    for (int c = 0; c < P::kConsumers; ++c) shared.q[c].load(p.q, shared.q_full, w.tile * rows + 64 * c, w.h, w.b);
    for (int j = key_tiles<Causal>(p.sizes, w.tile * rows, rows, P::kKeys) - 1; j >= 0; --j) {
      const int at = ring.stage;
      shared.k_empty[at].wait(ring.parity ^ 1);
      shared.k_full[at].expect(shared.k[at].kBytes);
      shared.k[at].load(p.k, shared.k_full[at], j * P::kKeys, hk, w.b);
      shared.v_empty[at].wait(ring.parity ^ 1);
      shared.v_full[at].expect(shared.v[at].kBytes);
      shared.v[at].load(p.v, shared.v_full[at], j * P::kKeys, hk, w.b);
      ring.next();
    }
    parity ^= 1;
  }
  shared.q_empty.wait(parity ^ 1);
  shared.work = -1;
  shared.q_full.arrive();
}

// --- A computing warpgroup ---

template <class T, class P, bool Causal>
struct Consumer {
  static constexpr int D = P::kDim, Keys = P::kKeys;

  const Params<T>& p;
  Shared<T, P>& shared;
  const int self;         // which of the consumers
  const int row_in_tile;  // this thread's first row of the block's queries; the second is 8 further
  Ring<P::kStages> ring;

  float o[D / 2];          // [64, D]: sum of weights · values, not yet divided
  float s[Keys / 2];       // [64, Keys]: scores, then weights
  uint32_t w[Keys / 4];    // the weights as an operand
  float top[2], total[2];  // of the two rows: largest score, and this thread's part of the sum of weights
  float shrink[2];         // what the sums so far are to be multiplied by, as top has grown

  __device__ __forceinline__ Consumer(const Params<T>& params, Shared<T, P>& memory, int consumer)
      : p(params),
        shared(memory),
        self(consumer),
        row_in_tile(consumer * 64 + threadIdx.x % kWarpgroup / 32 * 16 + threadIdx.x % 32 / 4) {}

  __device__ __forceinline__ void release(Barrier& b) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) b.arrive();
  }
  // Consumers issue their products in turn: named barrier 1 + c is consumer c's turn.
  __device__ __forceinline__ void wait_turn() { named_sync(1 + self, 2 * kWarpgroup); }
  __device__ __forceinline__ void pass_turn() { named_arrive(1 + (self + 1) % P::kConsumers, 2 * kWarpgroup); }

  // s = q kᵀ
  __device__ __forceinline__ void start_scores(int stage) {
    mma_begin();
#pragma unroll
    for (int e = 0; e < D; e += 16)
      Mma<T, Keys>::template shared<0, 0>(s, along_columns(shared.q[self], 0, e), along_columns(shared.k[stage], 0, e),
                                          e > 0);
    mma_commit();
  }
  // o += w v
  __device__ __forceinline__ void start_output(int stage) {
    mma_begin();
#pragma unroll
    for (int j = 0; j < Keys; j += 16)
      Mma<T, D>::template registers<1>(o, w + j / 4, along_rows(shared.v[stage], j, 0), 1);
    mma_commit();
  }

  __device__ __forceinline__ void mask(int row, int key) {
    int limit[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      limit[half] = (Causal ? min(p.sizes.m, p.sizes.limit(row + 8 * half)) : p.sizes.m) - key - threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < Keys / 2; ++i)
      if (i / 4 * 8 + i % 2 >= limit[i / 2 % 2]) s[i] = -INFINITY;
  }

  template <bool Masked>
  __device__ __forceinline__ void softmax() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float high = top[half], sum = 0;
#pragma unroll
      for (int i = 2 * half; i < Keys / 2; i += 4) high = fmaxf(high, fmaxf(s[i], s[i + 1]));
      high = quad_max(high);
      const float base = Masked && high == -INFINITY ? 0.f : high * p.scale_log2;  // of a row without keys: any
      shrink[half] = exp2_approx(top[half] * p.scale_log2 - base);
      top[half] = high;
#pragma unroll
      for (int i = 2 * half; i < Keys / 2; i += 4) {
#pragma unroll
        for (int k = i; k < i + 2; ++k) sum += s[k] = exp2_approx(s[k] * p.scale_log2 - base);
      }
      total[half] = total[half] * shrink[half] + sum;
    }
  }

  __device__ __forceinline__ void rescale() {
#pragma unroll
    for (int i = 0; i < D / 2; ++i) o[i] *= shrink[i / 2 % 2];
  }

  // The first tile of keys: nothing to overlap it with.
  __device__ __forceinline__ void first(int row, int j) {
    shared.k_full[ring.stage].wait(ring.parity);
    start_scores(ring.stage);
    mma_wait<0>();
    pin(s);
    release(shared.k_empty[ring.stage]);
    mask(row, j * Keys);
    top[0] = top[1] = -INFINITY, total[0] = total[1] = 0;
    softmax<true>();
    pack_operand<T>(s, w);
    shared.v_full[ring.stage].wait(ring.parity);
#pragma unroll
    for (int i = 0; i < D / 2; ++i) o[i] = 0;
  }

  // Scores of tile j under way together with the output of the tile before it, whose weights are in w and whose values
  // have arrived.
  template <bool Masked>
  __device__ __forceinline__ void step(int row, int j) {
    const Ring<P::kStages> before = ring;
    ring.next();
    shared.k_full[ring.stage].wait(ring.parity);
    wait_turn();
    start_scores(ring.stage);
    start_output(before.stage);
    pass_turn();
    mma_wait<1>();
    pin(s);
    release(shared.k_empty[ring.stage]);
    if (Masked) mask(row, j * Keys);
    softmax<Masked>();
    pin(s);
    shared.v_full[ring.stage].wait(ring.parity);  // also a branch, behind which the assembler moves no exponentials
    mma_wait<0>();
    pin(o);
    release(shared.v_empty[before.stage]);
    rescale();
    pack_operand<T>(s, w);
  }

  __device__ __forceinline__ void last() {
    start_output(ring.stage);
    mma_wait<0>();
    pin(o);
    release(shared.v_empty[ring.stage]);
    ring.next();
  }

  __device__ __forceinline__ void store(const Work& at, int row, bool empty) {
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = empty ? 0.f : quad_sum(total[half]);
      inverse[half] = sum > 0 ? 1 / sum : 0.f;
      const int i = row + 8 * half;
      if (threadIdx.x % 4 == 0 && i < p.sizes.n)
        p.lse[(int64_t{at.b} * p.sizes.h + at.h) * p.sizes.n + i] =
            sum > 0 ? top[half] * p.sizes.scale + __logf(sum) : -INFINITY;
    }
    const int first = at.tile * 64 * P::kConsumers + self * 64;
    store_rows<T, D>(o, inverse[0], inverse[1],
                     p.out + at.b * p.out_strides.b + at.h * p.out_strides.h + first * p.out_strides.n, p.out_strides.n,
                     p.sizes.n - first);
  }

  __device__ __forceinline__ void run() {
    if (self == P::kConsumers - 1) pass_turn();  // consumer 0 begins
    for (uint32_t parity = 0;; parity ^= 1) {
      shared.q_full.wait(parity);
      const int index = shared.work;
      if (index < 0) return;
      const Work at = work_at(p, index);
      const int begin = at.tile * 64 * P::kConsumers, row = begin + row_in_tile,
                tiles = key_tiles<Causal>(p.sizes, begin, 64 * P::kConsumers, Keys);
      // Tiles of keys that every row of the block sees whole need no mask.
      const int whole = max(0, Causal ? min(p.sizes.m, p.sizes.limit(begin)) : p.sizes.m) / Keys;
      if (tiles > 0) {
        int j = tiles - 1;
        first(row, j--);
        for (; j >= whole; --j) step<true>(row, j);
        for (; j >= 0; --j) step<false>(row, j);
        release(shared.q_empty);
        last();
      } else {
#pragma unroll
        for (int i = 0; i < D / 2; ++i) o[i] = 0;
        release(shared.q_empty);
      }
      store(at, row, tiles == 0);
    }
  }
};

template <class T, class P, bool Causal>
__global__ void __launch_bounds__((1 + P::kConsumers) * kWarpgroup, 1)
    forward_kernel(const __grid_constant__ Params<T> p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  static_assert(fits_registers<1 + P::kConsumers>(P::kLoaderRegisters, P::kRegisters));
  auto& shared = shared_memory<Shared<T, P>>();
  if (threadIdx.x == 0) {
    const int warps = 4 * P::kConsumers;
    shared.q_full.init(1), shared.q_empty.init(warps);
    for (int i = 0; i < P::kStages; ++i) {
      shared.k_full[i].init(1), shared.k_empty[i].init(warps);
      shared.v_full[i].init(1), shared.v_empty[i].init(warps);
    }
    fence_barrier_init();
  }
  __syncthreads();
  const int group = __shfl_sync(~0u, threadIdx.x / kWarpgroup, 0);
  if (group == 0) {
    lower_registers<P::kLoaderRegisters>();
    if (threadIdx.x == 0) load<T, P, Causal>(p, shared);
  } else {
    raise_registers<P::kRegisters>();
    Consumer<T, P, Causal>(p, shared, group - 1).run();
  }
#endif
}

// --- Launch ---

template <class T, int D, bool Causal, int Consumers>
bool launch_forward(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args, Tensor& out,
                    Tensor& lse) {
  using P = Plan<D, Causal, Consumers>;
  Params<T> p{};
  if (!tensor_map(q, 64, p.q) || !tensor_map(k, P::kKeys, p.k) || !tensor_map(v, P::kKeys, p.v)) return false;
  p.out = static_cast<T*>(out.raw_data());
  p.out_strides = strides_of(out);
  p.lse = lse.data<float>();
  p.sizes = sizes_of(q, k, args);
  p.scale_log2 = static_cast<float>(args.scale * 1.4426950408889634);
  const int rows = 64 * P::kConsumers, heads = p.sizes.b * p.sizes.h;
  p.tiles = (p.sizes.n + rows - 1) / rows;
  const int64_t head_bytes = int64_t{4} * p.sizes.m * D, l2 = 24 << 20;
  p.group = Causal ? static_cast<int>(std::clamp<int64_t>(l2 / head_bytes, 4, heads < 4 ? 4 : heads)) : 1;
  const Tensor next = empty({1}, int32, q.device());
  p.next = next.data<int>();
  check_cuda(cudaMemsetAsync(p.next, 0, sizeof(int), stream()), "attention");
  const int64_t blocks =
      std::min<int64_t>(int64_t{p.tiles} * heads, device_attribute(q, cudaDevAttrMultiProcessorCount));
  constexpr auto kernel = forward_kernel<T, P, Causal>;
  allow_shared(kernel, kSharedBytes<Shared<T, P>>);
  kernel<<<static_cast<int>(blocks), (1 + P::kConsumers) * kWarpgroup, kSharedBytes<Shared<T, P>>, stream()>>>(p);
  check_cuda(cudaGetLastError(), "attention");
  return true;
}

}  // namespace
}  // namespace hopper

bool hopper_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                    const AttentionArgs& args, Tensor& out, Tensor& lse) {
  if (!hopper::suits(q, k, v, mask, bias, args) || !hopper::aligned_rows(out) || !lse.is_contiguous()) return false;
  DeviceScope scope(q);
  auto launch = [&]<class T, bool Causal>(T, std::bool_constant<Causal>) {
    if (q.shape()[3] == 128) return hopper::launch_forward<T, 128, Causal, 2>(q, k, v, args, out, lse);
    if (q.shape()[2] <= 1536) return hopper::launch_forward<T, 64, Causal, 2>(q, k, v, args, out, lse);
    return hopper::launch_forward<T, 64, Causal, 3>(q, k, v, args, out, lse);
  };
  auto launch_type = [&]<class T>(T t) {
    return args.causal ? launch(t, std::true_type{}) : launch(t, std::false_type{});
  };
  return q.dtype() == bfloat16 ? launch_type(__nv_bfloat16{}) : launch_type(__half{});
}

}  // namespace weft::cuda
