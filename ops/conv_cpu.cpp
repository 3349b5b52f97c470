// Convolutions on the CPU. The general case is a matrix product with the patches of the input as columns (im2col), a
// block of columns at a time so that the patches stay in the cache. A depthwise convolution has no products to share
// and runs directly along the rows. Work is split by sizes alone and sums run in a fixed order.
#include <weft/cpu/compute.h>
#include <weft/cpu/gemm.h>
#include <weft/ops/conv_geometry.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace weft::cpu {

namespace {

struct Sizes {
  int64_t batch, groups, ci, co;  // channels of one group
  int64_t h, w, kh, kw, oh, ow;
  ConvGeometry g;

  Sizes(const Tensor& x, const Tensor& weight, const Tensor& y, const ConvGeometry& g)
      : batch(x.size(0)),
        groups(g.groups),
        ci(weight.size(1)),
        co(weight.size(0) / g.groups),
        h(x.size(2)),
        w(x.size(3)),
        kh(weight.size(2)),
        kw(weight.size(3)),
        oh(y.size(2)),
        ow(y.size(3)),
        g(g) {}

  int64_t plane() const { return h * w; }
  int64_t out_plane() const { return oh * ow; }
  int64_t patch() const { return ci * kh * kw; }
  bool depthwise() const { return ci == 1; }
  // A 1×1 kernel without stride or padding: the input is its own matrix of patches.
  bool pointwise() const {
    return kh * kw == 1 && g.stride[0] == 1 && g.stride[1] == 1 && g.before[0] == 0 && g.before[1] == 0 && oh == h &&
           ow == w;
  }
  // Columns in a block of patches of about so many numbers.
  int64_t block(int64_t numbers) const {
    return std::clamp(numbers / std::max<int64_t>(patch(), 1) / 64 * 64, int64_t{64},
                      std::max(int64_t{64}, out_plane()));
  }
};

// Outputs [lo, hi) along one dimension whose input position q·stride + shift lies in [0, n).
struct Range {
  int64_t lo, hi;
};
Range inside(int64_t shift, int64_t stride, int64_t n, int64_t outputs) {
  const int64_t lo = shift < 0 ? (-shift + stride - 1) / stride : 0;
  const int64_t hi = n > shift ? std::min(outputs, (n - shift + stride - 1) / stride) : 0;
  return {std::min(lo, outputs), std::max(hi, std::min(lo, outputs))};
}

// Visits columns [first, last) of one row (i, j) of the patch matrix as runs along output rows: f(column, count,
// source), where source is the position of the first number in a channel's plane, or -1 for a run of padding.
template <class F>
void runs(const Sizes& s, int64_t i, int64_t j, int64_t first, int64_t last, F&& f) {
  const int64_t shift = j * s.g.dilation[1] - s.g.before[1];
  const Range in = inside(shift, s.g.stride[1], s.w, s.ow);
  for (int64_t p = first; p < last;) {
    const int64_t oy = p / s.ow, from = p % s.ow, to = std::min(s.ow, from + last - p);
    const int64_t y = oy * s.g.stride[0] + i * s.g.dilation[0] - s.g.before[0];
    const int64_t lo = y >= 0 && y < s.h ? std::clamp(in.lo, from, to) : to, hi = std::clamp(in.hi, lo, to);
    if (lo > from) f(p, lo - from, int64_t{-1});
    if (hi > lo) f(p + lo - from, hi - lo, y * s.w + lo * s.g.stride[1] + shift);
    if (to > hi) f(p + hi - from, to - hi, int64_t{-1});
    p += to - from;
  }
}

// Columns [first, last) of the patches of one image's group: x: [ci, h, w] -> col: [patch, last - first]
template <class T>
void gather_patches(const Sizes& s, const T* x, int64_t first, int64_t last, T* col) {
  const int64_t cols = last - first, stride = s.g.stride[1];
  parallel_for(s.patch(), std::max<int64_t>(1, kGrain / cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* plane = x + r / (s.kh * s.kw) * s.plane();
      T* out = col + r * cols - first;
      runs(s, r / s.kw % s.kh, r % s.kw, first, last, [&](int64_t column, int64_t n, int64_t source) {
        if (source < 0) {
          std::fill_n(out + column, n, T(0));
        } else if (stride == 1) {
          std::copy_n(plane + source, n, out + column);
        } else {
          for (int64_t q = 0; q < n; ++q) out[column + q] = plane[source + q * stride];
        }
      });
    }
  });
}

