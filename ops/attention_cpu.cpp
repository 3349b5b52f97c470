// Tiles of kRows queries × kCols keys. Forward: a unit of work is one tile row, with a running maximum and sum where
// the weights are a softmax. Backward: a unit is a range of keys of one key-value head; it recomputes its weights from
// the kept log-sum-exp. The gradient of q, which several units add to, goes to one buffer a part of the keys, summed in
// order; that of a bias shared by heads or batch is a pass of its own over the bias's tiles. No result depends on the
// threads.
#include <weft/cpu/gemm.h>
#include <weft/cpu/strided.h>
#include <weft/ops/attention_kernel.h>
#include <weft/ops/copy.h>
#include <weft/ops/philox.h>

#include <cmath>
#include <limits>

namespace weft::cpu {

namespace {

constexpr int64_t kRows = 128, kCols = 256;

// A [b, h, n, d] tensor in T whose rows are contiguous.
template <class T>
struct Heads {
  Tensor tensor;
  T* data;
  int64_t sb, sh, sn;
  T* at(int64_t b, int64_t h, int64_t i) const { return data + b * sb + h * sh + i * sn; }
};

template <class T>
Heads<T> heads(const Tensor& x) {
  Tensor t = x;
  const Shape &shape = x.shape(), &st = x.strides();
  if (x.dtype() != dtype_of<T>() || (st[3] != 1 && shape[3] != 1) || (st[2] < shape[3] && shape[2] != 1)) {
    t = empty(shape, dtype_of<T>(), Device::cpu());
    map<T, T>([](T v) { return v; }, x, t);
  }
  return {t, t.data<T>(), t.strides()[0], t.strides()[1], std::max(t.strides()[2], std::max<int64_t>(shape[3], 1))};
}

template <class T>
struct Problem {
  Heads<T> q, k, v;
  Tensor mask, bias;  // [b, h, n, m] views, or undefined; bias in T
  AttentionArgs args;
  int64_t b, h, hk, n, m, d, dv;
  int64_t sequence;  // number of the first one, where sequences are taken one at a time
  int64_t ld;        // of a tile of weights: no wider than the keys

  Problem(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& mask_, const Tensor& bias_,
          const AttentionArgs& args_, int64_t sequence_)
      : q(heads<T>(q_)),
        k(heads<T>(k_)),
        v(heads<T>(v_)),
        mask(mask_),
        bias(bias_),
        args(args_),
        b(q_.shape()[0]),
        h(q_.shape()[1]),
        hk(k_.shape()[1]),
        n(q_.shape()[2]),
        m(k_.shape()[2]),
        d(q_.shape()[3]),
        dv(v_.shape()[3]),
        sequence(sequence_),
        ld(std::min(kCols, k_.shape()[2])) {}

