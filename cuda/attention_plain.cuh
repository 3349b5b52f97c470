// Attention without tensor cores: float32, float64, and half types whose heads are wider than those kernels take. Tiles
// of 64 queries × 64 keys in shared memory, 4×4 of them a thread; results 64 columns at a time, scores made anew for
// each.
#pragma once

#include <weft/cuda/attention_launch.cuh>

namespace weft::cuda::attention {

constexpr int kSide = 64, kDepth = 16, kPlainThreads = 256;

struct Strided {  // [b, h, n, d]
  Data data;
  int64_t b, h, n, d;
};

template <class C>
struct PlainProblem {
  Problem base;  // positions, sizes, mask and dropout
  Strided q, k, v, bias, out, dout, dq, dk, dv;
  C *lse, *delta;
  const C* alibi;
  double scale, kept;  // kept: what dropout multiplies the rest with
};

/// Where this thread's 4×4 elements of a tile are: rows y + 16 r, columns x + 16 c.
struct Corner {
  int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  __device__ int row(int r) const { return y + 16 * r; }
  __device__ int col(int c) const { return x + 16 * c; }
};

template <class C>
struct Shared {
  C left[kSide][kDepth + 1], right[kSide][kDepth + 1];
  C weights[kSide][kSide + 1], values[kSide][kSide + 1];
};
template <class C>
__device__ inline Shared<C>& shared_tiles() {
  return *reinterpret_cast<Shared<C>*>(mma::dynamic_shared);
}

/// acc[r][c] += Σ over e < width of a(row, e) · b(col, e); a and b give zeros beyond their edges.
template <class C, class A, class B>
__device__ inline void dot_tile(C (&acc)[4][4], A&& a, B&& b, int width) {
  Shared<C>& tile = shared_tiles<C>();
  const Corner at;
  for (int e0 = 0; e0 < width; e0 += kDepth) {
    __syncthreads();
    for (int i = threadIdx.x; i < kSide * kDepth; i += kPlainThreads) {
      const int row = i / kDepth, e = i % kDepth;
      tile.left[row][e] = e0 + e < width ? a(row, e0 + e) : C(0);
      tile.right[row][e] = e0 + e < width ? b(row, e0 + e) : C(0);
    }
    __syncthreads();
#pragma unroll 4
    for (int e = 0; e < kDepth; ++e)
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < 4; ++c) acc[r][c] += tile.left[at.row(r)][e] * tile.right[at.col(c)][e];
  }
}

/// acc[r][c] += Σ over the tile's keys (or, across, its queries) of weights · values(key, col).
template <bool kAcross, class C, class V>
__device__ inline void weigh_tile(C (&acc)[4][4], const C (&weights)[4][4], V&& values) {
  Shared<C>& tile = shared_tiles<C>();
  const Corner at;
  __syncthreads();
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) tile.weights[at.row(r)][at.col(c)] = weights[r][c];
  for (int i = threadIdx.x; i < kSide * kSide; i += kPlainThreads)
    tile.values[i / kSide][i % kSide] = values(i / kSide, i % kSide);
  __syncthreads();
#pragma unroll 4
  for (int j = 0; j < kSide; ++j)
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int c = 0; c < 4; ++c)
        acc[r][c] += (kAcross ? tile.weights[j][at.row(r)] : tile.weights[at.row(r)][j]) * tile.values[j][at.col(c)];
}

/// A reader of rows [0, rows) × columns [0, cols) of x from (b, h, i0, e0).
template <class C>
__device__ inline auto reader(const Strided& x, int64_t b, int64_t h, int64_t i0, int64_t e0, int rows, int cols) {
  const int64_t base = b * x.b + h * x.h + i0 * x.n + e0 * x.d;
  return [=](int row, int e) {
    return row < rows && e < cols ? x.data.template load<C>(base + row * x.n + e * x.d) : C(0);
  };
}

/// A tile of one head of one sequence: queries from i0, keys from j0.
struct PlainTile {
  int head, i0, j0;
};

