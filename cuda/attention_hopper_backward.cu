// A block stays on its multiprocessor and takes work from a counter: 128 keys of one key-value head. It visits the
// tiles of queries that see them, of every query head of the group, the last first. Its gradients of k and v stay in
// registers; they are nobody else's, and heads are added in order. The gradient of q is everybody's: blocks add to it
// in float32, tile by tile in the order of their keys. A block waits for its turn at a tile, so that sums have one
// order; that wait is short, since all blocks take the tiles in the same order. The last at a tile writes the result.
//
// A warpgroup has 64 of the keys, and everything of the scores is transposed, keys × queries: so weights and their
// gradients are in the registers that the products for v and k want them in. Only the product for q crosses warpgroups,
// through shared memory. Source of the recomputation: FlashAttention-2 (arXiv:2307.08691).
#include <weft/cuda/attention_hopper.cuh>

namespace weft::cuda {

namespace hopper {
namespace {

constexpr float kLog2e = 1.4426950408889634f;

// A tile of queries is 64 · kHalves rows; scores are made 64 queries at a time. Each of two warpgroups makes [64, 64]
// of a tile's gradient of q: one half of the columns (D = 128) or of the rows (D = 64).
template <int D>
struct Plan {
  static constexpr int kDim = D, kKeys = 128, kHalves = 128 / D, kQueries = 64 * kHalves, kStages = 2,
                       kLoaderRegisters = D == 64 ? 40 : 24, kRegisters = D == 64 ? 232 : 240;
  // Registers suffice to begin the next visit's scores before this one ends.
  static constexpr bool kAhead = D == 64;
};

template <class T>
struct Params {
  CUtensorMap q, k, v, dout;
  T *dq, *dk, *dv;
  Strides dq_strides, dk_strides, dv_strides;
  const float *lse2, *delta;  // [b·h, tiles · kQueries]
  float* sum;                 // of gradients of q: a tile is [warpgroup, 8, thread, 4], as registers hold it
  int* turns;                 // [b·h, tiles]: how many tiles of keys have been added
  int* next;                  // how much work blocks have taken
  Sizes sizes;
  float scale_log2;
  int tiles, key_tiles;
  int group;  // key-value heads that are worked on together
};

// --- Row sums ---

// lse2 = lse · log2(e), +∞ where a row sees no key or does not exist: its weights become 0. delta = Σ dout·out - dlse.
// D / 8 threads a row. Rows without a key get their gradient here.
template <class T, int D>
__global__ void row_kernel(const T* out, Strides os, const T* dout, Strides ds, const float* lse, const float* dlse,
                           T* dq, Strides qs, Sizes s, int rows, float* lse2, float* delta) {
  const int64_t index = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, row = index / (D / 8);  // of b·h·rows
  const int e = static_cast<int>(index % (D / 8)) * 8, i = static_cast<int>(row % rows);
  const int64_t head = row / rows, h = head % s.h, b = head / s.h;
  if (b >= s.b) return;
  float sum = 0;
  if (i < s.n) {
    const uint4 x = *reinterpret_cast<const uint4*>(out + b * os.b + h * os.h + i * os.n + e),
                y = *reinterpret_cast<const uint4*>(dout + b * ds.b + h * ds.h + i * ds.n + e);
    const T *px = reinterpret_cast<const T*>(&x), *py = reinterpret_cast<const T*>(&y);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += static_cast<float>(px[k]) * static_cast<float>(py[k]);
  }
#pragma unroll
  for (int far = D / 16; far > 0; far /= 2) sum += __shfl_xor_sync(~0u, sum, far);
  const bool seen = i < s.n && lse[head * s.n + i] != -INFINITY;
  if (e == 0) {
    lse2[row] = seen ? lse[head * s.n + i] * kLog2e : INFINITY;
    delta[row] = seen ? sum - (dlse ? dlse[head * s.n + i] : 0.f) : 0.f;
  }
  if (i < s.n && !seen) *reinterpret_cast<uint4*>(dq + b * qs.b + h * qs.h + i * qs.n + e) = make_uint4(0, 0, 0, 0);
}

// --- Work, and its order ---

struct Work {
  int b, hk, j;      // the keys are j · kKeys …
  int first, count;  // tiles of queries [first, first + count) see them
};

// Few keys before them first: those are seen by most queries. A few heads at a time, so that theirs stay in the L2
// cache.
template <class P, bool Causal, class T>
__device__ Work work_at(const Params<T>& p, int index) {
  const Sizes& s = p.sizes;
  const int group = index / (p.group * p.key_tiles), rest = index % (p.group * p.key_tiles), head0 = group * p.group,
            members = min(p.group, s.b * s.hk - head0), head = head0 + rest % members, j = rest / members,
            first = Causal ? max(0, j * P::kKeys + s.n - s.m) / P::kQueries : 0;
  return {head / s.hk, head % s.hk, j, first, p.tiles - first};
}

// Visits of tiles: the last tile of every query head first, head by head.
struct Visit {
  int h, i;
  __device__ __forceinline__ Visit(const Work& w, int heads) : h(w.hk * heads), i(w.first + w.count - 1) {}
  __device__ __forceinline__ void next(const Work& w) {
    if (--i < w.first) ++h, i = w.first + w.count - 1;
  }
};

template <class T, class P>
struct Shared {
  Tile<T, P::kKeys, P::kDim> k, v;
  Tile<T, P::kQueries, P::kDim> q[P::kStages], dout[P::kStages];
  Tile<T, P::kKeys, P::kQueries> ds[2];  // transposed gradient of scores; alternately
  alignas(16) float lse2[P::kStages][P::kQueries], delta[P::kStages][P::kQueries];
  Barrier kv_full, kv_empty, q_full[P::kStages], q_empty[P::kStages], dout_full[P::kStages], dout_empty[P::kStages];
  Barrier turn, added, passed;  // it is this block's turn at the tile; it has added; the turn is the next block's
  Work work;                    // whose k and v these are; count 0: no more
};

// --- The loading warpgroup: one thread loads, two keep turns ---

template <class T, class P, bool Causal>
__device__ void load(const Params<T>& p, Shared<T, P>& shared) {
  const int heads = p.sizes.h / p.sizes.hk, total = p.sizes.b * p.sizes.hk * p.key_tiles;
  constexpr int kLine = P::kQueries * 4;
  Ring<P::kStages> ring;
  uint32_t parity = 0;
  auto load_keys = [&](const Work& w) {
    shared.kv_empty.wait(parity ^ 1);
    parity ^= 1;
    shared.work = w;
    shared.kv_full.expect(shared.k.kBytes + shared.v.kBytes);
    shared.k.load(p.k, shared.kv_full, w.j * P::kKeys, w.hk, w.b);
    shared.v.load(p.v, shared.kv_full, w.j * P::kKeys, w.hk, w.b);
  };
  // Work may have to wait for work with a smaller number. That has begun, since numbers are drawn in order.
  for (int index = atomicAdd(p.next, 1); index < total; index = atomicAdd(p.next, 1)) {
    const Work w = work_at<P, Causal>(p, index);
    Visit at(w, heads);
#pragma unroll 1
    for (int visit = 0; visit < heads * w.count; ++visit, at.next(w), ring.next()) {
      const int64_t row = (int64_t{w.b} * p.sizes.h + at.h) * p.tiles * P::kQueries + at.i * P::kQueries;
      const int k = ring.stage;
      shared.q_empty[k].wait(ring.parity ^ 1);
      shared.q_full[k].expect(shared.q[k].kBytes + kLine);
      shared.q[k].load(p.q, shared.q_full[k], at.i * P::kQueries, at.h, w.b);
      load_line(shared.lse2[k], p.lse2 + row, kLine, shared.q_full[k]);
      if (visit == 0) load_keys(w);
      shared.dout_empty[k].wait(ring.parity ^ 1);
      shared.dout_full[k].expect(shared.dout[k].kBytes + kLine);
      shared.dout[k].load(p.dout, shared.dout_full[k], at.i * P::kQueries, at.h, w.b);
      load_line(shared.delta[k], p.delta + row, kLine, shared.dout_full[k]);
    }
  }
  shared.kv_empty.wait(parity ^ 1);
  shared.work.count = 0;
  shared.kv_full.arrive();
}

// Each visit of the block, in order: f(where the tile's count of turns is, this block's turn).
template <class T, class P, class F>
__device__ __forceinline__ void for_each_visit(const Params<T>& p, Shared<T, P>& shared, F f) {
  const int heads = p.sizes.h / p.sizes.hk;
  for (uint32_t parity = 0;; parity ^= 1) {
    shared.kv_full.wait(parity);
    const Work w = shared.work;
    if (w.count == 0) return;
    shared.kv_empty.arrive();
    Visit at(w, heads);
#pragma unroll 1
    for (int visit = 0; visit < heads * w.count; ++visit, at.next(w))
      f(p.turns + (int64_t{w.b} * p.sizes.h + at.h) * p.tiles + at.i, w.j);
  }
}

// The next turn is looked for while the last one is passed on.
template <class T, class P>
__device__ void await_turns(const Params<T>& p, Shared<T, P>& shared) {
  uint32_t passed = 1;
  for_each_visit(p, shared, [&](const int* turn, int mine) {
    for (int now = -1; now != mine;)
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(turn) : "memory");
    shared.passed.wait(passed);
    passed ^= 1;
    shared.turn.arrive();
  });
}
template <class T, class P>
__device__ void pass_turns(const Params<T>& p, Shared<T, P>& shared) {
  uint32_t added = 0;
  for_each_visit(p, shared, [&](int* turn, int) {
    shared.added.wait(added);
    added ^= 1;
    asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(turn) : "memory");
    shared.passed.arrive();
  });
}

// --- A computing warpgroup ---

template <class T, class P, bool Causal>
struct Consumer {
  static constexpr int D = P::kDim, Halves = P::kHalves;

