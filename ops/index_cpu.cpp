// The iteration space of an index is cut in two: its dimension dim, and the lanes, which are all others. Gathering is
// the same everywhere; scattering goes along dim in order within a lane, so that what meets in one place is always
// added in the same order, and lanes run in parallel.
#include <weft/cpu/strided.h>

#include <atomic>
#include <cstring>

namespace weft::cpu {

namespace {

// Elements that are only moved: one type a size.
template <class F>
void dispatch_size(DType d, F&& f) {
  switch (size_of(d)) {
    case 8:
      return f(Type<uint64_t>{});
    case 4:
      return f(Type<uint32_t>{});
    case 2:
      return f(Type<uint16_t>{});
    default:
      return f(Type<uint8_t>{});
  }
}

// x with dimension dim standing still, in the shape of the index.
Tensor without_dim(const Tensor& x, int64_t dim, const Shape& shape) {
  Shape strides = x.strides();
  strides[dim] = 0;
  return as_strided_raw(x, shape, strides, x.impl().offset);
}

// The kernels only note that an index was out of range; this finds the first one, for the message.
[[noreturn]] void fail_range(const char* op, int64_t dim, const Tensor& index, int64_t low, int64_t n) {
  const Loop<1> loop(index.shape(), {&index});
  const int64_t* ids = index.data<int64_t>();
  loop.runs(0, loop.numel, INT64_MAX, [&](const auto& at, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = ids[at[0] + i * loop.inner_stride(0)];
      check(id >= low && id < n, op, ": index ", id, " is out of range for dim ", dim, " of size ", n);
    }
  });
  fail(op, ": an index was changed by another thread");
}

bool inside(int64_t id, int64_t n) { return static_cast<uint64_t>(id) < static_cast<uint64_t>(n); }

}  // namespace

void gather(const char* op, const Tensor& x, int64_t dim, const Tensor& index, Tensor& y) {
  const int64_t size = x.shape()[dim], step = x.strides()[dim];
  if (y.numel() == 0) return;
  if (size == 0) fail_range(op, dim, index, 0, size);
  const Tensor base = without_dim(x, dim, index.shape());
  const Loop<3> loop(index.shape(), {&y, &index, &base});
  const int64_t si = loop.inner_stride(1), sx = loop.inner_stride(2);
  const int64_t* ids = index.data<int64_t>();
  std::atomic<bool> bad = false;
  dispatch_size(x.dtype(), [&]<class T>(Type<T>) {
    const T* in = static_cast<const T*>(x.raw_data());
    T* out = static_cast<T*>(y.raw_data());
    parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
      bool ok = true;
      loop.runs(begin, end, INT64_MAX, [&](const auto& at, int64_t n) {
        const int64_t* id = ids + at[1];
        const T* from = in + at[2];
        T* to = out + at[0];  // y is contiguous: its inner stride is 1
        if (si == 0) {        // one index for the whole run: a row
          ok = ok && inside(*id, size);
          if (!ok) return;
          from += *id * step;
          if (sx == 1)
            std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
          else
            for (int64_t i = 0; i < n; ++i) to[i] = from[i * sx];
        } else {
          for (int64_t i = 0; i < n; ++i) {
            const bool in_range = inside(id[i * si], size);
            ok &= in_range;
            to[i] = from[(in_range ? id[i * si] : 0) * step + i * sx];
          }
        }
      });
      if (!ok) bad = true;
    });
  });
  if (bad) fail_range(op, dim, index, 0, size);
}

// --- scatter ---------------------------------------------------------------------------------------------------------