  int64_t kv_head(int64_t head) const { return head / (h / hk); }
  int64_t tile_size() const { return std::min(kRows, n) * ld; }
  // Units of work of `size` weights each that make a chunk worth a thread.
  int64_t grain(int64_t size) const {
    return std::max<int64_t>(1, (int64_t{1} << 18) / std::max<int64_t>(size * (d + dv), 1));
  }
  // Keys that query i may see: [first, limit).
  int64_t first(int64_t i) const { return std::clamp<int64_t>(i + m - n - args.left, 0, m); }
  int64_t limit(int64_t i) const { return std::clamp<int64_t>(i + m - n + args.right + 1, 0, m); }
  // Whether none of a tile is visible.
  bool hidden(int64_t i0, int64_t rows, int64_t j0, int64_t cols) const {
    return limit(i0 + rows - 1) <= j0 || first(i0) >= j0 + cols;
  }
};

// x[b, h, i0...] = rows of `width` values, for x: [b, h, n, width] of any strides.
template <class T>
void store_rows(Tensor& x, int64_t b, int64_t h, int64_t i0, int64_t rows, const T* values) {
  const int64_t width = x.shape()[3];
  const Shape& st = x.strides();
  for (int64_t r = 0; r < rows; ++r)
    store(x, b * st[0] + h * st[1] + (i0 + r) * st[2], st[3], width, values + r * width);
}

// Where a tile lies: queries [i0, i0 + rows), keys [j0, j0 + cols).
struct Tile {
  int64_t b, h, i0, rows, j0, cols;
};

// s: [rows, kCols] ← scale · q kᵀ + bias, with -∞ where a query may not attend (NaN never arises from it).
template <class T>
void scores(const Problem<T>& p, const Tile& t, T* s) {
  gemm_serial<T>(false, true, t.rows, t.cols, p.d, T(p.args.scale), p.q.at(t.b, t.h, t.i0), p.q.sn,
                 p.k.at(t.b, p.kv_head(t.h), t.j0), p.k.sn, T(0), s, p.ld);
  for (int64_t r = 0; r < t.rows; ++r) {
    T* row = s + r * p.ld;
    const int64_t i = t.i0 + r;
    if (p.bias.defined()) {
      const auto& st = p.bias.strides();
      const T* bias = p.bias.template data<T>() + t.b * st[0] + t.h * st[1] + i * st[2] + t.j0 * st[3];
      if (st[3] == 1) {
        for (int64_t c = 0; c < t.cols; ++c) row[c] += bias[c];
      } else {
        for (int64_t c = 0; c < t.cols; ++c) row[c] += bias[c * st[3]];
      }
    }
    if (p.mask.defined()) {
      const auto& st = p.mask.strides();
      const bool* mask = p.mask.template data<bool>() + t.b * st[0] + t.h * st[1] + i * st[2] + t.j0 * st[3];
      for (int64_t c = 0; c < t.cols; ++c) row[c] = mask[c * st[3]] ? row[c] : -std::numeric_limits<T>::infinity();
    }
    if (p.args.alibi.defined()) {
      const T slope =
          p.args.alibi.template data<T>()[t.b * p.args.alibi.strides()[0] + t.h * p.args.alibi.strides()[1]];
      for (int64_t c = 0; c < t.cols; ++c) row[c] -= slope * T(std::abs(i - p.n + p.m - t.j0 - c));
    }
    const int64_t first = std::clamp<int64_t>(p.first(i) - t.j0, 0, t.cols);
    std::fill(row, row + first, -std::numeric_limits<T>::infinity());
    for (int64_t c = std::max<int64_t>(p.limit(i) - t.j0, first); c < t.cols; ++c)
      row[c] = -std::numeric_limits<T>::infinity();
  }
}

// w ← w · (0 where the weight is dropped, else 1/(1-p))
template <class T>
void drop(const Problem<T>& p, const Tile& t, T* w) {
  if (p.args.dropout == 0) return;
  const T keep = T(p.args.dropout < 1 ? 1 / (1 - p.args.dropout) : 0);
  const auto limit = static_cast<float>(p.args.dropout);
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t first = (((p.sequence + t.b) * p.h + t.h) * p.args.max_q + t.i0 + r) * p.args.max_k + t.j0;
    for (int64_t c = 0; c < t.cols; ++c) {
      w[r * p.ld + c] *= to_uniform(philox_word(p.args.at.seed, p.args.at.offset, first + c)) >= limit ? keep : T(0);
    }
  }
}

template <class T, class F>
void apply_fn(F f, int64_t ld, const Tile& t, const T* s, T* w) {
  for (int64_t r = 0; r < t.rows; ++r) {
    const T* in = s + r * ld;
    T* out = w + r * ld;
    for (int64_t c = 0; c < t.cols; ++c) out[c] = in[c] > -std::numeric_limits<T>::infinity() ? f(in[c]) : T(0);
  }
}

template <class F>
void visit(AttentionFn fn, F&& f) {
  if (fn == AttentionFn::relu_squared)
    f(fn::ReluSquared{});
  else
    f(fn::Laplace{});
}

// --- forward ---------------------------------------------------------------------------------------------------------

// One row of tiles. out: [rows, dv] of T, lse: [rows].
template <class T>
void forward_rows(const Problem<T>& p, int64_t b, int64_t h, int64_t i0, int64_t rows, T* s, T* out, T* lse) {
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  const bool softmax = p.args.fn == AttentionFn::softmax;
  T highest[kRows], total[kRows];
  std::fill(highest, highest + rows, kNone);
  std::fill(total, total + rows, T(0));
  std::fill(out, out + rows * p.dv, T(0));
  const int64_t end = p.limit(i0 + rows - 1);
  const int64_t begin = p.first(i0) / kCols * kCols;
  for (int64_t j0 = begin; j0 < end; j0 += kCols) {
    const Tile t{b, h, i0, rows, j0, std::min(kCols, end - j0)};
    scores(p, t, s);
    if (softmax) {
      for (int64_t r = 0; r < rows; ++r) {
        T* row = s + r * p.ld;
        T top = highest[r];
        for (int64_t c = 0; c < t.cols; ++c) top = row[c] > top ? row[c] : top;
        if (top == kNone) {
          std::fill(row, row + t.cols, T(0));
          continue;
        }
        T lane[16] = {};
        for (int64_t c = 0; c < t.cols; ++c) row[c] = num::exp(row[c] - top);
        int64_t c = 0;
        for (; c + 16 <= t.cols; c += 16) {
          for (int64_t l = 0; l < 16; ++l) lane[l] += row[c + l];
        }
        T sum = 0;
        for (; c < t.cols; ++c) sum += row[c];
        for (T l : lane) sum += l;
        if (top > highest[r]) {
          const T shrink = highest[r] == kNone ? T(0) : std::exp(highest[r] - top);
          total[r] *= shrink;
          if (j0 > begin) {
            for (int64_t e = 0; e < p.dv; ++e) out[r * p.dv + e] *= shrink;
          }
          highest[r] = top;
        }
        total[r] += sum;
      }
    } else {
      visit(p.args.fn, [&](auto f) { apply_fn(f, p.ld, t, s, s); });
    }
    drop(p, t, s);
    gemm_serial<T>(false, false, rows, p.dv, t.cols, T(1), s, p.ld, p.v.at(b, p.kv_head(h), j0), p.v.sn, T(1), out,
                   p.dv);
  }
  for (int64_t r = 0; softmax && r < rows; ++r) {
    const T factor = total[r] > 0 ? 1 / total[r] : T(0);
    for (int64_t e = 0; e < p.dv; ++e) out[r * p.dv + e] *= factor;
    lse[r] = total[r] > 0 ? highest[r] + std::log(total[r]) : kNone;
  }
}

template <class T>
void forward(const Problem<T>& p, Tensor& out, Tensor& lse) {
  const int64_t row_blocks = (p.n + kRows - 1) / kRows;
  parallel_for(p.b * p.h * row_blocks, p.grain(std::min(kRows, p.n) * p.m), [&](int64_t begin, int64_t end) {
    const int64_t most = std::min(kRows, p.n);
    std::vector<T> s(static_cast<size_t>(p.tile_size())), y(static_cast<size_t>(most * p.dv)),
        l(static_cast<size_t>(most));
    for (int64_t u = begin; u < end; ++u) {
      const int64_t head = u / row_blocks, i0 = (row_blocks - 1 - u % row_blocks) * kRows,
                    rows = std::min(kRows, p.n - i0);
      forward_rows(p, head / p.h, head % p.h, i0, rows, s.data(), y.data(), l.data());
      store_rows(out, head / p.h, head % p.h, i0, rows, y.data());
      if (p.args.fn == AttentionFn::softmax)
        store(lse, head / p.h * lse.strides()[0] + head % p.h * lse.strides()[1] + i0, 1, rows, l.data());
    }
  });
}

// --- backward --------------------------------------------------------------------------------------------------------

template <class T>
struct Gradients {
  Heads<T> dout;
  std::vector<T> lse, delta;  // [b, h, n]; delta = rowsum(dout · out) - dlse
};

// From the scores of a tile: w ← the weights as they multiplied v, ds ← gradient of the scores. dp: scratch.
template <class T>
void weights_and_gradients(const Problem<T>& p, const Gradients<T>& g, const Tile& t, T* s, T* w, T* ds) {
  scores(p, t, s);
  gemm_serial<T>(false, true, t.rows, t.cols, p.dv, T(1), g.dout.at(t.b, t.h, t.i0), g.dout.sn,
                 p.v.at(t.b, p.kv_head(t.h), t.j0), p.v.sn, T(0), ds, p.ld);
  drop(p, t, ds);
  if (p.args.fn == AttentionFn::softmax) {
    const int64_t base = (t.b * p.h + t.h) * p.n + t.i0;
    for (int64_t r = 0; r < t.rows; ++r) {
      const T lse = g.lse[static_cast<size_t>(base + r)], delta = g.delta[static_cast<size_t>(base + r)];
      const bool none = lse == -std::numeric_limits<T>::infinity();
      T *sr = s + r * p.ld, *wr = w + r * p.ld, *dr = ds + r * p.ld;
      for (int64_t c = 0; c < t.cols; ++c) wr[c] = none ? T(0) : num::exp(sr[c] - lse);
      for (int64_t c = 0; c < t.cols; ++c) dr[c] = wr[c] * (dr[c] - delta);
    }
  } else {
    visit(p.args.fn, [&](auto f) {
      apply_fn(f, p.ld, t, s, w);
      for (int64_t r = 0; r < t.rows; ++r) {
        T *sr = s + r * p.ld, *dr = ds + r * p.ld;
        for (int64_t c = 0; c < t.cols; ++c)
          dr[c] = sr[c] > -std::numeric_limits<T>::infinity() ? dr[c] * f.derivative(sr[c]) : T(0);
      }
    });
  }
  drop(p, t, w);
}

// dbias[...] += ds, for the tile's part of a bias gradient of any broadcast shape.
template <class T>
void add_bias_gradient(const Problem<T>& p, const Tile& t, const T* ds, Tensor& dbias) {
  auto stride = [&](int64_t dim) { return dbias.shape()[dim] == 1 ? 0 : dbias.strides()[dim]; };
  T* base = dbias.data<T>() + t.b * stride(0) + t.h * stride(1) + t.i0 * stride(2) + t.j0 * stride(3);
  const int64_t si = stride(2), sj = stride(3);
  for (int64_t r = 0; r < t.rows; ++r) {
    if (sj == 1) {
      for (int64_t c = 0; c < t.cols; ++c) base[r * si + c] += ds[r * p.ld + c];
    } else {
      for (int64_t c = 0; c < t.cols; ++c) base[r * si + c * sj] += ds[r * p.ld + c];
    }
  }
}

// A pass over the tiles of a bias that is broadcast: each of its own tiles collects from every head and row that shares
// it.
template <class T>
void bias_gradient(const Problem<T>& p, const Gradients<T>& g, Tensor& dbias) {
  const int64_t row_blocks = (p.n + kRows - 1) / kRows, col_blocks = (p.m + kCols - 1) / kCols;
  // How many of (batch, head, row block, column block) are distinct in the bias, and how many share each.
  const int64_t all[4] = {p.b, p.h, row_blocks, col_blocks};
  int64_t own[4], shared[4];
  for (int i = 0; i < 4; ++i) {
    own[i] = dbias.shape()[i] == 1 ? 1 : all[i];
    shared[i] = all[i] / own[i];
  }
  auto split = [](int64_t flat, const int64_t(&sizes)[4], int64_t(&index)[4]) {
    for (int i = 3; i >= 0; --i) index[i] = flat % sizes[i], flat /= sizes[i];
  };
  parallel_for(own[0] * own[1] * own[2] * own[3], 1, [&](int64_t begin, int64_t end) {
    const auto tile = static_cast<size_t>(p.tile_size());
    std::vector<T> s(tile), w(tile), ds(tile);
    for (int64_t u = begin; u < end; ++u) {
      int64_t at[4], in[4];
      split(u, own, at);
      for (int64_t v = 0; v < shared[0] * shared[1] * shared[2] * shared[3]; ++v) {
        split(v, shared, in);
        for (int i = 0; i < 4; ++i) in[i] = own[i] == 1 ? in[i] : at[i];
        const int64_t i0 = in[2] * kRows, j0 = in[3] * kCols;
        const Tile t{in[0], in[1], i0, std::min(kRows, p.n - i0), j0, std::min(kCols, p.m - j0)};
        if (p.hidden(i0, t.rows, j0, t.cols)) continue;
        weights_and_gradients(p, g, t, s.data(), w.data(), ds.data());
        add_bias_gradient(p, t, ds.data(), dbias);
      }
    }
  });
}

template <class T>
void backward(const Problem<T>& p, const Gradients<T>& g, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  const int64_t col_blocks = (p.m + kCols - 1) / kCols, kv_heads = p.b * p.hk, group = p.h / p.hk;
  // Parts of the keys of one head: only as many as a few threads need, since each has a buffer for dq.
  const int64_t parts =
      std::clamp<int64_t>((8 + kv_heads - 1) / std::max<int64_t>(kv_heads, 1), 1, std::max<int64_t>(col_blocks, 1));
  const int64_t nq = p.b * p.h * p.n * p.d;
  std::vector<Tensor> dq_parts;
  for (int64_t i = 0; i < parts; ++i) {
    dq_parts.push_back(empty({nq}, dtype_of<T>(), Device::cpu()));
    std::fill_n(dq_parts.back().template data<T>(), nq, T(0));
  }
  const bool shared_bias = dbias.defined() && !(dbias.shape() == Shape{p.b, p.h, p.n, p.m});

  parallel_for(kv_heads * parts, p.grain(group * p.n * p.m / parts), [&](int64_t begin, int64_t end) {
    const auto tile = static_cast<size_t>(p.tile_size());
    std::vector<T> s(tile), w(tile), ds(tile), dk_acc(static_cast<size_t>(p.ld * p.d)),
        dv_acc(static_cast<size_t>(p.ld * p.dv));
    for (int64_t u = begin; u < end; ++u) {
      const int64_t kv = u / parts, part = u % parts, b = kv / p.hk, hk = kv % p.hk;
      T* dq_part = dq_parts[static_cast<size_t>(part)].template data<T>();
      for (int64_t jb = part; jb < col_blocks;
           jb += parts) {  // dealt out in turn: with causal masks, late keys are cheaper
        const int64_t j0 = jb * kCols, cols = std::min(kCols, p.m - j0);
        std::fill(dk_acc.begin(), dk_acc.end(), T(0));
        std::fill(dv_acc.begin(), dv_acc.end(), T(0));
        for (int64_t h = hk * group; h < (hk + 1) * group; ++h) {
          for (int64_t i0 = 0; i0 < p.n; i0 += kRows) {
            const Tile t{b, h, i0, std::min(kRows, p.n - i0), j0, cols};
            if (p.hidden(i0, t.rows, j0, t.cols)) continue;
            weights_and_gradients(p, g, t, s.data(), w.data(), ds.data());
            gemm_serial<T>(true, false, cols, p.dv, t.rows, T(1), w.data(), p.ld, g.dout.at(b, h, i0), g.dout.sn, T(1),
                           dv_acc.data(), p.dv);
            gemm_serial<T>(true, false, cols, p.d, t.rows, T(p.args.scale), ds.data(), p.ld, p.q.at(b, h, i0), p.q.sn,
                           T(1), dk_acc.data(), p.d);
            gemm_serial<T>(false, false, t.rows, p.d, cols, T(p.args.scale), ds.data(), p.ld, p.k.at(b, hk, j0), p.k.sn,
                           T(1), dq_part + ((b * p.h + h) * p.n + i0) * p.d, p.d);
            if (dbias.defined() && !shared_bias) add_bias_gradient(p, t, ds.data(), dbias);
          }
        }
        store_rows(dk, b, hk, j0, cols, dk_acc.data());
        store_rows(dv, b, hk, j0, cols, dv_acc.data());
      }
    }
  });

  parallel_for(p.b * p.h * p.n, std::max<int64_t>(kGrain / p.d, 1), [&](int64_t begin, int64_t end) {
    T* first = dq_parts[0].template data<T>();
    for (int64_t k = 1; k < parts; ++k) {
      const T* other = dq_parts[static_cast<size_t>(k)].template data<T>();
      for (int64_t i = begin * p.d; i < end * p.d; ++i) first[i] += other[i];
    }
    for (int64_t r = begin; r < end; ++r) store_rows(dq, r / (p.h * p.n), r / p.n % p.h, r % p.n, 1, first + r * p.d);
  });
  if (shared_bias) bias_gradient(p, g, dbias);
}

Tensor in_type(const Tensor& x, DType dtype) {
  if (!x.defined() || x.dtype() == dtype) return x;
  // Converted before it is expanded again: strides of 0 stay.
  Shape small = x.shape();
  for (int64_t d = 0; d < x.dim(); ++d) small[d] = x.strides()[d] == 0 ? 1 : small[d];
  const Tensor base = as_strided_raw(x, small, x.strides(), x.impl().offset);
  const Tensor y = base.to(dtype);
  Shape strides = y.strides();
  for (int64_t d = 0; d < x.dim(); ++d) strides[d] = x.strides()[d] == 0 ? 0 : strides[d];
  return as_strided_raw(y, x.shape(), strides, 0);
}

// x[..., start : start + size, ...] along dim.
Tensor cut(const Tensor& x, int dim, int64_t start, int64_t size) {
  if (!x.defined()) return x;
  Shape shape = x.shape();
  shape[dim] = size;
  return as_strided_raw(x, shape, x.strides(), x.impl().offset + start * x.strides()[dim]);
}

// One sequence: which batch, which rows of q and of k.
struct Sequence {
  int64_t number, b, q0, n, k0, m;