  const Params<T>& p;
  Shared<T, P>& shared;
  const int self;   // 0 or 1: keys 64 · self … of the block
  const Work& w;    // not copied: there are no registers for it
  int visited = 0;  // tiles of queries, over all work

  float dk[D / 2], dv[D / 2];    // [64 keys, D]
  float s[32], dp[32];           // [64 keys, 64 queries]: scores, then weights; gradient of weights, then of scores
  uint32_t weights[16], ds[16];  // both as operands
  float dq[32];                  // [64, 64] of the tile's

  __device__ __forceinline__ Consumer(const Params<T>& params, Shared<T, P>& memory, int consumer)
      : p(params), shared(memory), self(consumer), w(memory.work) {}

  // Of the ring: stage, and the parity of its barriers.
  static_assert(P::kStages == 2);
  __device__ __forceinline__ int stage() const { return visited & 1; }
  __device__ __forceinline__ uint32_t parity() const { return visited >> 1 & 1; }

  __device__ __forceinline__ void release(Barrier& b) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) b.arrive();
  }

  // s = k qᵀ, of the tile's half
  __device__ __forceinline__ void start_scores(int stage, int half) {
    mma_begin();
#pragma unroll
    for (int e = 0; e < D; e += 16)
      Mma<T, 64>::template shared<0, 0>(s, along_columns(shared.k, 64 * self, e),
                                        along_columns(shared.q[stage], 64 * half, e), e > 0);
    mma_commit();
  }
  // dp = v doutᵀ
  __device__ __forceinline__ void start_dp(int stage, int half) {
    mma_begin();
#pragma unroll
    for (int e = 0; e < D; e += 16)
      Mma<T, 64>::template shared<0, 0>(dp, along_columns(shared.v, 64 * self, e),
                                        along_columns(shared.dout[stage], 64 * half, e), e > 0);
    mma_commit();
  }
  // dv += weights dout
  __device__ __forceinline__ void start_dv(int stage, int half) {
    mma_begin();
#pragma unroll
    for (int i = 0; i < 64; i += 16)
      Mma<T, D>::template registers<1>(dv, weights + i / 4, along_rows(shared.dout[stage], 64 * half + i, 0), 1);
    mma_commit();
  }
  // dk += ds q
  __device__ __forceinline__ void start_dk(int stage, int half) {
    mma_begin();
#pragma unroll
    for (int i = 0; i < 64; i += 16)
      Mma<T, D>::template registers<1>(dk, ds + i / 4, along_rows(shared.q[stage], 64 * half + i, 0), 1);
    mma_commit();
  }
  // dq = dsᵀ k over all keys of the block
  __device__ __forceinline__ void start_dq(int buffer) {
    mma_begin();
#pragma unroll
    for (int j = 0; j < P::kKeys; j += 16)
      Mma<T, 64>::template shared<1, 1>(dq, along_rows(shared.ds[buffer], j, Halves == 2 ? 64 * self : 0),
                                        along_rows(shared.k, j, Halves == 2 ? 0 : 64 * self), j > 0);
    mma_commit();
  }

  // Scores of keys × queries from query on that are not seen. This thread's first row: key.
  __device__ __forceinline__ void mask(int query) {
    const int thread = threadIdx.x % kWarpgroup;
    const int key = w.j * P::kKeys + 64 * self + thread / 32 * 16 + thread % 32 / 4;
    const int column = query + thread % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int k = key + 8 * half;
      // A key is seen from query k + n - m on, if it exists.
      const int from = k >= p.sizes.m ? INT_MAX : Causal ? k + p.sizes.n - p.sizes.m - column : INT_MIN;
#pragma unroll
      for (int i = 2 * half; i < 32; i += 4) {
        if (i / 4 * 8 < from) s[i] = -INFINITY;
        if (i / 4 * 8 + 1 < from) s[i + 1] = -INFINITY;
      }
    }
  }

  // s: scores → weights
  __device__ __forceinline__ void weigh(const float* lse2) {
    const float2* line = reinterpret_cast<const float2*>(lse2) + threadIdx.x % 4;
#pragma unroll
    for (int g = 0; g < 8; ++g) {
      const float2 l = line[4 * g];
      s[4 * g] = exp2_approx(s[4 * g] * p.scale_log2 - l.x);
      s[4 * g + 1] = exp2_approx(s[4 * g + 1] * p.scale_log2 - l.y);
      s[4 * g + 2] = exp2_approx(s[4 * g + 2] * p.scale_log2 - l.x);
      s[4 * g + 3] = exp2_approx(s[4 * g + 3] * p.scale_log2 - l.y);
    }
  }
  // dp: gradient of weights → of scores
  __device__ __forceinline__ void differentiate(const float* delta) {
    const float2* line = reinterpret_cast<const float2*>(delta) + threadIdx.x % 4;
#pragma unroll
    for (int g = 0; g < 8; ++g) {
      const float2 l = line[4 * g];
      dp[4 * g] = s[4 * g] * (dp[4 * g] - l.x);
      dp[4 * g + 1] = s[4 * g + 1] * (dp[4 * g + 1] - l.y);
      dp[4 * g + 2] = s[4 * g + 2] * (dp[4 * g + 2] - l.x);
      dp[4 * g + 3] = s[4 * g + 3] * (dp[4 * g + 3] - l.y);
    }
  }

  // ds to shared memory, for the other warpgroup too.
  __device__ __forceinline__ void share_ds(int buffer, int half) {
    const int lane = threadIdx.x % 32, matrix = lane / 8;
    const int row = 64 * self + threadIdx.x % kWarpgroup / 32 * 16 + matrix % 2 * 8 + lane % 8;
    const uint32_t at = shared_address(shared.ds[buffer].chunk(row, 64 * half + matrix / 2 * 8));
#pragma unroll
    for (int g = 0; g < 4; ++g) store_matrices(at ^ 32 * g, ds + 4 * g);  // chunks 2g, 2g + 1: swizzled, so ^ is +
    fence_shared();
  }

  // This block's part of the tile's gradient of q, at its turn.
  __device__ __forceinline__ void add_dq(const Visit& at) {
    const Sizes& s = p.sizes;
    const int end = Causal ? min(s.m, s.limit(min((at.i + 1) * P::kQueries, s.n) - 1)) : s.m;
    const bool last = end <= (w.j + 1) * P::kKeys;  // nobody adds after
    const int64_t head = int64_t{w.b} * s.h + at.h;
    float4* sum = reinterpret_cast<float4*>(p.sum) + (head * p.tiles + at.i) * (P::kQueries * D / 4) +
                  self * 8 * kWarpgroup + threadIdx.x % kWarpgroup;
    shared.turn.wait(~visited & 1);
    if (last) {
      if (w.j > 0) {
#pragma unroll
        for (int g = 0; g < 8; ++g) {
          const float4 x = __ldcg(sum + g * kWarpgroup);
          dq[4 * g] += x.x, dq[4 * g + 1] += x.y, dq[4 * g + 2] += x.z, dq[4 * g + 3] += x.w;
        }
      }
      const int row = at.i * P::kQueries + (Halves == 2 ? 64 * self : 0), column = Halves == 2 ? 0 : 64 * self;
      store_rows<T, 64>(dq, s.scale, s.scale,
                        p.dq + w.b * p.dq_strides.b + at.h * p.dq_strides.h + row * p.dq_strides.n + column,
                        p.dq_strides.n, s.n - row);
    } else if (w.j == 0) {
#pragma unroll
      for (int g = 0; g < 8; ++g)
        __stcg(sum + g * kWarpgroup, make_float4(dq[4 * g], dq[4 * g + 1], dq[4 * g + 2], dq[4 * g + 3]));
    } else {
#pragma unroll
      for (int g = 0; g < 8; ++g)
        asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(sum + g * kWarpgroup),
                     "f"(dq[4 * g]), "f"(dq[4 * g + 1]), "f"(dq[4 * g + 2]), "f"(dq[4 * g + 3])
                     : "memory");
    }
    release(shared.added);
  }

  // One tile of queries. Ahead: its first scores are under way, and the next visit's begin while it ends.
  template <bool Last>
  __device__ __forceinline__ void step(const Visit& at) {
    const int stage = this->stage();
    if constexpr (!P::kAhead) {
      shared.q_full[stage].wait(parity());
      start_scores(stage, 0);
    }
    shared.dout_full[stage].wait(parity());
#pragma unroll
    for (int half = 0; half < Halves; ++half) {
      const int query = at.i * P::kQueries + 64 * half;
      start_dp(stage, half);
      mma_wait<1>();
      pin(s);
      if ((w.j + 1) * P::kKeys > (Causal ? min(p.sizes.m, p.sizes.limit(query)) : p.sizes.m)) mask(query);
      weigh(shared.lse2[stage] + 64 * half);
      pack_operand<T>(s, weights);
      pin(s), pin(weights);
      shared.q_full[stage].wait(parity());  // long past: a branch, behind which the assembler moves no exponentials
      mma_wait<0>();
      pin(dp);
      start_dv(stage, half);
      differentiate(shared.delta[stage] + 64 * half);
      pack_operand<T>(dp, ds);
      share_ds(visited & 1, half);
      if (half == Halves - 1) {
        named_sync(1, 2 * kWarpgroup);
        start_dq(visited & 1);
      }
      start_dk(stage, half);
      if (half < Halves - 1) start_scores(stage, half + 1);
    }
    ++visited;
    if constexpr (P::kAhead && !Last) {
      shared.q_full[this->stage()].wait(parity());
      start_scores(this->stage(), 0);
      mma_wait<2>();
    } else {
      mma_wait<1>();
    }
    pin(dq);
    release(shared.dout_empty[stage]);
    add_dq(at);
    mma_wait<0>();
    release(shared.q_empty[stage]);
  }

  __device__ __forceinline__ void work() {
#pragma unroll
    for (int i = 0; i < D / 2; ++i) dk[i] = dv[i] = 0;
    pin(dk), pin(dv);  // they are set before the first product begins
    const int heads = p.sizes.h / p.sizes.hk, visits = heads * w.count;
    Visit at(w, heads);
    if constexpr (P::kAhead) {
      shared.q_full[stage()].wait(parity());
      start_scores(stage(), 0);
      mma_wait<0>();  // as when the loop comes round
    }
    for (int visit = 0; visit < visits - 1; ++visit, at.next(w)) step<false>(at);
    step<true>(at);
    pin(dk), pin(dv);
  }

  __device__ __forceinline__ void store() {
    const Work w = this->w;
    release(shared.kv_empty);
    const int key = w.j * P::kKeys + 64 * self;
    store_rows<T, D>(dk, p.sizes.scale, p.sizes.scale,
                     p.dk + w.b * p.dk_strides.b + w.hk * p.dk_strides.h + key * p.dk_strides.n, p.dk_strides.n,
                     p.sizes.m - key);
    store_rows<T, D>(dv, 1.f, 1.f, p.dv + w.b * p.dv_strides.b + w.hk * p.dv_strides.h + key * p.dv_strides.n,
                     p.dv_strides.n, p.sizes.m - key);
  }

  __device__ __forceinline__ void run() {
    for (uint32_t parity = 0;; parity ^= 1) {
      shared.kv_full.wait(parity);
      if (w.count == 0) return;
      work();
      store();
    }
  }
};