// The transpose: adds the columns to dx: [ci, h, w]. Channels are independent of each other.
template <class T>
void scatter_patches(const Sizes& s, const T* col, int64_t first, int64_t last, T* dx) {
  const int64_t cols = last - first, stride = s.g.stride[1], taps = s.kh * s.kw;
  parallel_for(s.ci, std::max<int64_t>(1, kGrain / (cols * taps)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * taps; r < end * taps; ++r) {
      T* plane = dx + r / taps * s.plane();
      const T* in = col + r * cols - first;
      runs(s, r / s.kw % s.kh, r % s.kw, first, last, [&](int64_t column, int64_t n, int64_t source) {
        if (source < 0) return;
        if (stride == 1) {
          for (int64_t q = 0; q < n; ++q) plane[source + q] += in[column + q];
        } else {
          for (int64_t q = 0; q < n; ++q) plane[source + q * stride] += in[column + q];
        }
      });
    }
  });
}

constexpr int64_t kNearPatches =
    1 << 17;  // numbers in a block of patches that is used at once, from the second-level cache
constexpr int64_t kFarPatches = 1 << 20;  // in one that is summed over: longer sums, fewer passes over the result
constexpr int64_t kChunkFlops = 1 << 27;  // products that are worth a thread

// --- general: products with patches. Inside a parallel loop, gemm and the loops above run on the calling thread. -----

template <class T>
void patch_forward(const Sizes& s, const T* x, const T* w, const T* bias, T* y) {
  const int64_t outputs = s.out_plane(), block = s.pointwise() ? outputs : s.block(kNearPatches),
                blocks = (outputs + block - 1) / block;
  const int64_t grain = std::max<int64_t>(1, kChunkFlops / (2 * s.co * s.patch() * block + 1));
  parallel_for(s.batch * s.groups * blocks, grain, [&](int64_t begin, int64_t end) {
    const Tensor patches =
        empty({s.pointwise() ? 0 : s.patch() * std::min(block, outputs)}, dtype_of<T>(), Device::cpu());
    T* col = patches.data<T>();
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t image = unit / blocks, group = image % s.groups;  // image: one group's channels of one input
      const int64_t first = unit % blocks * block, last = std::min(outputs, first + block);
      const T* in = x + image * s.ci * s.plane();
      T* out = y + image * s.co * outputs + first;
      if (!s.pointwise()) gather_patches(s, in, first, last, col);
      if (bias) {
        for (int64_t o = 0; o < s.co; ++o) std::fill_n(out + o * outputs, last - first, bias[group * s.co + o]);
      }
      gemm<T>(false, false, s.co, last - first, s.patch(), T(1), w + group * s.co * s.patch(), s.patch(),
              s.pointwise() ? in : col, last - first, bias ? T(1) : T(0), out, outputs);
    }
  });
}

template <class T>
void patch_input_grad(const Sizes& s, const T* dy, const T* w, T* dx) {
  const int64_t outputs = s.out_plane(), block = s.block(kNearPatches);
  parallel_for(s.batch * s.groups, 1, [&](int64_t begin, int64_t end) {
    const Tensor patches = empty({s.patch() * std::min(block, outputs)}, dtype_of<T>(), Device::cpu());
    T* col = patches.data<T>();
    for (int64_t image = begin; image < end; ++image) {
      const T* weight = w + image % s.groups * s.co * s.patch();
      T* out = dx + image * s.ci * s.plane();
      std::fill_n(out, s.ci * s.plane(), T(0));
      for (int64_t first = 0; first < outputs; first += block) {
        const int64_t last = std::min(outputs, first + block);
        gemm<T>(true, false, s.patch(), last - first, s.co, T(1), weight, s.patch(),
                dy + image * s.co * outputs + first, outputs, T(0), col, last - first);
        scatter_patches(s, col, first, last, out);
      }
    }
  });
}

template <class T>
void patch_weight_grad(const Sizes& s, const T* x, const T* dy, T* dw) {
  const int64_t outputs = s.out_plane(), block = s.block(kFarPatches);
  parallel_for(s.groups, 1, [&](int64_t begin, int64_t end) {
    const Tensor patches = empty({s.patch() * std::min(block, outputs)}, dtype_of<T>(), Device::cpu());
    T* col = patches.data<T>();
    for (int64_t group = begin; group < end; ++group) {
      T* out = dw + group * s.co * s.patch();
      std::fill_n(out, s.co * s.patch(), T(0));
      for (int64_t b = 0; b < s.batch; ++b) {
        const int64_t image = b * s.groups + group;
        for (int64_t first = 0; first < outputs; first += block) {
          const int64_t last = std::min(outputs, first + block);
          gather_patches(s, x + image * s.ci * s.plane(), first, last, col);
          gemm<T>(false, true, s.co, s.patch(), last - first, T(1), dy + image * s.co * outputs + first, outputs, col,
                  last - first, T(1), out, s.patch());
        }
      }
    }
  });
}

