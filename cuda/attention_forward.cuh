// Attention forward on tensor cores: a block takes C::kRows queries of one head and walks over the keys they see,
// C::kCols at a time. Per tile: scores = Q Kᵀ into registers, weights in place, out += weights · V. While one product
// runs the other's operand is copied in.
#pragma once

#include <weft/ops/copy.h>
#include <weft/cuda/attention_launch.cuh>

namespace weft::cuda::attention {

/// Plain: only position decides what a query sees, d = d_v = D. Few: the same for at most 16 rows, as a decoder has.
/// General: reads bias, mask, slopes, dropout and fn; any d <= D.
enum class Kind { plain, few, general };

/// How a block is made. D, DV: head sizes, rounded up to what a tile holds; a wider d_v is taken in blocks of columns.
template <class T_, int D_, int DV_, Kind kKind>
struct Forward {
  using T = T_;
  static constexpr int D = D_, DV = DV_;
  static constexpr bool kGeneral = kKind == Kind::general, kFew = kKind == Kind::few, kWide = DV > 128;
  // Rows of 32 a warp halve what is read from shared memory; what is wider or reads more has no registers for them.
  // With few rows a block is one warp, and many of them keep the memory busy.
  static constexpr int kM = kKind == Kind::plain ? 2 : 1, kWarps = kWide ? 8 : kFew ? 1 : 4, kThreads = kWarps * 32;
  static constexpr int kRows = kWarps * kM * 16, kCols = 64;
  static constexpr int kBlocks = kWide ? 1 : kFew ? 768 / D : kGeneral || D == 64 ? 3 : 2;  // of a processor
  using Queries = mma::Tile<kRows, D>;
  using Keys = mma::Tile<kCols, D>;
  using Values = mma::Tile<kCols, DV>;
  static constexpr int kShared = Queries::kBytes + Keys::kBytes + Values::kBytes;
};

/// How the work is dealt out, and where parts go when the keys are split.
struct ForwardPlan {
  int tiles, heads, heads_at_once;  // of queries; of all sequences; that share the second-level cache
  int pack;                         // query heads of one key-value head that are rows of one tile
  int columns, splits;              // blocks of columns of v, parts of the keys
  bool backwards;                   // the last tiles are the longest
  float *part, *part_lse;           // [splits, b, h, n, dv], [splits, b, h, n]
};

/// What a block does: tile, head and sequence, with heads of one group side by side and the longest tiles first.
struct ForwardUnit {
  int tile, head, sequence, column, split;
  __device__ ForwardUnit(const ForwardPlan& plan, int heads_per_sequence) {
    const int each = plan.heads_at_once * plan.tiles, group = blockIdx.x / each, rest = blockIdx.x % each,
              wide = min(plan.heads_at_once, plan.heads - group * plan.heads_at_once),
              all = group * plan.heads_at_once + rest % wide;
    tile = plan.backwards ? plan.tiles - 1 - rest / wide : rest / wide;
    head = all % heads_per_sequence, sequence = all / heads_per_sequence;
    column = blockIdx.y % plan.columns, split = blockIdx.y / plan.columns;
  }
};

/// The running maximum and sum of each of a lane's rows.
template <int M>
struct Rows {
  float top[M][2], total[M][2];
};

/// Scores (times factor: exponents of 2) to weights against the new maximum; out and totals shrink to it.
template <int M, int N2, int NV>
__device__ inline void softmax_step(mma::Accumulator<M, N2>& s, mma::Accumulator<M, NV>& out, Rows<M>& rows,
                                    float factor) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = rows.top[m][half];
#pragma unroll
      for (int n = 0; n < N2; ++n) top = fmaxf(top, fmaxf(s.c[m][n][2 * half], s.c[m][n][2 * half + 1]));
      top = fmaxf(top, mma::exchange(top, 1));
      top = fmaxf(top, mma::exchange(top, 2));
      const float base = top == kNone ? 0.0f : top * factor;
      const float shrink = mma::power2(rows.top[m][half] * factor - base);
      float total = 0;
#pragma unroll
      for (int n = 0; n < N2; ++n)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          s.c[m][n][e] = mma::power2(s.c[m][n][e] * factor - base);
          total += s.c[m][n][e];
        }
      rows.top[m][half] = top;
      rows.total[m][half] = rows.total[m][half] * shrink + total;