namespace {

// y, index and src without dim, and how each moves along it.
struct Lanes {
  Tensor y, index, src;
  int64_t length, size;  // of index and of y along dim
  int64_t step_y, step_index, step_src;
};

Lanes split_lanes(const Tensor& y, const Tensor& index, const Tensor& src, int64_t dim) {
  Shape shape = index.shape();
  shape[dim] = 1;
  return {without_dim(y, dim, shape),
          without_dim(index, dim, shape),
          without_dim(src, dim, shape),
          index.shape()[dim],
          y.shape()[dim],
          y.strides()[dim],
          index.strides()[dim],
          src.strides()[dim]};
}

struct Assign {
  template <class T>
  void operator()(T& y, T v) const {
    y = v;
  }
};
struct Accumulate {
  template <class T>
  void operator()(T& y, T v) const {
    if constexpr (std::is_same_v<T, bool>)
      y = y || v;
    else
      y = static_cast<T>(y + v);
  }
};

// One run of n lanes; only places in [low, high) are written. Returns whether all indices were in range.
template <class T, class F>
bool scatter_run(F put, const Lanes& l, const Loop<3>& loop, const std::array<int64_t, 3>& at, int64_t n, int64_t low,
                 int64_t high, const T* src, const int64_t* ids, T* out) {
  const int64_t sy = loop.inner_stride(0), si = loop.inner_stride(1), ss = loop.inner_stride(2);
  bool ok = true;
  for (int64_t j = 0; j < l.length; ++j) {
    const int64_t* id = ids + at[1] + j * l.step_index;
    const T* from = src + at[2] + j * l.step_src;
    if (si == 0 || n == 1) {
      ok &= inside(*id, l.size);
      if (*id < low || *id >= high) continue;
      T* to = out + at[0] + *id * l.step_y;
      if (sy == 1 && ss == 1) {
        for (int64_t i = 0; i < n; ++i) put(to[i], from[i]);
      } else {
        for (int64_t i = 0; i < n; ++i) put(to[i * sy], from[i * ss]);
      }
    } else {
      for (int64_t i = 0; i < n; ++i) {
        const int64_t place = id[i * si];
        ok &= inside(place, l.size);
        if (place >= low && place < high) put(out[at[0] + i * sy + place * l.step_y], from[i * ss]);
      }
    }
  }
  return ok;
}

// Lanes are cut into chunks; where they make too few, every thread takes a part of the places and reads all indices.
// Both leave the order in which one place is written as it is.
template <class T, class F>
bool scatter_lanes(F put, const Lanes& l, const T* src, const int64_t* ids, T* out) {
  const Loop<3> loop(l.index.shape(), {&l.y, &l.index, &l.src});
  const bool across = loop.inner_stride(0) < l.step_y;  // lanes are neighbours in memory; else run along dim first
  const int64_t longest = across ? kBlock : 1;
  // Long runs of neighbours are read faster, up to what leaves every thread some.
  const int64_t share = std::clamp<int64_t>(loop.numel / num_threads(), 64, 512);
  const int64_t grain = std::max<int64_t>(across ? share : 1, kGrain / std::max<int64_t>(l.length, 1));
  const int64_t chunks = (loop.numel + grain - 1) / grain;
  // Passing over what is another part's costs more than adding a number or two: worth it for rows only.
  const bool divide = chunks == 1 && loop.numel >= 16 && l.length * loop.numel > 2 * kGrain;
  const int64_t parts = divide ? std::min<int64_t>(num_threads(), l.size) : 1;
  std::atomic<bool> bad = false;
  parallel_for(chunks * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t part = task % parts, first = task / parts * grain;
      const int64_t low = l.size * part / parts, high = l.size * (part + 1) / parts;
      bool ok = true;
      loop.runs(first, std::min(first + grain, loop.numel), longest,
                [&](const auto& at, int64_t n) { ok &= scatter_run(put, l, loop, at, n, low, high, src, ids, out); });
      if (!ok) bad = true;
    }
  });
  return !bad;
}

}  // namespace

void scatter(const char* op, int64_t dim, const Tensor& index, const Tensor& src, bool accumulate, Tensor& y) {
  if (index.numel() == 0) return;
  const Lanes l = split_lanes(y, index, src, dim);
  const int64_t* ids = index.data<int64_t>();
  bool ok = true;
  if (accumulate) {
    dispatch_all(y.dtype(), [&]<class T>(Type<T>) {
      if constexpr (std::is_arithmetic_v<T>)
        ok = scatter_lanes(Accumulate{}, l, src.data<T>(), ids, y.data<T>());
      else
        fail("scatter: half types accumulate in float32");
    });
  } else {
    dispatch_size(y.dtype(), [&]<class T>(Type<T>) {
      ok = scatter_lanes(Assign{}, l, static_cast<const T*>(src.raw_data()), ids, static_cast<T*>(y.raw_data()));
    });
  }
  if (!ok) fail_range(op, dim, index, 0, l.size);
}

// --- positions -------------------------------------------------------------------------------------------------------

void fold_index(const char* op, int64_t dim, const Tensor& index, int64_t n, Tensor& flat) {
  const Loop<2> loop(flat.shape(), {&flat, &index});
  const int64_t* ids = index.data<int64_t>();
  int64_t* out = flat.data<int64_t>();
  const int64_t si = loop.inner_stride(1);
  std::atomic<bool> bad = false;
  parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
    bool ok = true;
    loop.runs(begin, end, INT64_MAX, [&](const auto& at, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t id = ids[at[1] + i * si];
        ok &= id >= -n && id < n;
        out[at[0] + i] = out[at[0] + i] * n + (id < 0 ? id + n : id);
      }
    });
    if (!ok) bad = true;
  });
  if (bad) fail_range(op, dim, index, -n, n);
}

void nonzero(const Tensor& x, Tensor& positions) {
  const bool* in = x.data<bool>();
  int64_t* out = positions.data<int64_t>();
  const int64_t n = x.numel(), chunks = (n + kGrain - 1) / kGrain;
  std::vector<int64_t> start(static_cast<size_t>(chunks) + 1, 0);  // where each chunk's positions begin
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    int64_t count = 0;
    for (int64_t i = begin; i < end; ++i) count += in[i];
    start[static_cast<size_t>(begin / kGrain) + 1] = count;
  });
  for (size_t c = 1; c < start.size(); ++c) start[c] += start[c - 1];
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    int64_t* to = out + start[static_cast<size_t>(begin / kGrain)];
    for (int64_t i = begin; i < end; ++i) {
      if (in[i]) *to++ = i;
    }
  });
}

}  // namespace weft::cpu
