#include <weft/cpu/strided.h>
#include <weft/ops/philox.h>
#include <weft/ops/random.h>

namespace weft::cpu {

namespace {

// f(first, words, n): words [first, first + n) of the stream; a block starts at a multiple of four.
template <class F>
void for_words(int64_t count, Generator::State at, F&& f) {
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    uint32_t words[kBlock];
    for (int64_t first = begin; first < end; first += kBlock) {
      const int64_t n = std::min(kBlock, end - first);
      const uint64_t counter = at.offset + static_cast<uint64_t>(first) / 4;
      for (int64_t i = 0; i < (n + 3) / 4; ++i) {
        const Philox4 r = philox(at.seed, counter + static_cast<uint64_t>(i));
        for (int j = 0; j < 4; ++j) words[4 * i + j] = r.word[j];
      }
      f(first, words, n);
    }
  });
}

}  // namespace

// y: contiguous here and below; float64 takes two words an element, the others one.
void uniform(Tensor& y, double low, double high, Generator::State at) {
  dispatch_floating(y.dtype(), [&]<class T>(Type<T>) {
    T* p = y.data<T>();
    if constexpr (std::is_same_v<T, double>) {
      for_words(2 * y.numel(), at, [&](int64_t first, const uint32_t* w, int64_t n) {
        for (int64_t i = 0; i < n / 2; ++i) {
          const double v = low + (high - low) * to_uniform(w[2 * i], w[2 * i + 1]);
          p[first / 2 + i] = v < high ? v : low;
        }
      });
    } else {
      const auto lo = static_cast<float>(low), range = static_cast<float>(high - low), hi = static_cast<float>(high);
      for_words(y.numel(), at, [&](int64_t first, const uint32_t* w, int64_t n) {
        for (int64_t i = 0; i < n; ++i) p[first + i] = T(to_uniform(w[i], lo, range, hi, dtype_of<T>()));
      });
    }
  });
}

void normal(Tensor& y, double mean, double std, Generator::State at) {
  dispatch_floating(y.dtype(), [&]<class T>(Type<T>) {
    T* p = y.data<T>();
    for_words(y.numel() + y.numel() % 2, at, [&](int64_t first, const uint32_t* w, int64_t n) {
      for (int64_t i = 0; i < n; i += 2) {
        double a, b;
        to_normal(w[i], w[i + 1], a, b);
        p[first + i] = static_cast<T>(mean + std * a);
        if (first + i + 1 < y.numel()) p[first + i + 1] = static_cast<T>(mean + std * b);
      }
    });
  });
}

void randint(Tensor& y, int64_t low, int64_t high, Generator::State at) {
  const auto range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  int64_t* p = y.data<int64_t>();
  for_words(2 * y.numel(), at, [&](int64_t first, const uint32_t* w, int64_t n) {
    for (int64_t i = 0; i < n / 2; ++i) {
      const uint64_t word = (uint64_t{w[2 * i]} << 32) | w[2 * i + 1];
      p[first / 2 + i] = static_cast<int64_t>(static_cast<uint64_t>(low) + word % range);
    }
  });
}

void bernoulli(const Tensor& p, Tensor& y, Generator::State at) {
  dispatch_floating(p.dtype(), [&]<class T>(Type<T>) {
    const T* in = p.data<T>();
    T* out = y.data<T>();
    for_words(y.numel(), at, [&](int64_t first, const uint32_t* w, int64_t n) {
      for (int64_t i = 0; i < n; ++i)
        out[first + i] = T(to_uniform(w[i]) < static_cast<float>(in[first + i]) ? 1.0f : 0.0f);
    });
  });
}

void dropout(const Tensor& x, double p, Generator::State at, Tensor& y) {
  const auto limit = static_cast<float>(p);
  dispatch_floating(x.dtype(), [&]<class T>(Type<T>) {
    const T* in = x.data<T>();
    T* out = y.data<T>();
    const auto scale = p < 1 ? static_cast<acc_t<T>>(1 / (1 - p)) : acc_t<T>(0);
    for_words(y.numel(), at, [&](int64_t first, const uint32_t* w, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const auto v = static_cast<acc_t<T>>(in[first + i]);
        out[first + i] = T(to_uniform(w[i]) >= limit ? v * scale : acc_t<T>(0));
      }
    });
  });
}

}  // namespace weft::cpu
