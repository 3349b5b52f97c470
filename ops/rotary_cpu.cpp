#include <weft/cpu/rows.h>

#include <cmath>

namespace weft::cpu {

void rotary(const Tensor& x, const Tensor& angles, const Tensor& scale, bool inverse, bool halves, int64_t n,
            int64_t inner, Tensor& y) {
  const int64_t d = x.shape().back(), pairs = angles.shape()[2], rows = x.numel() / d;
  const int64_t per_batch = rows / angles.shape()[0];
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    using C = acc_t<T>;
    // The cosines and sines of each position, times its scale: [b, n, pairs].
    std::vector<C> cosine(static_cast<size_t>(angles.numel())), sine(cosine.size());
    const C *angle = angles.data<C>(), *factor = scale.defined() ? scale.data<C>() : nullptr;
    parallel_for(angles.numel(), kGrain / 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const C s = factor ? factor[i] : C(1);
        cosine[static_cast<size_t>(i)] = s * std::cos(angle[i]);
        sine[static_cast<size_t>(i)] = s * (inverse ? -std::sin(angle[i]) : std::sin(angle[i]));
      }
    });
    const T* px = x.data<T>();
    T* py = y.data<T>();
    const int64_t step = halves ? 1 : 2, apart = halves ? pairs : 1;  // from pair to pair, and within one
    parallel_for(rows, row_grain(d), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = (r / per_batch * n + r / inner % n) * pairs;
        const C *c = cosine.data() + at, *s = sine.data() + at;
        const T* in = px + r * d;
        T* out = py + r * d;
        for (int64_t k = 0; k < pairs; ++k) {
          const C a = in[k * step], b = in[k * step + apart];
          out[k * step] = a * c[k] - b * s[k];
          out[k * step + apart] = b * c[k] + a * s[k];
        }
        std::copy(in + 2 * pairs, in + d, out + 2 * pairs);
      }
    });
  });
}

}  // namespace weft::cpu
