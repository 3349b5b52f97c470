// Scans for any layout. Lanes are all dimensions but dim. Where lanes are neighbours in memory a strip of them moves
// along dim together, which vectorises; where dim is, a lane is done at a time, a block of it in cache.
#include <weft/cpu/strided.h>
#include <weft/ops/scan_op.h>

namespace weft::cpu {

namespace {

constexpr int64_t kStrip = 256;  // lanes that move together

// Operand k's view over the lanes, and its step along dim.
template <int N>
struct Lanes {
  std::array<Tensor, N> at;
  std::array<int64_t, N> step;
  int64_t length;

  Lanes(const std::array<const Tensor*, N>& operands, int64_t dim) : length(operands[0]->shape()[dim]) {
    for (size_t k = 0; k < N; ++k) {
      const Tensor& x = *operands[k];
      Shape shape = x.shape();
      shape[dim] = 1;
      at[k] = as_strided_raw(x, shape, x.strides(), x.impl().offset);
      step[k] = x.strides()[dim];
    }
  }
  Loop<N> loop() const {
    std::array<const Tensor*, N> operands;
    for (size_t k = 0; k < N; ++k) operands[k] = &at[k];
    return Loop<N>(at[0].shape(), operands);
  }
};

// Calls strip(offsets, n) for groups of lanes, in parallel; operand 0 is the contiguous result.
template <int N, class F>
void for_lanes(const Lanes<N>& lanes, F&& f) {
  if (lanes.length == 0) return;
  const Loop<N> loop = lanes.loop();
  const bool across = loop.inner_stride(0) < lanes.step[0];
  const int64_t longest = across ? kStrip : 1;
  const int64_t grain = std::max<int64_t>(longest, kGrain / lanes.length / longest * longest);
  parallel_for(loop.numel, grain, [&](int64_t begin, int64_t end) {
    loop.runs(begin, end, longest, [&](const auto& offset, int64_t n) { f(loop, offset, n); });
  });
}

// Where element t of the scan, in its order, is along dim.
int64_t place(int64_t t, int64_t length, bool reverse) { return reverse ? length - 1 - t : t; }

// One lane, in blocks of consecutive elements: f(t0, n, in..., out) does the work of scan steps [t0, t0 + n).
template <class C, class F>
void scan_lane(F f, bool exclusive, bool reverse, const Tensor& x, int64_t x_at, int64_t x_step, const Tensor& y,
               int64_t y_at, int64_t y_step, int64_t length) {
  In<C> in(x, x_step);
  Out<C> out(y, y_step);
  C total = F::template start<C>();
  for (int64_t done = 0; done < length; done += kBlock) {
    const int64_t n = std::min(kBlock, length - done), first = reverse ? length - done - n : done;
    const C* v = in.block(x_at + first * x_step, n);
    C* o = out.begin(y_at + first * y_step);
    for (int64_t t = 0; t < n; ++t) {
      const int64_t i = place(t, n, reverse);
      const C before = total;
      total = f(total, v[i]);
      o[i] = exclusive ? before : total;
    }
    out.finish(y_at + first * y_step, n);
  }
}

}  // namespace

void scan(ScanOp op, const Tensor& x, int64_t dim, bool exclusive, bool reverse, Tensor& y) {
  const Lanes<2> lanes({&y, &x}, dim);
  visit(op, [&]<class F>(F f) {
    dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
      for_lanes(lanes, [&](const Loop<2>& loop, const auto& at, int64_t n) {
        if (n == 1) {
          scan_lane<C>(f, exclusive, reverse, x, at[1], lanes.step[1], y, at[0], lanes.step[0], lanes.length);
          return;
        }
        In<C> in(x, loop.inner_stride(1));
        Out<C> out(y, loop.inner_stride(0));
        alignas(64) C total[kStrip];
        std::fill(total, total + n, F::template start<C>());
        for (int64_t t = 0; t < lanes.length; ++t) {
          const int64_t j = place(t, lanes.length, reverse);
          const C* v = in.block(at[1] + j * lanes.step[1], n);
          C* o = out.begin(at[0] + j * lanes.step[0]);
          for (int64_t i = 0; i < n; ++i) {
            const C next = f(total[i], v[i]);
            o[i] = exclusive ? total[i] : next;
            total[i] = next;
          }
          out.finish(at[0] + j * lanes.step[0], n);
        }
      });
    });
  });
}

void scan_extreme(bool largest, const Tensor& x, int64_t dim, Tensor& indices) {
  const Lanes<2> lanes({&indices, &x}, dim);
  int64_t* out = indices.data<int64_t>();
  dispatch_all(x.dtype(), [&]<class T>(Type<T>) {
    const T* in = x.data<T>();
    for_lanes(lanes, [&](const Loop<2>& loop, const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const T* v = in + at[1] + i * loop.inner_stride(1);
        int64_t* o = out + at[0] + i * loop.inner_stride(0);
        int64_t best = 0;
        for (int64_t t = 0; t < lanes.length; ++t) {
          const auto a = static_cast<acc_t<T>>(v[t * lanes.step[1]]),
                     b = static_cast<acc_t<T>>(v[best * lanes.step[1]]);
          if (!beats(largest, b, a)) best = t;  // equal: the later one
          o[t * lanes.step[0]] = best;
        }
      }
    });
  });
}

void linear_scan(const Tensor& a, const Tensor& b, int64_t dim, bool reverse, Tensor& y) {
  const Lanes<3> lanes({&y, &a, &b}, dim);
  dispatch_compute(y.dtype(), [&]<class C>(Type<C>) {
    for_lanes(lanes, [&](const Loop<3>& loop, const auto& at, int64_t n) {
      // One lane runs along dim in blocks; a strip of lanes takes a step of dim at a time.
      const bool lane = n == 1;
      In<C> in_a(a, lane ? lanes.step[1] : loop.inner_stride(1)), in_b(b, lane ? lanes.step[2] : loop.inner_stride(2));
      Out<C> out(y, lane ? lanes.step[0] : loop.inner_stride(0));
      alignas(64) C state[kStrip] = {};
      const int64_t block = lane ? kBlock : 1;
      for (int64_t done = 0; done < lanes.length; done += block) {
        const int64_t count = std::min(block, lanes.length - done), run = lane ? count : n;
        const int64_t j = reverse ? lanes.length - done - count : done;
        const C* pa = in_a.block(at[1] + j * lanes.step[1], run);
        const C* pb = in_b.block(at[2] + j * lanes.step[2], run);
        C* o = out.begin(at[0] + j * lanes.step[0]);
        if (lane) {
          for (int64_t t = 0; t < count; ++t) {
            const int64_t i = place(t, count, reverse);
            o[i] = state[0] = pa[i] * state[0] + pb[i];
          }
        } else {
          for (int64_t i = 0; i < n; ++i) o[i] = state[i] = pa[i] * state[i] + pb[i];
        }
        out.finish(at[0] + j * lanes.step[0], run);
      }
    });
  });
}

}  // namespace weft::cpu