#pragma unroll
      for (int n = 0; n < NV; ++n) out.c[m][n][2 * half] *= shrink, out.c[m][n][2 * half + 1] *= shrink;
    }
}

/// All that may happen between the two products.
template <class T, int M, int N2, int NV>
__device__ inline void general_step(mma::Accumulator<M, N2>& s, mma::Accumulator<M, NV>& out, Rows<M>& rows,
                                    const Place<false>& at, const Problem& p, const Sequence& seq, int head) {
  modify<T>(s, at, p, seq, head);
  if (!seq.whole(at.i0, M * 16, at.j0, N2 * 8)) hide(s, at, seq, [](int i) { return i; });
  if (p.softmax())
    softmax_step(s, out, rows, 1.0f);
  else if (p.fn == AttentionFn::relu_squared)
    each(s, at, [](float& x, int, int) { x = fn::ReluSquared{}(x); });
  else
    each(s, at, [](float& x, int, int) { x = fn::Laplace{}(x); });
  if (p.dropout > 0) drop(s, at, p, seq, head, [](float& x, bool keep) { x = keep ? x : 0.0f; });
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks)
    forward_kernel(const __grid_constant__ Problem p, const __grid_constant__ ForwardPlan plan) {
  using T = typename C::T;
  const ForwardUnit unit(plan, p.h / plan.pack);
  const Sequence s(p, unit.sequence);
  const int kv_head = unit.head * plan.pack / (p.h / p.hk), rows = s.n * plan.pack, r0 = unit.tile * C::kRows;
  if (r0 >= rows) return;
  // Row r of the tile is query r; of packed heads, query r % n of head r / n.
  auto head_of = [&](int r) { return plan.pack == 1 ? unit.head : unit.head * plan.pack + r / s.n; };
  auto query_of = [&](int r) { return plan.pack == 1 ? r : r % s.n; };

  // Tiles of keys that any of the queries sees, and of those the ones of this split.
  const int i_first = plan.pack == 1 ? r0 : 0, i_last = plan.pack == 1 ? min(r0 + C::kRows, rows) - 1 : s.n - 1;
  int begin = s.first(i_first) / C::kCols, end = (max(s.limit(i_last), 0) + C::kCols - 1) / C::kCols;
  if (plan.splits > 1) {
    const int each = (max(end - begin, 0) + plan.splits - 1) / plan.splits;
    begin += unit.split * each, end = min(end, begin + each);
  }

  const uint32_t shared = mma::shared_base();
  const typename C::Queries queries{shared};
  const typename C::Keys keys{shared + C::Queries::kBytes};
  const typename C::Values values{shared + C::Queries::kBytes + C::Keys::kBytes};
  const int column = unit.column * C::DV, columns = min(C::DV, p.dv_size - column);
  const T* k = p.k.at<const T>(s.b, kv_head, s.k0);
  const T* v = p.v.at<const T>(s.b, kv_head, s.k0) + column;
  auto fetch_keys = [&](int t) {
    const int j0 = t * C::kCols;
    keys.template fetch<C::kThreads>(k + j0 * p.k.n, p.k.n, s.m - j0, p.d);
    mma::commit_copies();
  };
  auto fetch_values = [&](int t) {
    const int j0 = t * C::kCols;
    values.template fetch<C::kThreads>(v + j0 * p.v.n, p.v.n, s.m - j0, columns);
    mma::commit_copies();
  };

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t4 = lane % 4,
            r_warp = r0 + warp * C::kM * 16;
  const bool idle = r_warp >= rows;
  const uint32_t lane_q = C::Queries::at(queries.lane(lane), warp * C::kM * 16, 0), lane_k = keys.lane_across(lane),
                 lane_v = values.lane(lane);
  const int steps = C::kGeneral ? (p.d + 15) / 16 : C::D / 16, width = C::kGeneral ? columns : C::DV;
  const float factor = C::kGeneral ? 1.0f : p.scale * kLog2e;

  mma::Accumulator<C::kM, C::DV / 8> out;
  out.clear();
  Rows<C::kM> state;
#pragma unroll
  for (int m = 0; m < C::kM; ++m) state.top[m][0] = state.top[m][1] = kNone, state.total[m][0] = state.total[m][1] = 0;

  if (begin < end) {
    queries.template fetch_rows<C::kThreads, T>(
        [&](int r) { return p.q.at<const T>(s.b, head_of(r0 + r), s.q0 + query_of(r0 + r)); }, rows - r0, p.d);
    fetch_keys(begin);
  }
  for (int t = begin; t < end; ++t) {
    mma::wait_copies<0>();
    __syncthreads();  // the keys are there, and nobody reads the last tile's values any more
    fetch_values(t);
    mma::Accumulator<C::kM, C::kCols / 8> w;
    w.clear();
    if (!idle) mma::product_nt<T, typename C::Queries, typename C::Keys, C::D / 16>(w, lane_q, lane_k, steps);
    mma::wait_copies<0>();
    __syncthreads();  // the values are there, and nobody reads the keys any more
    if (t + 1 < end) fetch_keys(t + 1);
    if (idle) continue;

    const Place<false> at{r_warp, t * C::kCols, g, t4};
    if constexpr (C::kGeneral) {
      general_step<T>(w, out, state, at, p, s, unit.head);
    } else {
      if (plan.pack > 1 || !s.whole(r_warp, C::kM * 16, at.j0, C::kCols)) hide(w, at, s, query_of);
      softmax_step(w, out, state, factor);
    }
    mma::product_registers<T, typename C::Values>(out, w, lane_v, width);
  }

  // Finish: divide by the totals and write what is a row of a query.
#pragma unroll
  for (int m = 0; m < C::kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = r_warp + m * 16 + g + half * 8;
      float total = state.total[m][half];
      total += mma::exchange(total, 1);
      total += mma::exchange(total, 2);
      if (r >= rows) continue;
      const int head = head_of(r), i = s.q0 + query_of(r);
      const float last = total > 0 ? (state.top[m][half] * factor + log2f(total)) * kLn2 : kNone;
      float norm = p.softmax() ? (total > 0 ? 1 / total : 0.0f) : 1.0f;
      if (C::kGeneral && p.dropout > 0) norm *= kept(p);
      const int64_t row = (static_cast<int64_t>(s.b) * p.h + head) * p.n + i;
      const int64_t part = unit.split * (static_cast<int64_t>(p.cu_q ? 1 : p.sequences) * p.h * p.n) + row;
      if (p.softmax() && t4 == 0 && unit.column == 0) (plan.splits > 1 ? plan.part_lse[part] : p.lse[row]) = last;
      T* to = p.out.at<T>(s.b, head, i) + column;
      float* to_part = plan.part + part * p.dv_size + column;
#pragma unroll
      for (int n = 0; n < C::DV / 8; ++n) {
        const int c = n * 8 + t4 * 2;
        if (c >= columns) break;
        const float x = out.c[m][n][2 * half] * norm, y = out.c[m][n][2 * half + 1] * norm;
        if (plan.splits > 1)
          *reinterpret_cast<float2*>(to_part + c) = make_float2(x, y);
        else
          *reinterpret_cast<uint32_t*>(to + c) = mma::pack<T>(x, y);
      }
    }
}