// --- depthwise: one input channel an output, tap by tap along the rows -----------------------------------------------

template <class T>
T dot(const T* a, const T* b, int64_t stride,
      int64_t n) {  // Σ a[q]·b[q·stride], in 16 sums that the vectoriser can keep
  T sums[16] = {};
  int64_t q = 0;
  if (stride == 1) {
    for (; q + 16 <= n; q += 16) {
      for (int l = 0; l < 16; ++l) sums[l] += a[q + l] * b[q + l];
    }
  }
  for (; q < n; ++q) sums[q % 16] += a[q] * b[q * stride];
  for (int half = 8; half; half /= 2) {
    for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

// f(tap, column, count, source) for every run of outputs that a tap reaches.
template <class F>
void depthwise_runs(const Sizes& s, F&& f) {
  for (int64_t tap = 0; tap < s.kh * s.kw; ++tap) {
    runs(s, tap / s.kw, tap % s.kw, 0, s.out_plane(), [&](int64_t column, int64_t n, int64_t source) {
      if (source >= 0) f(tap, column, n, source);
    });
  }
}

int64_t depthwise_grain(const Sizes& s) { return std::max<int64_t>(1, kGrain / (s.out_plane() * s.kh * s.kw + 1)); }

template <class T>
void depthwise_forward(const Sizes& s, const T* x, const T* w, const T* bias, T* y) {
  const int64_t outs = s.groups * s.co, stride = s.g.stride[1];
  parallel_for(s.batch * outs, depthwise_grain(s), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const T* in = x + unit / s.co * s.plane();
      const T* weight = w + unit % outs * s.kh * s.kw;
      T* out = y + unit * s.out_plane();
      std::fill_n(out, s.out_plane(), bias ? bias[unit % outs] : T(0));
      depthwise_runs(s, [&](int64_t tap, int64_t column, int64_t n, int64_t source) {
        const T k = weight[tap];
        if (stride == 1) {
          for (int64_t q = 0; q < n; ++q) out[column + q] += k * in[source + q];
        } else {
          for (int64_t q = 0; q < n; ++q) out[column + q] += k * in[source + q * stride];
        }
      });
    }
  });
}

template <class T>
void depthwise_input_grad(const Sizes& s, const T* dy, const T* w, T* dx) {
  const int64_t outs = s.groups * s.co, stride = s.g.stride[1];
  parallel_for(s.batch * s.groups, depthwise_grain(s), [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      T* out = dx + image * s.plane();
      std::fill_n(out, s.plane(), T(0));
      for (int64_t unit = image * s.co; unit < (image + 1) * s.co; ++unit) {
        const T *in = dy + unit * s.out_plane(), *weight = w + unit % outs * s.kh * s.kw;
        depthwise_runs(s, [&](int64_t tap, int64_t column, int64_t n, int64_t source) {
          const T k = weight[tap];
          if (stride == 1) {
            for (int64_t q = 0; q < n; ++q) out[source + q] += k * in[column + q];
          } else {
            for (int64_t q = 0; q < n; ++q) out[source + q * stride] += k * in[column + q];
          }
        });
      }
    }
  });
}

template <class T>
void depthwise_weight_grad(const Sizes& s, const T* x, const T* dy, T* dw) {
  const int64_t outs = s.groups * s.co, stride = s.g.stride[1], taps = s.kh * s.kw;
  parallel_for(outs, depthwise_grain(s), [&](int64_t begin, int64_t end) {
    std::fill(dw + begin * taps, dw + end * taps, T(0));
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t b = 0; b < s.batch; ++b) {
        const int64_t unit = b * outs + o;
        const T *in = x + unit / s.co * s.plane(), *g = dy + unit * s.out_plane();
        depthwise_runs(s, [&](int64_t tap, int64_t column, int64_t n, int64_t source) {
          dw[o * taps + tap] += dot(g + column, in + source, stride, n);
        });
      }
    }
  });
}

}  // namespace