  Tensor queries(const Tensor& x) const { return x.defined() ? cut(cut(x, 0, b, 1), 2, q0, n) : x; }
  Tensor keys(const Tensor& x) const { return cut(cut(x, 0, b, 1), 2, k0, m); }
  // Of a [b, h, n, m] view (packed sequences have none); size 1: broadcast.
  Tensor scores(const Tensor& x) const {
    if (!x.defined()) return x;
    const Tensor y = x.shape()[0] == 1 ? x : cut(x, 0, b, 1);
    return y.shape()[3] == 1 ? y : cut(y, 3, 0, m);
  }
  AttentionArgs arguments(const AttentionArgs& args) const {
    AttentionArgs own = args;
    own.alibi = cut(args.alibi, 0, number, 1);
    return own;
  }
};

// Where args tells lengths, the sequences; otherwise none.
std::vector<Sequence> sequences(const Tensor& q, const Tensor& k, const AttentionArgs& args) {
  std::vector<Sequence> all;
  const int64_t count = args.sequences(q.shape()[0]);
  for (int64_t s = 0; args.cu_q.defined() && s < count; ++s) {
    const int64_t q0 = args.cu_q.data<int64_t>()[s * args.cu_q.strides()[0]],
                  k0 = args.cu_k.data<int64_t>()[s * args.cu_k.strides()[0]],
                  n = args.cu_q.data<int64_t>()[(s + 1) * args.cu_q.strides()[0]] - q0,
                  m = args.cu_k.data<int64_t>()[(s + 1) * args.cu_k.strides()[0]] - k0;
    check(q0 >= 0 && n >= 0 && n <= args.max_q && q0 + n <= q.shape()[2] && k0 >= 0 && m >= 0 && m <= args.max_k &&
              k0 + m <= k.shape()[2],
          "attention_varlen: sequence ", s, " has queries ", q0, "..", q0 + n, " and keys ", k0, "..", k0 + m, " of ",
          q.shape()[2], " and ", k.shape()[2], ", at most ", args.max_q, " and ", args.max_k);
    all.push_back({s, 0, q0, n, k0, m});
  }
  for (int64_t s = 0; args.kv_length.defined() && s < count; ++s) {
    const int64_t m = args.kv_length.data<int64_t>()[s * args.kv_length.strides()[0]];
    all.push_back({s, s, 0, q.shape()[2], 0, std::clamp<int64_t>(m, 0, k.shape()[2])});
  }
  return all;
}

template <class T>
void gradients(const Problem<T>& p, const Tensor& out, const Tensor& lse, const Tensor& dout, const Tensor& dlse,
               Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  Gradients<T> g{heads<T>(dout), {}, {}};
  if (p.args.fn == AttentionFn::softmax) {
    const int64_t rows = p.b * p.h * p.n;
    g.lse.resize(static_cast<size_t>(rows)), g.delta.resize(static_cast<size_t>(rows));
    for (int64_t head = 0; head < p.b * p.h; ++head) {
      auto at = [&](const Tensor& x) { return head / p.h * x.strides()[0] + head % p.h * x.strides()[1]; };
      load(lse, at(lse), lse.strides()[2], p.n, g.lse.data() + head * p.n);
      load(dlse, at(dlse), dlse.strides()[2], p.n, g.delta.data() + head * p.n);
    }
    const Heads<T> o = heads<T>(out);
    parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t head = r / p.n, b = head / p.h, h = head % p.h, i = r % p.n;
        const T *x = o.at(b, h, i), *y = g.dout.at(b, h, i);
        T lane[16] = {}, sum = 0;
        int64_t e = 0;
        for (; e + 16 <= p.dv; e += 16) {
          for (int64_t l = 0; l < 16; ++l) lane[l] += x[e + l] * y[e + l];
        }
        for (; e < p.dv; ++e) sum += x[e] * y[e];
        for (T l : lane) sum += l;
        g.delta[static_cast<size_t>(r)] = sum - g.delta[static_cast<size_t>(r)];
      }
    });
  }
  backward(p, g, dq, dk, dv, dbias);
}

}  // namespace

