// Attention backward on tensor cores: a block takes C::kKeys keys of one key-value head and walks over the queries that
// see them, C::kQueries at a time. Products are made across, with keys as rows, so that what a warp computes of the
// weights and of their gradients stays in its registers for the sums over queries:
//   Wᵀ = weights(K Qᵀ),  dWᵀ = V dOᵀ,  dV += Wᵀ dO,  dSᵀ = Wᵀ ∘ (dWᵀ - delta),  dK += dSᵀ Q,  dQ += dS K.
// dQ is a sum over blocks of keys: they add to it one after another, the last keys first, so the bits do not depend on
// who comes when; the first to come finds nothing there and the last writes the result.
#pragma once

#include <weft/ops/copy.h>
#include <weft/cuda/attention_launch.cuh>

namespace weft::cuda::attention {

/// What a launch computes: all, or where head sizes are too large for that, only dV (DV columns at a time) or only dK
/// and dQ (dW summed over blocks of DV columns).
enum class Part { all, values, keys };

template <class T_, int D_, int DV_, Part kPart, bool kGeneral_>
struct Backward {
  using T = T_;
  static constexpr int D = D_, DV = DV_;
  static constexpr bool kGeneral = kGeneral_, kDoesValues = kPart != Part::keys, kDoesKeys = kPart != Part::values;
  static constexpr bool kBlocksOfValues = kPart == Part::keys;
  static constexpr int kWarps = 8, kThreads = 256, kKeys = 128, kQueries = 64;
  using Keys = mma::Tile<kKeys, D>;
  using Values = mma::Tile<kKeys, DV>;
  using Queries = mma::Tile<kQueries, D>;
  using Douts = mma::Tile<kQueries, DV>;
  using Scores = mma::Tile<kKeys, kQueries>;
  static constexpr int kStats = 2 * kQueries * 4;  // bytes: lse and delta of a tile
  // Where they lie in shared memory.
  static constexpr int kAtValues = Keys::kBytes, kAtQueries = kAtValues + (kDoesKeys ? Values::kBytes : 0),
                       kAtDouts = kAtQueries + 2 * Queries::kBytes,
                       kAtScores = kAtDouts + (kBlocksOfValues ? 1 : 2) * Douts::kBytes,
                       kAtStats = kAtScores + (kDoesKeys ? Scores::kBytes : 0), kShared = kAtStats + 2 * kStats;
};

/// How the work is dealt out. A block takes the next ticket: those it waits for have smaller ones, so they are running.
struct BackwardPlan {
  int blocks, heads, heads_at_once;  // of keys; key-value heads of all sequences; that share the second-level cache
  int query_tiles, columns;          // tiles of a sequence; blocks of columns of v
  int *ticket, *turn;                // [1], [sequences · h · query_tiles]: how many have added to a tile of dQ
  float4* sum;                       // what they have added, as their registers lie
};

/// Waits until the tile's turn is `wanted`; for one thread, with a barrier after it.
__device__ inline void wait_for_turn(const int* turn, int wanted) {
  while (mma::load_acquire(turn) < wanted) {
  }
}

/// From scores to weights in s and gradients of scores in dw (which held dO·v), as the kept weights multiply.
template <class T, bool kGeneral, int N2>
__device__ inline void weights_and_gradients(mma::Accumulator<1, N2>& s, mma::Accumulator<1, N2>& dw,
                                             const Place<true>& at, const Problem& p, const Sequence& seq, int head,
                                             uint32_t stats, int stats_stride) {
  const float factor = kGeneral ? 1.0f : p.scale * kLog2e;
  if constexpr (kGeneral) modify<T>(s, at, p, seq, head);
  if (!seq.whole(at.i0, N2 * 8, at.j0, 16)) hide(s, at, seq, [](int i) { return i; });
  if (!kGeneral || p.softmax()) {
#pragma unroll
    for (int n = 0; n < N2; ++n) {
      float2 lse = mma::load_floats(stats + at.col(n, 0) * 4);
      const float2 delta = mma::load_floats(stats + stats_stride + at.col(n, 0) * 4);
      lse.x = lse.x == kNone ? -kNone : lse.x * kLog2e, lse.y = lse.y == kNone ? -kNone : lse.y * kLog2e;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& w = s.c[0][n][e];
        w = mma::power2(w * factor - (e & 1 ? lse.y : lse.x));
        if constexpr (kGeneral) continue;
        dw.c[0][n][e] = w * (dw.c[0][n][e] - (e & 1 ? delta.y : delta.x));
      }
    }
  }
  if constexpr (!kGeneral) return;
  const float kept_weight = p.dropout > 0 ? kept(p) : 1.0f;
  const Generator::State random = p.random.get();
  const int64_t head_rows = (static_cast<int64_t>(seq.number) * p.h + head) * p.max_q;
#pragma unroll
  for (int n = 0; n < N2; ++n) {
    uint32_t word[4];
    if (p.dropout > 0) words(word, at, 0, n, random, head_rows, p.max_k);
    const float2 delta = p.softmax() ? mma::load_floats(stats + stats_stride + at.col(n, 0) * 4) : make_float2(0, 0);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float &w = s.c[0][n][e], &d = dw.c[0][n][e];
      const float factor_kept = p.dropout > 0 && !(to_uniform(word[e]) >= p.dropout) ? 0.0f : kept_weight;
      d *= factor_kept;
      if (p.softmax()) {
        d = w * (d - (e & 1 ? delta.y : delta.x));
      } else if (p.fn == AttentionFn::relu_squared) {
        d *= fn::ReluSquared{}.derivative(w), w = fn::ReluSquared{}(w);
      } else {
        d *= fn::Laplace{}.derivative(w), w = fn::Laplace{}(w);
      }
      w *= factor_kept;
    }
  }
}