void conv(const Tensor& x, const Tensor& weight, const Tensor& bias, const ConvGeometry& g, Tensor& y) {
  if (y.numel() == 0) return;
  const Sizes s(x, weight, y, g);
  in_float(y.dtype(), [&]<class T>(Type<T>) {
    const Tensor in = compute_copy<T>(x), w = compute_copy<T>(weight), b = compute_copy<T>(bias),
                 out = compute_output<T>(y);
    const auto forward = s.depthwise() ? depthwise_forward<T> : patch_forward<T>;
    forward(s, in.data<T>(), w.data<T>(), b.defined() ? b.data<T>() : nullptr, out.data<T>());
    write_back<T>(out, y);
  });
}

void conv_input_grad(const Tensor& dy, const Tensor& weight, const ConvGeometry& g, Tensor& dx) {
  if (dx.numel() == 0) return;
  const Sizes s(dx, weight, dy, g);
  in_float(dx.dtype(), [&]<class T>(Type<T>) {
    const Tensor in = compute_copy<T>(dy), w = compute_copy<T>(weight), out = compute_output<T>(dx);
    (s.depthwise() ? depthwise_input_grad<T> : patch_input_grad<T>)(s, in.data<T>(), w.data<T>(), out.data<T>());
    write_back<T>(out, dx);
  });
}

void conv_weight_grad(const Tensor& x, const Tensor& dy, const ConvGeometry& g, Tensor& dweight) {
  if (dweight.numel() == 0) return;
  const Sizes s(x, dweight, dy, g);
  in_float(dweight.dtype(), [&]<class T>(Type<T>) {
    const Tensor in = compute_copy<T>(x), d = compute_copy<T>(dy), out = compute_output<T>(dweight);
    (s.depthwise() ? depthwise_weight_grad<T> : patch_weight_grad<T>)(s, in.data<T>(), d.data<T>(), out.data<T>());
    write_back<T>(out, dweight);
  });
}

// --- interpolation ---------------------------------------------------------------------------------------------------

namespace {

// Output j is (1 - weight)·x[low] + weight·x[high].
struct Mix {
  int64_t low, high;
  double weight;
};

std::vector<Mix> mixes(int64_t n, int64_t m, InterpolateMode mode, bool align_corners) {
  std::vector<Mix> out(static_cast<size_t>(m));
  for (int64_t j = 0; j < m; ++j) {
    Mix& mix = out[static_cast<size_t>(j)];
    if (mode == InterpolateMode::nearest) {
      mix = {j * n / m, j * n / m, 0};
      continue;
    }
    const auto jd = static_cast<double>(j), nd = static_cast<double>(n), md = static_cast<double>(m);
    const double at =
        align_corners ? (m > 1 ? jd * (nd - 1) / (md - 1) : 0) : std::max(0.0, (jd + 0.5) * nd / md - 0.5);
    mix.low = std::min(static_cast<int64_t>(at), n - 1);
    mix.high = std::min(mix.low + 1, n - 1);
    mix.weight = at - static_cast<double>(mix.low);
  }
  return out;
}

}  // namespace

void interpolate(const Tensor& x, InterpolateMode mode, bool align_corners, Tensor& y) {
  const int64_t rows = y.size(0), n = x.size(1), m = y.size(1);
  const auto table = mixes(n, m, mode, align_corners);
  in_float(y.dtype(), [&]<class T>(Type<T>) {
    const Tensor in = compute_copy<T>(x), out = compute_output<T>(y);
    parallel_for(rows, std::max<int64_t>(1, kGrain / m), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* from = in.data<T>() + r * n;
        T* to = out.data<T>() + r * m;
        for (const Mix& mix : table) {
          const T w = static_cast<T>(mix.weight);
          *to++ = (T(1) - w) * from[mix.low] + w * from[mix.high];
        }
      }
    });
    write_back<T>(out, y);
  });
}

void interpolate_grad(const Tensor& dy, InterpolateMode mode, bool align_corners, Tensor& dx) {
  const int64_t rows = dy.size(0), n = dx.size(1), m = dy.size(1);
  const auto table = mixes(n, m, mode, align_corners);
  in_float(dx.dtype(), [&]<class T>(Type<T>) {
    const Tensor in = compute_copy<T>(dy), out = compute_output<T>(dx);
    parallel_for(rows, std::max<int64_t>(1, kGrain / m), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* from = in.data<T>() + r * m;
        T* to = out.data<T>() + r * n;
        std::fill_n(to, n, T(0));
        for (const Mix& mix : table) {
          const T w = static_cast<T>(mix.weight), g = *from++;
          to[mix.low] += (T(1) - w) * g;
          to[mix.high] += w * g;
        }
      }
    });
    write_back<T>(out, dx);
  });
}

}  // namespace weft::cpu