/// out[row] = Σ over the splits of part · exp(part_lse - lse), a warp a row. rows: b·h·n of [b, h, n].
template <class T>
__global__ void combine_kernel(const __grid_constant__ Problem p, const __grid_constant__ ForwardPlan plan,
                               int64_t rows) {
  const int lane = threadIdx.x % 32;
  for (int64_t row = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32; row < rows;
       row += gridDim.x * int64_t{kThreads / 32}) {
    float top = kNone, total = 0;
    for (int s = 0; s < plan.splits; ++s) top = fmaxf(top, plan.part_lse[s * rows + row]);
    const float base = top == kNone ? 0.0f : top;
    for (int s = 0; s < plan.splits; ++s) total += mma::power2((plan.part_lse[s * rows + row] - base) * kLog2e);
    if (lane == 0) p.lse[row] = total > 0 ? top + logf(total) : kNone;
    T* out = p.out.at<T>(row / (static_cast<int64_t>(p.h) * p.n), row / p.n % p.h, row % p.n);
    for (int c = lane; c < p.dv_size; c += 32) {
      float sum = 0;
      for (int s = 0; s < plan.splits; ++s)
        sum +=
            mma::power2((plan.part_lse[s * rows + row] - base) * kLog2e) * plan.part[(s * rows + row) * p.dv_size + c];
      out[c] = T(total > 0 ? sum / total : 0.0f);
    }
  }
}