/// Writes rows [0, rows) and columns [0, columns) of a warp's 16-row accumulator, times scale.
template <class T, int N2>
__device__ inline void store_rows(const mma::Accumulator<1, N2>& c, T* to, int64_t stride, int rows, int columns,
                                  float scale, int g, int t) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = g + half * 8;
    if (r >= rows) continue;
#pragma unroll
    for (int n = 0; n < N2; ++n) {
      const int col = n * 8 + t * 2;
      if (col < columns)
        *reinterpret_cast<uint32_t*>(to + r * stride + col) =
            mma::pack<T>(c.c[0][n][2 * half] * scale, c.c[0][n][2 * half + 1] * scale);
    }
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    backward_kernel(const __grid_constant__ Problem p, const __grid_constant__ BackwardPlan plan) {
  using T = typename C::T;
  using Keys = typename C::Keys;
  using Values = typename C::Values;
  using Queries = typename C::Queries;
  using Douts = typename C::Douts;
  using Scores = typename C::Scores;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t4 = lane % 4;

  // Which keys: with the next ticket, the last of a group of heads first.
  __shared__ int ticket;
  if (threadIdx.x == 0) ticket = atomicAdd(plan.ticket, 1);
  __syncthreads();
  const int column = ticket % plan.columns * C::DV, unit = ticket / plan.columns,
            each_group = plan.heads_at_once * plan.blocks, group = unit / each_group, rest = unit % each_group,
            wide = min(plan.heads_at_once, plan.heads - group * plan.heads_at_once),
            block = plan.blocks - 1 - rest / wide, kv = group * plan.heads_at_once + rest % wide, kv_head = kv % p.hk,
            shared_by = p.h / p.hk;
  const Sequence s(p, kv / p.hk);
  const int j0 = block * C::kKeys, rows = (p.cu_q ? s.m : p.m) - j0;  // rows: of dK and dV
  if (rows <= 0) return;

  // Which queries: tiles [first_tile, first_tile + tiles) of each head that shares the keys.
  const int low = max(0, j0 + s.n - s.m - s.right), high = min(s.n, min(j0 + C::kKeys, s.m) + s.n - s.m + s.left);
  const int first_tile = low / C::kQueries,
            tiles = j0 >= s.m || low >= s.n ? 0 : max(0, (high + C::kQueries - 1) / C::kQueries - first_tile),
            steps = tiles * shared_by;
  auto head_of = [&](int step) { return kv_head * shared_by + step / tiles; };
  auto query_of = [&](int step) { return (first_tile + step % tiles) * C::kQueries; };

  const uint32_t shared = mma::shared_base();
  const Keys keys{shared};
  const Values values{shared + C::kAtValues};
  const Scores scores{shared + C::kAtScores};
  auto queries = [&](int step) { return Queries{shared + C::kAtQueries + step % 2 * Queries::kBytes}; };
  auto douts = [&](int step) {
    return Douts{shared + C::kAtDouts + (C::kBlocksOfValues ? 0 : step % 2 * Douts::kBytes)};
  };
  auto stats = [&](int step) { return shared + C::kAtStats + step % 2 * C::kStats; };
  auto fetch_values = [&](int c) {
    const T* v = p.v.at<const T>(s.b, kv_head, s.k0 + j0) + c;
    values.template fetch<C::kThreads>(v, p.v.n, s.m - j0, p.dv_size - c);
  };
  auto fetch_douts = [&](int step, int c) {
    const int i0 = query_of(step);
    const T* dout = p.dout.at<const T>(s.b, head_of(step), s.q0 + i0) + c;
    douts(step).template fetch<C::kThreads>(dout, p.dout.n, s.n - i0, p.dv_size - c);
  };
  auto fetch_step = [&](int step) {
    const int i0 = query_of(step), head = head_of(step);
    const T* q = p.q.at<const T>(s.b, head, s.q0 + i0);
    queries(step).template fetch<C::kThreads>(q, p.q.n, s.n - i0, p.d);
    if constexpr (!C::kBlocksOfValues) fetch_douts(step, column);
    if (p.softmax() && threadIdx.x < 2 * C::kQueries) {
      const int which = threadIdx.x / C::kQueries, r = threadIdx.x % C::kQueries;
      const bool wanted = i0 + r < s.n;
      const int64_t row = (static_cast<int64_t>(s.b) * p.h + head) * p.n + s.q0 + i0 + (wanted ? r : 0);
      mma::copy4(stats(step) + threadIdx.x * 4, (which ? p.delta : p.lse) + row, wanted);
    }
    mma::commit_copies();
  };
  auto turn_of = [&](int step) {
    return (s.number * p.h + head_of(step)) * plan.query_tiles + query_of(step) / C::kQueries;
  };

  mma::Accumulator<1, C::kDoesKeys ? C::D / 8 : 1> dk;
  mma::Accumulator<1, C::kDoesValues ? C::DV / 8 : 1> dv;
  dk.clear(), dv.clear();
  const uint32_t lane_k = keys.lane(lane), lane_v = values.lane(lane);
  const int d_steps = C::kGeneral ? (p.d + 15) / 16 : C::D / 16, d_columns = C::kGeneral ? p.d : C::D,
            columns = C::kGeneral ? min(C::DV, p.dv_size - column) : C::DV;

  if (steps > 0) {
    const T* k = p.k.at<const T>(s.b, kv_head, s.k0 + j0);
    keys.template fetch<C::kThreads>(k, p.k.n, s.m - j0, p.d);
    if constexpr (C::kDoesKeys && !C::kBlocksOfValues) fetch_values(0);
    fetch_step(0);
  }
  int added_to = 0, next_turn = 0;  // the tile of dQ of the last step, and whose turn it is then
  for (int step = 0; step < steps; ++step) {
    mma::wait_copies<0>();
    __syncthreads();  // this step's tiles are there; nobody reads the last step's, and all have added to its dQ
    if (C::kDoesKeys && step > 0 && threadIdx.x == 0) mma::store_release(plan.turn + added_to, next_turn);
    if (step + 1 < steps) fetch_step(step + 1);
    const int i0 = query_of(step), head = head_of(step);
    const Place<true> at{i0, j0 + warp * 16, g, t4};
    const uint32_t across_q = queries(step).lane_across(lane), lane_q = queries(step).lane(lane),
                   lane_do = douts(step).lane(lane);

    mma::Accumulator<1, C::kQueries / 8> w, dw;
    w.clear(), dw.clear();
    mma::product_nt<T, Keys, Queries, C::D / 16>(w, Keys::at(lane_k, warp * 16, 0), across_q, d_steps);
    if constexpr (C::kBlocksOfValues) {
      for (int c = 0; c < p.dv_size; c += C::DV) {
        __syncthreads();  // nobody reads the last block
        fetch_values(c), fetch_douts(step, c);
        mma::commit_copies();
        mma::wait_copies<0>();
        __syncthreads();
        mma::product_nt<T, Values, Douts, C::DV / 16>(dw, Values::at(lane_v, warp * 16, 0),
                                                      douts(step).lane_across(lane));
      }
    } else if constexpr (C::kDoesKeys) {
      mma::product_nt<T, Values, Douts, C::DV / 16>(dw, Values::at(lane_v, warp * 16, 0), douts(step).lane_across(lane),
                                                    C::kGeneral ? (columns + 15) / 16 : C::DV / 16);
    }
    weights_and_gradients<T, C::kGeneral>(w, dw, at, p, s, head, stats(step), C::kQueries * 4);
    if constexpr (C::kDoesValues) mma::product_registers<T, Douts>(dv, w, lane_do, columns);
    if constexpr (C::kDoesKeys) {
#pragma unroll
      for (int n = 0; n < C::kQueries / 8; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          mma::store_pair(scores.chunk(warp * 16 + g + half * 8, n) + t4 * 4,
                          mma::pack<T>(dw.c[0][n][2 * half], dw.c[0][n][2 * half + 1]));
      mma::product_registers<T, Queries>(dk, dw, lane_q, d_columns);

      // dQ: 16 queries and half of the columns a warp, over all keys of the block. Its place in the row of adders:
      const int i_last = min(i0 + C::kQueries, s.n) - 1, order = (s.limit(i_last) - 1) / C::kKeys - block;
      const bool last = s.first(i0) / C::kKeys == block;
      added_to = turn_of(step), next_turn = order + 1;
      if (order > 0 && threadIdx.x == 0) wait_for_turn(plan.turn + added_to, order);
      __syncthreads();                    // dS is there, and so is what others have added
      constexpr int kBlocks = C::D / 16;  // of 8 columns
      const int row = warp / 2 * 16, col = warp % 2 * (C::D / 2);
      float4* sum = plan.sum + (static_cast<int64_t>(added_to) * C::kWarps + warp) * kBlocks * 32 + lane;
      constexpr bool kEarly = C::D <= 128;  // while there are registers to wait in
      float4 before[kBlocks];
      auto load_before = [&] {
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) before[n] = order > 0 ? __ldcg(sum + n * 32) : make_float4(0, 0, 0, 0);
      };
      if constexpr (kEarly) load_before();
      mma::Accumulator<1, kBlocks> dq;
      dq.clear();
      const uint32_t lane_ds = scores.lane_across(lane);
#pragma unroll
      for (int k = 0; k < C::kKeys / 16; ++k) {
        uint32_t left[1][4];
        mma::load_blocks_transposed(left[0], Scores::at(lane_ds, k * 16, row));
#pragma unroll
        for (int n = 0; n < kBlocks; n += 2) {
          uint32_t right[4];
          mma::load_blocks_transposed(right, Keys::at(lane_k, k * 16, col + n * 8));
          mma::multiply_block<T>(dq, left, n, right);
        }
      }
      if constexpr (!kEarly) load_before();
#pragma unroll
      for (int n = 0; n < kBlocks; ++n) {
        dq.c[0][n][0] += before[n].x, dq.c[0][n][1] += before[n].y;
        dq.c[0][n][2] += before[n].z, dq.c[0][n][3] += before[n].w;
      }
      if (last) {
        store_rows(dq, p.dq.at<T>(s.b, head, s.q0 + i0 + row) + col, p.dq.n, s.n - i0 - row, p.d - col, p.scale, g, t4);
      } else {
#pragma unroll
        for (int n = 0; n < kBlocks; ++n)
          __stcg(sum + n * 32, make_float4(dq.c[0][n][0], dq.c[0][n][1], dq.c[0][n][2], dq.c[0][n][3]));
      }
    }
  }
  if (C::kDoesKeys && steps > 0) {
    __syncthreads();
    if (threadIdx.x == 0) mma::store_release(plan.turn + added_to, next_turn);
  }

  const int own = rows - warp * 16;
  if constexpr (C::kDoesKeys)
    store_rows(dk, p.dk.at<T>(s.b, kv_head, s.k0 + j0 + warp * 16), p.dk.n, own, p.d, p.scale, g, t4);
  if constexpr (C::kDoesValues)
    store_rows(dv, p.dv.at<T>(s.b, kv_head, s.k0 + j0 + warp * 16) + column, p.dv.n, own, p.dv_size - column, 1.0f, g,
               t4);
}

