// What attention's kernels for half types are told, which keys a query sees, and what happens to a score between the
// two products: bias, masks, weights, dropout. Source of the tiling: FlashAttention-2 (arXiv:2307.08691).
#pragma once

#include <weft/ops/attention_kernel.h>
#include <weft/ops/philox.h>
#include <weft/cuda/attention_mma.cuh>

namespace weft::cuda::attention {

inline constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
inline constexpr float kNone = -std::numeric_limits<float>::infinity();

/// [b, h, n, d] with an inner stride of 1; strides in elements.
struct Heads {
  void* data = nullptr;
  int64_t b = 0, h = 0, n = 0;
  template <class T>
  __device__ T* at(int64_t ib, int64_t ih, int64_t i) const {
    return static_cast<T*>(data) + ib * b + ih * h + i * n;
  }
};

/// [b, h, n, m] that is broadcast: strides may be 0.
struct Scores {
  Data data;
  int64_t b = 0, h = 0, n = 0, m = 0;
};

struct Problem {
  Heads q, k, v, out, dout, dq, dk, dv;
  Scores mask, bias;                       // bias in T or float32
  float *lse, *delta;                      // [b, h, n]; delta = Σ dout·out - dlse
  int sequences, h, hk, n, m, d, dv_size;  // n, m: sizes of the tensors
  int max_q, max_k;                        // of a sequence
  int left, right;
  const float* alibi;
  int64_t alibi_b, alibi_h;
  const int64_t *kv_length, *cu_q, *cu_k;
  int64_t kv_length_b;
  AttentionFn fn;
  float scale, dropout;
  PhiloxAt random;
  Device device;

  __host__ __device__ bool softmax() const { return fn == AttentionFn::softmax; }
  /// Weights of a softmax are powers of 2.
  __device__ float unit() const { return softmax() ? kLog2e : 1.0f; }
};

/// Where one sequence lies, and what its queries see.
struct Sequence {
  int number, b, q0, n, k0, m, left, right;

  __device__ Sequence(const Problem& p, int number_)
      : number(number_), b(number_), q0(0), n(p.n), k0(0), m(p.m), left(p.left), right(p.right) {
    if (p.cu_q) {
      b = 0;
      q0 = static_cast<int>(p.cu_q[number]), k0 = static_cast<int>(p.cu_k[number]);
      n = min(static_cast<int>(p.cu_q[number + 1]) - q0, p.max_q);
      m = min(static_cast<int>(p.cu_k[number + 1]) - k0, p.max_k);
    } else if (p.kv_length) {
      m = static_cast<int>(max(int64_t{0}, min(p.kv_length[number * p.kv_length_b], static_cast<int64_t>(p.m))));
    }
  }
  __device__ int distance(int i, int j) const { return (i - n) - (j - m); }
  /// Query i sees keys [first(i), limit(i)).
  __device__ int first(int i) const { return max(0, i - n + m - left); }
  __device__ int limit(int i) const { return min(m, i - n + m + right + 1); }
  /// Whether all of these queries and keys exist and see each other, as far as position goes.
  __device__ bool whole(int i0, int rows, int j0, int cols) const {
    return i0 + rows <= n && first(i0 + rows - 1) <= j0 && j0 + cols <= limit(i0);
  }
};

/// Which query and key an element of an accumulator is: rows are queries, or (across) keys.
template <bool kAcross>
struct Place {
  int i0, j0;  // of the warp's first row and column
  int g, t;    // of the lane
  __device__ int row(int m, int e) const { return m * 16 + g + (e >> 1) * 8; }
  __device__ int col(int n, int e) const { return n * 8 + t * 2 + (e & 1); }
  __device__ int i(int m, int n, int e) const { return i0 + (kAcross ? col(n, e) : row(m, e)); }
  __device__ int j(int m, int n, int e) const { return j0 + (kAcross ? row(m, e) : col(n, e)); }
};

/// f(value, query, key) over a lane's elements.
template <bool kAcross, int M, int N2, class F>
__device__ inline void each(mma::Accumulator<M, N2>& c, const Place<kAcross>& at, F&& f) {
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) f(c.c[m][n][e], at.i(m, n, e), at.j(m, n, e));
}

/// -∞ where position hides a key; query(i) is the query that row i is of.
template <bool kAcross, int M, int N2, class F>
__device__ inline void hide(mma::Accumulator<M, N2>& c, const Place<kAcross>& at, const Sequence& s, F&& query) {
  each(c, at, [&](float& x, int i, int j) {
    const int d = s.distance(query(i), j);
    if (d > s.left || d < -s.right || j >= s.m || query(i) >= s.n) x = kNone;
  });
}

/// f(value, entry) for each of a lane's elements and the entry of a broadcast [n, m] matrix beside it, which starts at
/// data; entries beyond the sequence are not read and f is not called.
template <bool kAcross, int M, int N2, class V, class F>
__device__ inline void beside(mma::Accumulator<M, N2>& c, const Place<kAcross>& at, const Sequence& s, const V* data,
                              int64_t stride_i, int64_t stride_j, F&& f) {
  const int64_t row_stride = kAcross ? stride_j : stride_i, col_stride = kAcross ? stride_i : stride_j;
  const int row0 = kAcross ? at.j0 : at.i0, col0 = kAcross ? at.i0 : at.j0, rows = (kAcross ? s.m : s.n) - row0,
            cols = (kAcross ? s.n : s.m) - col0;
  data += row0 * row_stride + col0 * col_stride;
  if (row_stride == 0) {  // one entry a column
#pragma unroll
    for (int n = 0; n < N2; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (at.col(n, e) >= cols) continue;
        const V entry = data[at.col(n, e) * col_stride];
#pragma unroll
        for (int m = 0; m < M; ++m) f(c.c[m][n][e], entry), f(c.c[m][n][e + 2], entry);
      }
    return;
  }
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (at.row(m, half * 2) >= rows) continue;
      const V* row = data + at.row(m, half * 2) * row_stride;
      if (col_stride == 0) {  // one entry a row
        const V entry = *row;
#pragma unroll
        for (int n = 0; n < N2; ++n) f(c.c[m][n][half * 2], entry), f(c.c[m][n][half * 2 + 1], entry);
        continue;
      }
#pragma unroll
      for (int n = 0; n < N2; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (at.col(n, e) < cols) f(c.c[m][n][half * 2 + e], row[at.col(n, e) * col_stride]);
    }
}

