// Walking strided CPU tensors together. The common iteration space of N operands is coalesced into as few dimensions as
// their strides allow, then visited as runs along the innermost one. Kernels see short contiguous blocks of one compute
// type (float, double or int64_t): a block that is stored otherwise is converted on the way in and out, so a kernel is
// compiled once a compute type, not once a dtype, and its inner loop always vectorises.
#pragma once

#include <weft/tensor/parallel.h>
#include <weft/tensor/tensor.h>

#include <array>

namespace weft::cpu {

inline constexpr int64_t kBlock = 1024;   // elements a block: a few stay in the L1 cache
inline constexpr int64_t kGrain = 32768;  // elements a parallel chunk

/// The type arithmetic on d happens in.
template <class F>
decltype(auto) dispatch_compute(DType d, F&& f) {
  if (d == float64) return f(Type<double>{});
  if (is_floating(d)) return f(Type<float>{});
  return f(Type<int64_t>{});
}

/// out[i] = data[offset + i*stride], converted.
template <class C>
void load(const Tensor& x, int64_t offset, int64_t stride, int64_t n, C* out) {
  dispatch_all(x.dtype(), [&]<class T>(Type<T>) {
    const T* p = x.data<T>() + offset;
    if (stride == 1) {
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<C>(p[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<C>(p[i * stride]);
    }
  });
}

/// data[offset + i*stride] = in[i], converted.
template <class C>
void store(const Tensor& y, int64_t offset, int64_t stride, int64_t n, const C* in) {
  dispatch_all(y.dtype(), [&]<class T>(Type<T>) {
    T* p = y.data<T>() + offset;
    if constexpr (std::is_same_v<T, bool>) {
      for (int64_t i = 0; i < n; ++i) p[i * stride] = in[i] != C(0);
    } else if (stride == 1) {
      for (int64_t i = 0; i < n; ++i) p[i] = static_cast<T>(in[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) p[i * stride] = static_cast<T>(in[i]);
    }
  });
}

/// The coalesced iteration space of N operands that broadcast to one shape; operand strides are 0 where it is repeated.
template <int N>
struct Loop {
  int64_t ndim = 0, numel = 1;
  int64_t sizes[kMaxDims + 1];
  std::array<int64_t, kMaxDims + 1> strides[N];

  Loop(const Shape& shape, const std::array<const Tensor*, N>& operands) {
    numel = shape.numel();
    for (int64_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 1) continue;
      std::array<int64_t, N> st;
      for (int k = 0; k < N; ++k) {
        const Tensor& t = *operands[static_cast<size_t>(k)];
        const int64_t at = d - (shape.size() - t.dim());
        st[static_cast<size_t>(k)] = at < 0 || t.shape()[at] == 1 ? 0 : t.strides()[at];
      }
      bool merge = ndim > 0;
      for (int k = 0; k < N && merge; ++k)
        merge = strides[k][static_cast<size_t>(ndim - 1)] == st[static_cast<size_t>(k)] * shape[d];
      if (!merge) sizes[ndim++] = 1;
      sizes[ndim - 1] *= shape[d];
      for (int k = 0; k < N; ++k) strides[k][static_cast<size_t>(ndim - 1)] = st[static_cast<size_t>(k)];
    }
    if (ndim == 0) {
      sizes[ndim++] = 1;
      for (int k = 0; k < N; ++k) strides[k][0] = 0;
    }
  }

  int64_t inner_stride(int k) const { return strides[k][static_cast<size_t>(ndim - 1)]; }

  /// f(offsets, n): a run of n elements that starts at offsets[k] in operand k and goes on by inner_stride(k);
  /// covers elements [begin, end) of the space in row-major order.
  template <class F>
  void runs(int64_t begin, int64_t end, int64_t longest, F&& f) const {
    const int64_t inner = sizes[ndim - 1];
    for (int64_t at = begin; at < end;) {
      std::array<int64_t, N> offset{};
      int64_t rest = at / inner, in = at % inner;
      for (int k = 0; k < N; ++k) offset[static_cast<size_t>(k)] = in * inner_stride(k);
      for (int64_t d = ndim - 2; d >= 0; --d) {
        const int64_t i = rest % sizes[d];
        rest /= sizes[d];
        for (int k = 0; k < N; ++k) offset[static_cast<size_t>(k)] += i * strides[k][static_cast<size_t>(d)];
      }
      int64_t run = std::min(inner - in, end - at);
      at += run;
      while (run > 0) {
        const int64_t n = std::min(run, longest);
        f(offset, n);
        for (int k = 0; k < N; ++k) offset[static_cast<size_t>(k)] += n * inner_stride(k);
        run -= n;
      }
    }
  }
};

/// One operand of a block loop: hands out each block as contiguous C.
template <class C>
class In {
 public:
  In(const Tensor& x, int64_t stride) : x_(x), stride_(stride), direct_(x.dtype() == dtype_of<C>() && stride == 1) {}
  const C* block(int64_t offset, int64_t n) {
    if (direct_) return x_.data<C>() + offset;
    if (stride_ == 0) {
      load(x_, offset, 0, 1, buffer_);
      std::fill(buffer_ + 1, buffer_ + n, buffer_[0]);
    } else {
      load(x_, offset, stride_, n, buffer_);
    }
    return buffer_;
  }

 private:
  const Tensor& x_;
  int64_t stride_;
  bool direct_;
  alignas(64) C buffer_[kBlock];
};

/// The result of a block loop: begin() gives room for n elements, finish() stores them.
template <class C>
class Out {
 public:
  Out(const Tensor& y, int64_t stride) : y_(y), stride_(stride), direct_(y.dtype() == dtype_of<C>() && stride == 1) {}
  C* begin(int64_t offset) { return direct_ ? y_.data<C>() + offset : buffer_; }
  void finish(int64_t offset, int64_t n) {
    if (!direct_) store(y_, offset, stride_, n, buffer_);
  }

 private:
  const Tensor& y_;
  int64_t stride_;
  bool direct_;
  alignas(64) C buffer_[kBlock];
};

/// y = f(x) elementwise, in compute type C (O for the result); x broadcasts to y.
template <class C, class O, class F>
void map(F f, const Tensor& x, Tensor& y) {
  const Loop<2> loop(y.shape(), {&y, &x});
  parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
    Out<O> out(y, loop.inner_stride(0));
    In<C> in(x, loop.inner_stride(1));
    loop.runs(begin, end, kBlock, [&](const auto& at, int64_t n) {
      const C* a = in.block(at[1], n);
      O* o = out.begin(at[0]);
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = f(a[i]);
      out.finish(at[0], n);
    });
  });
}

/// y = f(a, b) elementwise with broadcasting.
template <class C, class O, class F>
void map(F f, const Tensor& a, const Tensor& b, Tensor& y) {
  const Loop<3> loop(y.shape(), {&y, &a, &b});
  parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
    Out<O> out(y, loop.inner_stride(0));
    In<C> in_a(a, loop.inner_stride(1)), in_b(b, loop.inner_stride(2));
    loop.runs(begin, end, kBlock, [&](const auto& at, int64_t n) {
      const C *pa = in_a.block(at[1], n), *pb = in_b.block(at[2], n);
      O* o = out.begin(at[0]);
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = f(pa[i], pb[i]);
      out.finish(at[0], n);
    });
  });
}

/// y = f(a, b, c) elementwise with broadcasting; a in compute type A.
template <class A, class C, class O, class F>
void map(F f, const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y) {
  const Loop<4> loop(y.shape(), {&y, &a, &b, &c});
  parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
    Out<O> out(y, loop.inner_stride(0));
    In<A> in_a(a, loop.inner_stride(1));
    In<C> in_b(b, loop.inner_stride(2)), in_c(c, loop.inner_stride(3));
    loop.runs(begin, end, kBlock, [&](const auto& at, int64_t n) {
      const A* pa = in_a.block(at[1], n);
      const C *pb = in_b.block(at[2], n), *pc = in_c.block(at[3], n);
      O* o = out.begin(at[0]);
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) o[i] = f(pa[i], pb[i], pc[i]);
      out.finish(at[0], n);
    });
  });
}

}  // namespace weft::cpu