// q, k, v as in scaled_dot_product_attention (4-D, any strides); mask and bias: [b, h, n, m] views or undefined; out of
// any strides, lse contiguous in float32 (float64 for float64).
void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args, Tensor& out, Tensor& lse) {
  dispatch_compute(q.dtype(), [&]<class T>(Type<T>) {
    if constexpr (!std::is_integral_v<T>) {
      const Tensor own_bias = in_type(bias, dtype_of<T>());
      if (!args.cu_q.defined() && !args.kv_length.defined())
        return forward(Problem<T>(q, k, v, mask, own_bias, args, 0), out, lse);
      fill_into(out, 0);  // rows of no sequence
      if (lse.defined()) fill_into(lse, -INFINITY);
      for (const Sequence& s : sequences(q, k, args)) {
        Tensor y = s.queries(out), l = s.queries(lse);
        forward(Problem<T>(s.queries(q), s.keys(k), s.keys(v), s.scores(mask), s.scores(own_bias), s.arguments(args),
                           s.number),
                y, l);
      }
    }
  });
}

// dbias: zeros in float32 (float64 for float64), contiguous, of the bias's own shape (four dimensions, 1 where it was
// broadcast), or undefined. dq, dk, dv: any strides.
void attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                        const AttentionArgs& args, const Tensor& out, const Tensor& lse, const Tensor& dout,
                        const Tensor& dlse, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  dispatch_compute(q.dtype(), [&]<class T>(Type<T>) {
    if constexpr (!std::is_integral_v<T>) {
      const Tensor own_bias = in_type(bias, dtype_of<T>());
      if (!args.cu_q.defined() && !args.kv_length.defined())
        return gradients(Problem<T>(q, k, v, mask, own_bias, args, 0), out, lse, dout, dlse, dq, dk, dv, dbias);
      for (Tensor* x : {&dq, &dk, &dv}) fill_into(*x, 0);
      for (const Sequence& s : sequences(q, k, args)) {
        Tensor q_part = s.queries(dq), k_part = s.keys(dk), v_part = s.keys(dv), bias_part = s.scores(dbias);
        gradients(Problem<T>(s.queries(q), s.keys(k), s.keys(v), s.scores(mask), s.scores(own_bias), s.arguments(args),
                             s.number),
                  s.queries(out), s.queries(lse), s.queries(dout), s.queries(dlse), q_part, k_part, v_part, bias_part);
      }
    }
  });
}

}  // namespace weft::cpu