/// s ← scale · q kᵀ + bias - slope · |distance|, -∞ where a query may not see a key.
template <class C>
__device__ inline void plain_scores(C (&s)[4][4], const PlainProblem<C>& p, const Sequence& seq, const PlainTile& t) {
  const int kv_head = t.head / (p.base.h / p.base.hk);
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) s[r][c] = 0;
  dot_tile<C>(s, reader<C>(p.q, seq.b, t.head, seq.q0 + t.i0, 0, seq.n - t.i0, p.base.d),
              reader<C>(p.k, seq.b, kv_head, seq.k0 + t.j0, 0, seq.m - t.j0, p.base.d), p.base.d);
  const Corner at;
  const Scores& mask = p.base.mask;
  const C slope = p.alibi ? p.alibi[seq.number * p.base.alibi_b + t.head * p.base.alibi_h] : C(0);
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int i = t.i0 + at.row(r), j = t.j0 + at.col(c), d = seq.distance(i, j);
      const bool seen =
          i < seq.n && j < seq.m && d <= seq.left && d >= -seq.right &&
          (!mask.data.data ||
           static_cast<const bool*>(mask.data.data)[seq.number * mask.b + t.head * mask.h + i * mask.n + j * mask.m]);
      C x = s[r][c] * C(p.scale) - slope * C(abs(d));
      if (seen && p.bias.data.data)
        x += p.bias.data.template load<C>(seq.number * p.bias.b + t.head * p.bias.h + i * p.bias.n + j * p.bias.d);
      s[r][c] = seen ? x : -std::numeric_limits<C>::infinity();
    }
}

/// What dropout multiplies a weight with.
template <class C>
__device__ inline C keep(const PlainProblem<C>& p, const Sequence& seq, int head, int i, int j,
                         Generator::State random) {
  if (p.base.dropout == 0) return C(1);
  const int64_t word = ((int64_t{seq.number} * p.base.h + head) * p.base.max_q + i) * p.base.max_k + j;
  return to_uniform(philox_word(random.seed, random.offset, word)) >= p.base.dropout ? C(p.kept) : C(0);
}

template <class C>
__device__ inline C plain_weight(AttentionFn fn, C s) {
  return fn == AttentionFn::relu_squared ? fn::ReluSquared{}(s) : fn::Laplace{}(s);
}
template <class C>
__device__ inline C plain_slope(AttentionFn fn, C s) {
  return fn == AttentionFn::relu_squared ? fn::ReluSquared{}.derivative(s) : fn::Laplace{}.derivative(s);
}

/// f(a) over the 16 threads of a row.
template <class C, class F>
__device__ inline C over_row(C v, F&& f) {
#pragma unroll
  for (int lanes = 8; lanes > 0; lanes /= 2) v = f(v, __shfl_xor_sync(0xffffffffu, v, lanes));
  return v;
}

/// What a block works on: blockIdx.x counts tiles within heads within sequences, which may be more than 65,535
/// together; blockIdx.y counts blocks of 64 columns.
struct PlainBlock {
  int tile, head, sequence, column;

  __device__ PlainBlock(int sequences, int heads) {
    const unsigned tiles = gridDim.x / (static_cast<unsigned>(sequences) * heads), at = blockIdx.x / tiles;
    tile = static_cast<int>(blockIdx.x % tiles), head = static_cast<int>(at % heads);
    sequence = static_cast<int>(at / heads), column = static_cast<int>(blockIdx.y) * kSide;
  }
};