/// Fills in how C's blocks are dealt out and runs them.
template <class C>
void run_forward(const Problem& p) {
  using T = typename C::T;
  ForwardPlan plan{};
  const int group = p.h / p.hk, n = p.max_q, m = p.max_k;
  plan.pack = !C::kGeneral && group > 1 && int64_t{n} * group <= C::kRows ? group : 1;
  plan.tiles = (n * plan.pack + C::kRows - 1) / C::kRows;
  plan.heads = p.sequences * (p.h / plan.pack);
  const int64_t head_bytes = int64_t{2} * m * (p.d + p.dv_size) * plan.pack / group;
  plan.heads_at_once =
      static_cast<int>(std::clamp<int64_t>(kCacheBytes / std::max<int64_t>(head_bytes, 1), 1, std::max(plan.heads, 1)));
  plan.columns = (p.dv_size + C::DV - 1) / C::DV;
  plan.backwards = p.right < m;
  const int units = plan.tiles * plan.heads * plan.columns, key_tiles = (m + C::kCols - 1) / C::kCols;
  plan.splits =
      p.softmax() && units > 0 ? std::clamp(std::min(kProcessors * C::kBlocks / units, key_tiles / 4), 1, 64) : 1;
  const int64_t rows = static_cast<int64_t>(p.cu_q ? 1 : p.sequences) * p.h * p.n;
  Tensor part, part_lse;
  if (plan.splits > 1) {
    part = empty({plan.splits * rows * p.dv_size}, float32, p.device);
    part_lse = empty({plan.splits * rows}, float32, p.device);
    plan.part = part.data<float>(), plan.part_lse = part_lse.data<float>();
    if (p.cu_q) fill_into(part_lse, kNone);  // rows of no sequence
  }
  const dim3 grid(static_cast<unsigned>(plan.tiles * plan.heads), static_cast<unsigned>(plan.columns * plan.splits));
  launch_shared(forward_kernel<C>, grid, C::kThreads, C::kShared, p, plan);
  if (plan.splits > 1)
    launch_shared(combine_kernel<T>, dim3(static_cast<unsigned>(std::min<int64_t>((rows + 7) / 8, 132 * 16))), kThreads,
                  0, p, plan, rows);
}

template <class T>
void launch_forward(const Problem& p) {
  const bool few = int64_t{p.max_q} * (p.h / p.hk) <= 16;
  if (few && plain(p, 64)) return run_forward<Forward<T, 64, 64, Kind::few>>(p);
  if (few && plain(p, 128)) return run_forward<Forward<T, 128, 128, Kind::few>>(p);
  if (plain(p, 64)) return run_forward<Forward<T, 64, 64, Kind::plain>>(p);
  if (plain(p, 128)) return run_forward<Forward<T, 128, 128, Kind::plain>>(p);
  if (p.d <= 64 && p.dv_size <= 64) return run_forward<Forward<T, 64, 64, Kind::general>>(p);
  if (p.d <= 128 && p.dv_size <= 128) return run_forward<Forward<T, 128, 128, Kind::general>>(p);
  run_forward<Forward<T, 256, 256, Kind::general>>(p);
}

}  // namespace weft::cuda::attention
