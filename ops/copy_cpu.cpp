#include <weft/cpu/strided.h>

#include <cstring>

namespace weft::cpu {

void copy(const Tensor& src, Tensor& dst) {
  const int64_t n = dst.numel();
  if (n == 0) return;
  if (src.dtype() == dst.dtype() && src.is_contiguous() && dst.is_contiguous()) {
    const auto size = static_cast<int64_t>(size_of(src.dtype()));
    parallel_for(n * size, int64_t{1} << 18, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(dst.raw_data()) + begin, static_cast<const char*>(src.raw_data()) + begin,
                  static_cast<size_t>(end - begin));
    });
    return;
  }
  // Integers travel as int64, floats of one kind as float or double: nothing is rounded twice.
  const bool integers = !src.is_floating() && !dst.is_floating();
  const bool narrow = size_of(src.dtype()) < 8 && size_of(dst.dtype()) < 8 &&
                      (src.is_floating() || src.dtype() == uint8 || src.dtype() == boolean);
  auto move = [&]<class C>(Type<C>) { map<C, C>([](C v) { return v; }, src, dst); };
  if (integers)
    move(Type<int64_t>{});
  else if (narrow)
    move(Type<float>{});
  else
    move(Type<double>{});
}

void cast_all(const Tensors& x, const Tensors& y) {
  for (size_t i = 0; i < x.size(); ++i) {
    Tensor to = y[i];
    copy(x[i], to);
  }
}

void fill(Tensor& dst, Scalar value) {
  const Loop<1> loop(dst.shape(), {&dst});
  dispatch_all(dst.dtype(), [&]<class T>(Type<T>) {
    const T v = value.to<T>();
    T* base = dst.data<T>();
    const int64_t stride = loop.inner_stride(0);
    parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
      loop.runs(begin, end, INT64_MAX, [&](const auto& at, int64_t n) {
        for (int64_t i = 0; i < n; ++i) base[at[0] + i * stride] = v;
      });
    });
  });
}

}  // namespace weft::cpu