/// Blocks: tiles of queries, and of v's columns.
template <class C>
__global__ void __launch_bounds__(kPlainThreads) plain_forward_kernel(const __grid_constant__ PlainProblem<C> p) {
  constexpr C kHidden = -std::numeric_limits<C>::infinity();
  const PlainBlock block(p.base.sequences, p.base.h);
  const int head = block.head, e0 = block.column, i0 = block.tile * kSide;
  const Sequence seq(p.base, block.sequence);
  if (i0 >= seq.n) return;
  const Corner at;
  const Generator::State random = p.base.random.get();
  C out[4][4] = {}, top[4], total[4] = {};
  for (int r = 0; r < 4; ++r) top[r] = kHidden;
  const int kv_head = head / (p.base.h / p.base.hk), end = seq.limit(min(i0 + kSide, seq.n) - 1);
  for (int j0 = seq.first(i0) / kSide * kSide; j0 < end; j0 += kSide) {
    C s[4][4];
    plain_scores(s, p, seq, {head, i0, j0});
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      if (p.base.softmax()) {
        C high = top[r], sum = 0;
        for (int c = 0; c < 4; ++c) high = s[r][c] > high ? s[r][c] : high;
        high = over_row(high, [](C a, C b) { return a > b ? a : b; });
        const C base = high == kHidden ? C(0) : high, shrink = num::exp(top[r] - base);
        for (int c = 0; c < 4; ++c) s[r][c] = num::exp(s[r][c] - base), sum += s[r][c];
        total[r] = total[r] * shrink + over_row(sum, [](C a, C b) { return a + b; });
        for (int c = 0; c < 4; ++c) out[r][c] *= shrink;
        top[r] = high;
      } else {
        for (int c = 0; c < 4; ++c) s[r][c] = s[r][c] == kHidden ? C(0) : plain_weight(p.base.fn, s[r][c]);
      }
      if (p.base.dropout > 0)
        for (int c = 0; c < 4; ++c) s[r][c] *= keep(p, seq, head, i0 + at.row(r), j0 + at.col(c), random);
    }
    weigh_tile<false, C>(out, s, reader<C>(p.v, seq.b, kv_head, seq.k0 + j0, e0, seq.m - j0, p.base.dv_size - e0));
  }
  for (int r = 0; r < 4; ++r) {
    const int i = i0 + at.row(r);
    if (i >= seq.n) continue;
    const bool none = p.base.softmax() && !(total[r] > C(0));
    const C norm = none ? C(0) : p.base.softmax() ? C(1) / total[r] : C(1);
    if (p.base.softmax() && e0 == 0 && at.x == 0)
      p.lse[(int64_t{seq.b} * p.base.h + head) * p.base.n + seq.q0 + i] = none ? kHidden : top[r] + num::log(total[r]);
    for (int c = 0; c < 4; ++c) {
      const int e = e0 + at.col(c);
      if (e < p.base.dv_size)
        p.out.data.store(seq.b * p.out.b + head * p.out.h + (seq.q0 + i) * p.out.n + e * p.out.d, out[r][c] * norm);
    }
  }
}

constexpr int kFewWarps = 16, kFewThreads = 32 * kFewWarps, kFewKeys = 4, kFewParts = 8;
constexpr int kFewQueries = 8, kFewWidth = 32 * kFewParts;  // the most queries and elements of a row

