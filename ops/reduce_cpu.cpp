// One reduction kernel for any layout. The kept dimensions are the rows of the problem, the reduced ones its columns.
// Where memory runs along a reduced dimension, a row is summed in kLanes interleaved lanes (which vectorises and keeps
// the error low); where it runs along a kept one, a strip of rows is summed at once. A single long row is cut into
// fixed parts, summed in order.
#include <weft/cpu/strided.h>
#include <weft/ops/reduce_op.h>

namespace weft::cpu {

namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kPart = 65536;  // columns a partial result

template <class C, class F>
C reduce_block(F f, const C* v, int64_t n) {
  if (n < kLanes) {
    C r = F::template start<C>();
    for (int64_t i = 0; i < n; ++i) r = f(r, v[i]);
    return r;
  }
  C lane[kLanes];
  for (int64_t j = 0; j < kLanes; ++j) lane[j] = v[j];
  int64_t i = kLanes;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lane[j] = f(lane[j], v[i + j]);
  }
  for (int64_t j = 0; i < n; ++i, ++j) lane[j] = f(lane[j], v[i]);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t j = 0; j < half; ++j) lane[j] = f(lane[j], lane[j + half]);
  }
  return lane[0];
}

// The problem, with dimensions sorted into kept and reduced: views of x and y that iterate over each.
struct Split {
  Tensor rows_x, rows_y;                        // [kept...]: x at the first column; y
  Tensor columns;                               // [reduced...]: x at the first row
  int64_t kept_stride = 0, reduced_stride = 0;  // smallest of each kind
};

Split split_dims(const Tensor& x, const Tensor& y) {
  Shape kept, kept_x, kept_y, reduced, reduced_x;
  int64_t sk = INT64_MAX, sr = INT64_MAX;
  for (int64_t d = 0; d < x.dim(); ++d) {
    const int64_t n = x.shape()[d], st = x.strides()[d];
    if (y.shape()[d] == n) {  // a reduced dimension of size 1 is as good as kept
      kept.push_back(n), kept_x.push_back(st), kept_y.push_back(y.strides()[d]);
      if (n > 1) sk = std::min(sk, st);
    } else {
      reduced.push_back(n), reduced_x.push_back(st);
      if (n > 1) sr = std::min(sr, st);
    }
  }
  return {as_strided_raw(x, kept, kept_x, x.impl().offset), as_strided_raw(y, kept, kept_y, y.impl().offset),
          as_strided_raw(x, reduced, reduced_x, x.impl().offset), sk, sr};
}

// Reduces columns [begin, end) of the row that starts at offset.
template <class C, class F>
C reduce_row(F f, const Tensor& columns, const Loop<1>& loop, int64_t offset, int64_t begin, int64_t end) {
  C total = F::template start<C>();
  In<C> in(columns, loop.inner_stride(0));
  loop.runs(begin, end, kBlock,
            [&](const auto& at, int64_t n) { total = f(total, reduce_block(f, in.block(offset + at[0], n), n)); });
  return total;
}

template <class C, class F>
void reduce_rows(F f, const Split& s, const Loop<2>& rows, const Loop<1>& columns) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(columns.numel, 1));
  if (rows.numel == 1 && columns.numel > kPart) {
    const int64_t parts = (columns.numel + kPart - 1) / kPart;
    std::vector<C> partial(static_cast<size_t>(parts));
    parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        partial[static_cast<size_t>(p)] =
            reduce_row<C>(f, s.columns, columns, 0, p * kPart, std::min(columns.numel, (p + 1) * kPart));
      }
    });
    const C total = reduce_block(f, partial.data(), parts);
    store(s.rows_y, 0, 1, 1, &total);
    return;
  }
  parallel_for(rows.numel, grain, [&](int64_t begin, int64_t end) {
    rows.runs(begin, end, 1, [&](const auto& at, int64_t) {
      const C total = reduce_row<C>(f, s.columns, columns, at[0], 0, columns.numel);
      store(s.rows_y, at[1], 1, 1, &total);
    });
  });
}

template <class C, class F>
void reduce_strips(F f, const Split& s, const Loop<2>& rows, const Loop<1>& columns) {
  constexpr int64_t kStrip = 256;
  const int64_t grain = std::max<int64_t>(kStrip, kGrain / std::max<int64_t>(columns.numel, 1) / kStrip * kStrip);
  parallel_for(rows.numel, grain, [&](int64_t begin, int64_t end) {
    In<C> in(s.columns, rows.inner_stride(0));
    alignas(64) C total[kStrip];
    rows.runs(begin, end, kStrip, [&](const auto& at, int64_t n) {
      std::fill(total, total + n, F::template start<C>());
      columns.runs(0, columns.numel, 1, [&](const auto& column, int64_t) {
        const C* v = in.block(at[0] + column[0], n);
        for (int64_t i = 0; i < n; ++i) total[i] = f(total[i], v[i]);
      });
      store(s.rows_y, at[1], rows.inner_stride(1), n, total);
    });
  });
}

}  // namespace

// y: x's shape with size 1 where reduced.
void reduce(ReduceOp op, const Tensor& x, Tensor& y) {
  const Split s = split_dims(x, y);
  const Loop<2> rows(s.rows_x.shape(), {&s.rows_x, &s.rows_y});
  const Loop<1> columns(s.columns.shape(), {&s.columns});
  visit(op, [&]<class F>(F f) {
    dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
      if (s.kept_stride < s.reduced_stride && rows.numel > 1)
        reduce_strips<C>(f, s, rows, columns);
      else
        reduce_rows<C>(f, s, rows, columns);
    });
  });
}

}  // namespace weft::cpu