template <class T, class P, bool Causal>
__global__ void __launch_bounds__(3 * kWarpgroup, 1) backward_kernel(const __grid_constant__ Params<T> p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  static_assert(fits_registers<3>(P::kLoaderRegisters, P::kRegisters));
  auto& shared = shared_memory<Shared<T, P>>();
  if (threadIdx.x == 0) {
    shared.kv_full.init(1), shared.kv_empty.init(10);  // 8 warps, and two threads that keep turns
    shared.turn.init(1), shared.added.init(8), shared.passed.init(1);
    for (int i = 0; i < P::kStages; ++i) {
      shared.q_full[i].init(1), shared.q_empty[i].init(8);
      shared.dout_full[i].init(1), shared.dout_empty[i].init(8);
    }
    fence_barrier_init();
  }
  __syncthreads();
  const int group = __shfl_sync(~0u, threadIdx.x / kWarpgroup, 0);
  if (group == 0) {
    lower_registers<P::kLoaderRegisters>();
    if (threadIdx.x == 0) load<T, P, Causal>(p, shared);
    if (threadIdx.x == 32) await_turns(p, shared);
    if (threadIdx.x == 64) pass_turns(p, shared);
  } else {
    raise_registers<P::kRegisters>();
    Consumer<T, P, Causal>(p, shared, group - 1).run();
  }
#endif
}