/// A few queries, as a decoder has, a block each. The warps share the keys out, kFewKeys at a
/// time; a lane has every 32nd element of a row. At the end what the warps have seen is joined. q, k, v, out are of C.
template <class C>
__global__ void __launch_bounds__(kFewThreads) few_forward_kernel(const __grid_constant__ PlainProblem<C> p) {
  constexpr C kHidden = -std::numeric_limits<C>::infinity();
  const PlainBlock block(p.base.sequences, p.base.h);
  const int i = block.tile, head = block.head, kv_head = head / (p.base.h / p.base.hk);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, d = p.base.d, dv = p.base.dv_size;
  const Sequence seq(p.base, block.sequence);
  if (i >= seq.n) return;
  const Generator::State random = p.base.random.get();
  auto row = [&](const Strided& x, int h, int64_t at) {
    return static_cast<C*>(x.data.data) + seq.b * x.b + h * x.h + at * x.n;
  };
  const C *q = row(p.q, head, seq.q0 + i), *k = row(p.k, kv_head, seq.k0), *v = row(p.v, kv_head, seq.k0);
  const Scores& mask = p.base.mask;
  const C slope = p.alibi ? p.alibi[seq.number * p.base.alibi_b + head * p.base.alibi_h] : C(0);

  C query[kFewParts], out[kFewParts] = {}, top = kHidden, total = 0;
#pragma unroll
  for (int part = 0; part < kFewParts; ++part) {
    const int e = part * 32 + lane;
    query[part] = e < d ? q[e * p.q.d] : C(0);
  }
  const int end = seq.limit(i);
  for (int j0 = seq.first(i) + warp * kFewKeys; j0 < end; j0 += kFewWarps * kFewKeys) {
    C s[kFewKeys] = {};
#pragma unroll
    for (int part = 0; part < kFewParts; ++part) {
      const int e = part * 32 + lane;
      if (e >= d) continue;
#pragma unroll
      for (int u = 0; u < kFewKeys; ++u)
        if (j0 + u < end) s[u] += query[part] * k[(j0 + u) * p.k.n + e * p.k.d];
    }
    C high = top;
#pragma unroll
    for (int u = 0; u < kFewKeys; ++u) {
#pragma unroll
      for (int lanes = 16; lanes > 0; lanes /= 2) s[u] += __shfl_xor_sync(0xffffffffu, s[u], lanes);
      const int j = j0 + u, distance = seq.distance(i, j);
      const bool seen =
          j < end && distance <= seq.left && distance >= -seq.right &&
          (!mask.data.data ||
           static_cast<const bool*>(mask.data.data)[seq.number * mask.b + head * mask.h + i * mask.n + j * mask.m]);
      s[u] = s[u] * C(p.scale) - slope * C(abs(distance));
      if (seen && p.bias.data.data)
        s[u] += p.bias.data.template load<C>(seq.number * p.bias.b + head * p.bias.h + i * p.bias.n + j * p.bias.d);
      if (!seen) s[u] = kHidden;
      high = s[u] > high ? s[u] : high;
    }
    if (p.base.softmax()) {
      const C base = high == kHidden ? C(0) : high, shrink = num::exp(top - base);
      total *= shrink, top = high;
#pragma unroll
      for (int part = 0; part < kFewParts; ++part) out[part] *= shrink;
#pragma unroll
      for (int u = 0; u < kFewKeys; ++u) s[u] = num::exp(s[u] - base), total += s[u];
    } else {
#pragma unroll
      for (int u = 0; u < kFewKeys; ++u) s[u] = s[u] == kHidden ? C(0) : plain_weight(p.base.fn, s[u]);
    }
#pragma unroll
    for (int u = 0; u < kFewKeys; ++u) {
      if (j0 + u >= end) continue;
      s[u] *= keep(p, seq, head, i, j0 + u, random);
#pragma unroll
      for (int part = 0; part < kFewParts; ++part) {
        const int e = part * 32 + lane;
        if (e < dv) out[part] += s[u] * v[(j0 + u) * p.v.n + e * p.v.d];
      }
    }
  }

  C* tops = reinterpret_cast<C*>(mma::dynamic_shared);
  C *totals = tops + kFewWarps, *outs = totals + kFewWarps;  // outs: [warp, dv]
  if (lane == 0) tops[warp] = top, totals[warp] = total;
#pragma unroll
  for (int part = 0; part < kFewParts; ++part) {
    const int e = part * 32 + lane;
    if (e < dv) outs[warp * dv + e] = out[part];
  }
  __syncthreads();
  C high = kHidden, sum = 0;
  for (int w = 0; w < kFewWarps; ++w) high = tops[w] > high ? tops[w] : high;
  const C base = high == kHidden ? C(0) : high;
  for (int w = 0; w < kFewWarps; ++w) sum += totals[w] * num::exp(tops[w] - base);
  const bool none = p.base.softmax() && !(sum > C(0));
  const C norm = none ? C(0) : p.base.softmax() ? C(1) / sum : C(1);
  C* to = row(p.out, head, seq.q0 + i);
  for (int e = threadIdx.x; e < dv; e += kFewThreads) {
    C y = 0;
    for (int w = 0; w < kFewWarps; ++w) y += outs[w * dv + e] * (p.base.softmax() ? num::exp(tops[w] - base) : C(1));
    to[e * p.out.d] = y * norm;
  }
  if (p.base.softmax() && threadIdx.x == 0)
    p.lse[(int64_t{seq.b} * p.base.h + head) * p.base.n + seq.q0 + i] = none ? kHidden : high + num::log(sum);
}

