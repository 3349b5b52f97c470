#include <weft/ops/philox.h>
#include <weft/ops/random.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

namespace {

__global__ void uniform_kernel(Data y, int64_t n, double low, double high, PhiloxAt random) {
  const Generator::State at = random.get();
  WEFT_GRID_LOOP(i, n) {
    if (y.dtype == DType::float64) {
      const double v = low + (high - low) * to_uniform(philox_word(at.seed, at.offset, 2 * i),
                                                       philox_word(at.seed, at.offset, 2 * i + 1));
      y.store(i, v < high ? v : low);
    } else {
      y.store(i, to_uniform(philox_word(at.seed, at.offset, i), static_cast<float>(low), static_cast<float>(high - low),
                            static_cast<float>(high), y.dtype));
    }
  }
}

__global__ void normal_kernel(Data y, int64_t n, double mean, double std, PhiloxAt random) {
  const Generator::State at = random.get();
  WEFT_GRID_LOOP(pair, (n + 1) / 2) {
    double a, b;
    to_normal(philox_word(at.seed, at.offset, 2 * pair), philox_word(at.seed, at.offset, 2 * pair + 1), a, b);
    y.store(2 * pair, mean + std * a);
    if (2 * pair + 1 < n) y.store(2 * pair + 1, mean + std * b);
  }
}

__global__ void randint_kernel(int64_t* y, int64_t n, int64_t low, uint64_t range, PhiloxAt random) {
  const Generator::State at = random.get();
  WEFT_GRID_LOOP(i, n) {
    const uint64_t word =
        (uint64_t{philox_word(at.seed, at.offset, 2 * i)} << 32) | philox_word(at.seed, at.offset, 2 * i + 1);
    y[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + word % range);
  }
}

__global__ void bernoulli_kernel(Data p, Data y, int64_t n, PhiloxAt random) {
  const Generator::State at = random.get();
  WEFT_GRID_LOOP(i, n) { y.store(i, to_uniform(philox_word(at.seed, at.offset, i)) < p.load<float>(i) ? 1.0f : 0.0f); }
}

template <class C>
__global__ void dropout_kernel(Data x, Data y, int64_t n, float p, C scale, PhiloxAt random) {
  const Generator::State at = random.get();
  WEFT_GRID_LOOP(i, n) {
    y.store(i, to_uniform(philox_word(at.seed, at.offset, i)) >= p ? x.load<C>(i) * scale : C(0));
  }
}

}  // namespace

void uniform(Tensor& y, double low, double high, Generator::State at) {
  DeviceScope scope(y);
  launch("uniform", y.numel(), uniform_kernel, data_of(y), y.numel(), low, high, philox_at(at));
}
void normal(Tensor& y, double mean, double std, Generator::State at) {
  DeviceScope scope(y);
  launch("normal", (y.numel() + 1) / 2, normal_kernel, data_of(y), y.numel(), mean, std, philox_at(at));
}
void randint(Tensor& y, int64_t low, int64_t high, Generator::State at) {
  DeviceScope scope(y);
  launch("randint", y.numel(), randint_kernel, y.data<int64_t>(), y.numel(), low,
         static_cast<uint64_t>(high) - static_cast<uint64_t>(low), philox_at(at));
}
void bernoulli(const Tensor& p, Tensor& y, Generator::State at) {
  DeviceScope scope(y);
  launch("bernoulli", y.numel(), bernoulli_kernel, data_of(p), data_of(y), y.numel(), philox_at(at));
}
void dropout(const Tensor& x, double p, Generator::State at, Tensor& y) {
  DeviceScope scope(y);
  dispatch_float(x.dtype(), [&]<class C>(Type<C>) {
    launch("dropout", y.numel(), dropout_kernel<C>, data_of(x), data_of(y), y.numel(), static_cast<float>(p),
           C(p < 1 ? 1 / (1 - p) : 0), philox_at(at));
  });
}

}  // namespace weft::cuda