// --- Launch ---

struct Gradients {
  Tensor &dq, &dk, &dv;
};

template <class T, int D, bool Causal>
bool launch_backward(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args, const Tensor& out,
                     const Tensor& lse, const Tensor& dout, const Tensor& dlse, const Gradients& to) {
  using P = Plan<D>;
  Params<T> p{};
  if (!tensor_map(q, P::kQueries, p.q) || !tensor_map(k, P::kKeys, p.k) || !tensor_map(v, P::kKeys, p.v) ||
      !tensor_map(dout, P::kQueries, p.dout))
    return false;
  const Sizes s = p.sizes = sizes_of(q, k, args);
  p.dq = static_cast<T*>(to.dq.raw_data()), p.dk = static_cast<T*>(to.dk.raw_data());
  p.dv = static_cast<T*>(to.dv.raw_data());
  p.dq_strides = strides_of(to.dq), p.dk_strides = strides_of(to.dk), p.dv_strides = strides_of(to.dv);
  p.scale_log2 = s.scale * kLog2e;
  p.tiles = (s.n + P::kQueries - 1) / P::kQueries, p.key_tiles = (s.m + P::kKeys - 1) / P::kKeys;
  const int64_t head_bytes = int64_t{8} * s.n * D * (s.h / s.hk), heads = int64_t{s.b} * s.hk;
  p.group = static_cast<int>(std::clamp<int64_t>((int64_t{32} << 20) / head_bytes, 2, std::max<int64_t>(heads, 2)));

  const int64_t all = int64_t{s.b} * s.h, rows = all * p.tiles * P::kQueries;
  const Tensor stats = empty({2, rows}, float32, q.device()), turns = empty({all * p.tiles + 1}, int32, q.device()),
               sum = empty({p.key_tiles > 1 ? rows * D : 0}, float32, q.device());
  p.lse2 = stats.data<float>(), p.delta = p.lse2 + rows;
  p.sum = sum.data<float>();
  p.turns = turns.data<int>(), p.next = p.turns + all * p.tiles;
  check_cuda(cudaMemsetAsync(p.turns, 0, static_cast<size_t>(all * p.tiles + 1) * sizeof(int), stream()), "attention");
  const int64_t threads = rows * (D / 8);
  row_kernel<T, D><<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0, stream()>>>(
      static_cast<const T*>(out.raw_data()), strides_of(out), static_cast<const T*>(dout.raw_data()), strides_of(dout),
      lse.data<float>(), dlse.defined() ? dlse.data<float>() : nullptr, p.dq, p.dq_strides, s, p.tiles * P::kQueries,
      stats.data<float>(), stats.data<float>() + rows);
  check_cuda(cudaGetLastError(), "attention");
  constexpr auto kernel = backward_kernel<T, P, Causal>;
  allow_shared(kernel, kSharedBytes<Shared<T, P>>);
  const int64_t blocks = std::min<int64_t>(heads * p.key_tiles, device_attribute(q, cudaDevAttrMultiProcessorCount));
  kernel<<<static_cast<unsigned>(blocks), 3 * kWarpgroup, kSharedBytes<Shared<T, P>>, stream()>>>(p);
  check_cuda(cudaGetLastError(), "attention");
  return true;
}

}  // namespace
}  // namespace hopper