/// w: the weights as they multiplied v; ds: gradients of the scores.
template <class C>
__device__ inline void plain_gradients(C (&w)[4][4], C (&ds)[4][4], const PlainProblem<C>& p, const Sequence& seq,
                                       const PlainTile& t, Generator::State random) {
  constexpr C kHidden = -std::numeric_limits<C>::infinity();
  const int kv_head = t.head / (p.base.h / p.base.hk);
  plain_scores(w, p, seq, t);
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) ds[r][c] = 0;
  dot_tile<C>(ds, reader<C>(p.dout, seq.b, t.head, seq.q0 + t.i0, 0, seq.n - t.i0, p.base.dv_size),
              reader<C>(p.v, seq.b, kv_head, seq.k0 + t.j0, 0, seq.m - t.j0, p.base.dv_size), p.base.dv_size);
  const Corner at;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int i = t.i0 + at.row(r);
    const int64_t row = (int64_t{seq.b} * p.base.h + t.head) * p.base.n + seq.q0 + i;
    const bool has = p.base.softmax() && i < seq.n;
    const C lse = has ? p.lse[row] : C(0), delta = has ? p.delta[row] : C(0);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      C &x = w[r][c], &d = ds[r][c];
      const C kept = keep(p, seq, t.head, i, t.j0 + at.col(c), random);
      if (x == kHidden || lse == kHidden) {
        x = d = 0;
      } else if (p.base.softmax()) {
        x = num::exp(x - lse), d = x * (d * kept - delta);
      } else {
        d *= kept * plain_slope(p.base.fn, x), x = plain_weight(p.base.fn, x);
      }
      x *= kept;
    }
  }
}

/// acc: rows from row0 of (b, h), 64 columns from e0.
template <class C>
__device__ inline void store_tile(const Strided& x, const C (&acc)[4][4], int64_t b, int64_t h, int row0, int rows,
                                  int e0, int cols, C scale) {
  const Corner at;
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c)
      if (at.row(r) < rows && e0 + at.col(c) < cols)
        x.data.store(b * x.b + h * x.h + (row0 + at.row(r)) * x.n + (e0 + at.col(c)) * x.d, acc[r][c] * scale);
}

/// dQ. Blocks: tiles of queries, and of q's columns.
template <class C>
__global__ void __launch_bounds__(kPlainThreads) plain_dq_kernel(const __grid_constant__ PlainProblem<C> p) {
  const PlainBlock block(p.base.sequences, p.base.h);
  const int head = block.head, e0 = block.column, i0 = block.tile * kSide;
  const Sequence seq(p.base, block.sequence);
  if (i0 >= seq.n) return;
  const int kv_head = head / (p.base.h / p.base.hk), end = seq.limit(min(i0 + kSide, seq.n) - 1);
  C acc[4][4] = {}, w[4][4], ds[4][4];
  for (int j0 = seq.first(i0) / kSide * kSide; j0 < end; j0 += kSide) {
    plain_gradients(w, ds, p, seq, {head, i0, j0}, p.base.random.get());
    weigh_tile<false, C>(acc, ds, reader<C>(p.k, seq.b, kv_head, seq.k0 + j0, e0, seq.m - j0, p.base.d - e0));
  }
  store_tile(p.dq, acc, seq.b, head, seq.q0 + i0, seq.n - i0, e0, p.base.d, C(p.scale));
}

/// dK or dV. Blocks: tiles of keys, of key-value heads, and of columns.
template <class C, bool kValues>
__global__ void __launch_bounds__(kPlainThreads) plain_dkv_kernel(const __grid_constant__ PlainProblem<C> p) {
  const PlainBlock block(p.base.sequences, p.base.hk);
  const int kv_head = block.head, e0 = block.column, j0 = block.tile * kSide;
  const Sequence seq(p.base, block.sequence);
  const int rows = (p.base.cu_q ? seq.m : p.base.m) - j0, shared_by = p.base.h / p.base.hk,
            width = kValues ? p.base.dv_size : p.base.d;
  if (rows <= 0) return;
  const Strided& other = kValues ? p.dout : p.q;
  C acc[4][4] = {}, w[4][4], ds[4][4];
  for (int head = kv_head * shared_by; head < (kv_head + 1) * shared_by; ++head) {
    for (int i0 = 0; i0 < seq.n; i0 += kSide) {
      if (seq.limit(min(i0 + kSide, seq.n) - 1) <= j0 || seq.first(i0) >= min(j0 + kSide, seq.m)) continue;
      plain_gradients(w, ds, p, seq, {head, i0, j0}, p.base.random.get());
      weigh_tile<true, C>(acc, kValues ? w : ds,
                          reader<C>(other, seq.b, head, seq.q0 + i0, e0, seq.n - i0, width - e0));
    }
  }
  store_tile(kValues ? p.dv : p.dk, acc, seq.b, kv_head, seq.k0 + j0, rows, e0, width, kValues ? C(1) : C(p.scale));
}