/// delta[row] = Σ dout·out - dlse, a warp a row of [b, h, n].
template <class T>
__global__ void delta_kernel(const __grid_constant__ Problem p, const float* dlse, int64_t rows) {
  const int lane = threadIdx.x % 32;
  for (int64_t row = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32; row < rows;
       row += gridDim.x * int64_t{kThreads / 32}) {
    const int64_t b = row / (static_cast<int64_t>(p.h) * p.n), h = row / p.n % p.h, i = row % p.n;
    const T *out = p.out.at<const T>(b, h, i), *dout = p.dout.at<const T>(b, h, i);
    float sum = 0;
    for (int c = lane * 2; c < p.dv_size; c += 64)
      sum += static_cast<float>(out[c]) * static_cast<float>(dout[c]) +
             static_cast<float>(out[c + 1]) * static_cast<float>(dout[c + 1]);
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += mma::exchange(sum, lanes);
    if (lane == 0) p.delta[row] = sum - (dlse ? dlse[row] : 0.0f);
  }
}

/// Deals out C's blocks and runs them.
template <class C>
void run_backward(const Problem& p) {
  BackwardPlan plan{};
  plan.blocks = (p.max_k + C::kKeys - 1) / C::kKeys;
  plan.heads = p.sequences * p.hk;
  plan.query_tiles = (p.max_q + C::kQueries - 1) / C::kQueries;
  plan.columns = C::kDoesKeys ? 1 : (p.dv_size + C::DV - 1) / C::DV;
  const int64_t head_bytes = int64_t{2} * p.max_q * (2 * p.d + 2 * p.dv_size) * (p.h / p.hk);
  plan.heads_at_once =
      static_cast<int>(std::clamp<int64_t>(kCacheBytes / std::max<int64_t>(head_bytes, 1), 1, std::max(plan.heads, 1)));
  const int64_t turns = static_cast<int64_t>(p.sequences) * p.h * plan.query_tiles;
  Tensor counters = empty({turns + 1}, int32, p.device), sum;
  fill_into(counters, 0);
  plan.ticket = counters.data<int32_t>(), plan.turn = plan.ticket + 1;
  if (C::kDoesKeys && plan.blocks > 1) {
    sum = empty({turns * C::kQueries * C::D}, float32, p.device);
    plan.sum = reinterpret_cast<float4*>(sum.data<float>());
  }
  launch_shared(backward_kernel<C>, dim3(static_cast<unsigned>(plan.blocks * plan.heads * plan.columns)), C::kThreads,
                C::kShared, p, plan);
}

/// p.delta: room for [b, h, n]; dq, dk and dv are zeros where a query sees no key or a row is of no sequence.
template <class T>
void launch_backward(const Problem& p, const float* dlse) {
  const int64_t rows = static_cast<int64_t>(p.cu_q ? 1 : p.sequences) * p.h * p.n;
  if (p.softmax())
    launch_shared(delta_kernel<T>, dim3(static_cast<unsigned>(std::min<int64_t>((rows + 7) / 8, 132 * 16))), kThreads,
                  0, p, dlse, rows);
  if (plain(p, 64)) return run_backward<Backward<T, 64, 64, Part::all, false>>(p);
  if (plain(p, 128)) return run_backward<Backward<T, 128, 128, Part::all, false>>(p);
  if (p.d <= 64 && p.dv_size <= 64) return run_backward<Backward<T, 64, 64, Part::all, true>>(p);
  if (p.d <= 128 && p.dv_size <= 128) return run_backward<Backward<T, 128, 128, Part::all, true>>(p);
  run_backward<Backward<T, 256, 256, Part::values, true>>(p);
  run_backward<Backward<T, 256, 128, Part::keys, true>>(p);
}

}  // namespace weft::cuda::attention