bool hopper_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                     const AttentionArgs& args, const Tensor& out, const Tensor& lse, const Tensor& dout0,
                     const Tensor& dlse, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  using hopper::aligned_rows;
  if (dbias.defined() || !hopper::suits(q, k, v, mask, bias, args)) return false;
  if (!aligned_rows(out) || !aligned_rows(dq) || !aligned_rows(dk) || !aligned_rows(dv) || !lse.is_contiguous() ||
      (dlse.defined() && (!dlse.is_contiguous() || dlse.dtype() != float32)) || dout0.dtype() != q.dtype())
    return false;
  DeviceScope scope(q);
  // A gradient may be a view of few numbers, repeated: the copy engine wants them all.
  CUtensorMap unused;
  const Tensor dout = aligned_rows(dout0) && hopper::tensor_map(dout0, 64, unused) ? dout0 : dout0.contiguous();
  const hopper::Gradients to{dq, dk, dv};
  auto launch = [&]<class T>(T) {
    const bool wide = q.shape()[3] == 128;
    if (args.causal)
      return wide ? hopper::launch_backward<T, 128, true>(q, k, v, args, out, lse, dout, dlse, to)
                  : hopper::launch_backward<T, 64, true>(q, k, v, args, out, lse, dout, dlse, to);
    return wide ? hopper::launch_backward<T, 128, false>(q, k, v, args, out, lse, dout, dlse, to)
                : hopper::launch_backward<T, 64, false>(q, k, v, args, out, lse, dout, dlse, to);
  };
  return q.dtype() == bfloat16 ? launch(__nv_bfloat16{}) : launch(__half{});
}

}  // namespace weft::cuda