/// The bias's gradient: a thread an entry of a tile that the bias tells apart, over all tiles that share it; as in
/// attention_bias.cuh, without slices. Blocks: tiles of the bias.
struct PlainBias {
  int own[4], shared[4];
  int64_t stride[4];
};
template <class C>
__global__ void __launch_bounds__(kPlainThreads)
    plain_bias_kernel(const __grid_constant__ PlainProblem<C> p, const __grid_constant__ PlainBias plan, C* to) {
  int at[4], rest = blockIdx.x, shares = 1;
  for (int d = 3; d >= 0; --d) at[d] = rest % plan.own[d], rest /= plan.own[d], shares *= plan.shared[d];
  C sum[4][4] = {}, w[4][4], ds[4][4];
  for (int share = 0; share < shares; ++share) {
    int in[4], left = share;
    for (int d = 3; d >= 0; --d) in[d] = plan.own[d] == 1 ? left % plan.shared[d] : at[d], left /= plan.shared[d];
    const Sequence seq(p.base, in[0]);
    const int i0 = in[2] * kSide, j0 = in[3] * kSide;
    if (seq.limit(min(i0 + kSide, seq.n) - 1) <= j0 || seq.first(i0) >= min(j0 + kSide, seq.m)) continue;
    plain_gradients(w, ds, p, seq, {in[1], i0, j0}, p.base.random.get());
    for (int r = 0; r < 4; ++r)
      for (int c = 0; c < 4; ++c) sum[r][c] += ds[r][c];
  }
  Shared<C>& tile = shared_tiles<C>();
  const Corner corner;
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) tile.weights[corner.row(r)][corner.col(c)] = sum[r][c];
  __syncthreads();
  const bool all_i = plan.stride[2] == 0, all_j = plan.stride[3] == 0;
  const int rows = all_i ? 1 : kSide, cols = all_j ? 1 : kSide, i0 = at[2] * kSide, j0 = at[3] * kSide;
  to += at[0] * plan.stride[0] + at[1] * plan.stride[1];
  for (int o = threadIdx.x; o < rows * cols; o += kPlainThreads) {
    const int i = o / cols, j = o % cols;
    if ((!all_i && i0 + i >= p.base.n) || (!all_j && j0 + j >= p.base.m)) continue;
    C total = 0;
    for (int ii = i; ii < (all_i ? kSide : i + 1); ++ii)
      for (int jj = j; jj < (all_j ? kSide : j + 1); ++jj) total += tile.weights[ii][jj];
    to[(i0 + i) * plan.stride[2] + (j0 + j) * plan.stride[3]] = total;
  }
}

/// delta[row] = Σ dout·out - dlse, a thread a row of [b, h, n]. Added up in the order in which dot_tile adds dout·v, so
/// that a query that sees one key, whose out is that key's v, has a gradient of exactly 0.
template <class C>
__global__ void plain_delta_kernel(const __grid_constant__ PlainProblem<C> p, const C* dlse, int64_t rows) {
  WEFT_GRID_LOOP(row, rows) {
    const int64_t b = row / (int64_t{p.base.h} * p.base.n), h = row / p.base.n % p.base.h, i = row % p.base.n;
    const int64_t out = b * p.out.b + h * p.out.h + i * p.out.n, dout = b * p.dout.b + h * p.dout.h + i * p.dout.n;
    C sum = 0;
    for (int e = 0; e < p.base.dv_size; ++e)
      sum += p.dout.data.template load<C>(dout + e * p.dout.d) * p.out.data.template load<C>(out + e * p.out.d);
    p.delta[row] = sum - (dlse ? dlse[row] : C(0));
  }
}

}  // namespace weft::cuda::attention