/// c ← unit · (scale · c + bias - slope · |distance|), -∞ where the mask says no. What lies beyond the edges is left.
template <class T, bool kAcross, int M, int N2>
__device__ inline void modify(mma::Accumulator<M, N2>& c, const Place<kAcross>& at, const Problem& p, const Sequence& s,
                              int head) {
  const float unit = p.unit(), scale = p.scale * unit;
  each(c, at, [&](float& x, int, int) { x *= scale; });
  if (p.bias.data.data) {
    const int64_t base = s.number * p.bias.b + head * p.bias.h;
    auto add = [&](const auto* bias) {
      beside(c, at, s, bias + base, p.bias.n, p.bias.m,
             [&](float& x, auto entry) { x += unit * static_cast<float>(entry); });
    };
    if (p.bias.data.dtype == float32)
      add(static_cast<const float*>(p.bias.data.data));
    else
      add(static_cast<const T*>(p.bias.data.data));
  }
  if (p.alibi) {
    const float slope = unit * p.alibi[s.number * p.alibi_b + head * p.alibi_h];
    each(c, at, [&](float& x, int i, int j) { x -= slope * static_cast<float>(::abs(s.distance(i, j))); });
  }
  if (p.mask.data.data)
    beside(c, at, s, static_cast<const bool*>(p.mask.data.data) + s.number * p.mask.b + head * p.mask.h, p.mask.n,
           p.mask.m, [](float& x, bool seen) { x = seen ? x : kNone; });
}

/// One of four values, without an array that would have to live in memory.
__device__ inline uint32_t pick(const Philox4& w, int at) {
  const uint32_t low = at & 1 ? w.word[1] : w.word[0], high = at & 1 ? w.word[3] : w.word[2];
  return at & 2 ? high : low;
}

/// Draws the words of the four elements of a block (m, n): one counter gives four keys of one query, so where rows of
/// keys start at a counter's first word each lane makes one counter's words and lanes trade.
template <bool kAcross>
__device__ inline void words(uint32_t (&word)[4], const Place<kAcross>& at, int m, int n, Generator::State random,
                             int64_t head_rows, int max_k) {
  auto index = [&](int i, int j) { return (head_rows + i) * max_k + j; };
  if (max_k % 4 != 0) {
#pragma unroll
    for (int e = 0; e < 4; ++e) word[e] = philox_word(random.seed, random.offset, index(at.i(m, n, e), at.j(m, n, e)));
    return;
  }
  if constexpr (!kAcross) {  // lanes 2t, 2t+1 hold four keys of rows g and g + 8: one draws for each
    const bool odd = at.t & 1;
    const Philox4 own =
        philox(random.seed, random.offset + static_cast<uint64_t>(index(at.i(m, n, odd ? 2 : 0), at.j(m, n, 0))) / 4);
    const uint32_t a = mma::exchange(odd ? own.word[0] : own.word[2], 1),
                   b = mma::exchange(odd ? own.word[1] : own.word[3], 1);
    word[0] = odd ? a : own.word[0], word[1] = odd ? b : own.word[1];
    word[2] = odd ? own.word[2] : a, word[3] = odd ? own.word[3] : b;
  } else {  // lanes with g = 4a .. 4a+3 hold four keys of four (query, half) pairs: a 4×4 transpose
    const int r = at.g & 3;
    const Philox4 own =
        philox(random.seed, random.offset + static_cast<uint64_t>(index(at.i(m, n, r), at.j(m, n, r))) / 4);
    uint32_t x[4] = {own.word[0], own.word[1], own.word[2], own.word[3]};
    auto trade = [&](uint32_t& low, uint32_t& high, bool upper, int lanes) {
      const uint32_t got = mma::exchange(upper ? low : high, lanes);
      low = upper ? got : low, high = upper ? high : got;
    };
    trade(x[0], x[1], r & 1, 4), trade(x[2], x[3], r & 1, 4);
    trade(x[0], x[2], r & 2, 8), trade(x[1], x[3], r & 2, 8);
#pragma unroll
    for (int e = 0; e < 4; ++e) word[e] = x[e];
  }
}

/// f(value, kept) over a lane's elements.
template <bool kAcross, int M, int N2, class F>
__device__ inline void drop(mma::Accumulator<M, N2>& c, const Place<kAcross>& at, const Problem& p, const Sequence& s,
                            int head, F&& f) {
  const Generator::State random = p.random.get();
  const int64_t head_rows = (static_cast<int64_t>(s.number) * p.h + head) * p.max_q;
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N2; ++n) {
      uint32_t word[4];
      words(word, at, m, n, random, head_rows, p.max_k);
#pragma unroll
      for (int e = 0; e < 4; ++e) f(c.c[m][n][e], to_uniform(word[e]) >= p.dropout);
    }
}

/// What is left of 1 after dropout, on average 1.
__device__ inline float kept(const Problem& p) { return p.dropout < 1 ? 1 / (1 - p.dropout) : 0.0f; }

}  // namespace weft::cuda::attention
