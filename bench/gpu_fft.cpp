// Long convolutions by FFT.
#include "gpu.h"

#include <cmath>

namespace weft::bench::gpu {

namespace {

// The least a step can do. Transforms of n complex numbers, 5·n·log2(n) operations each: forward 2 a row; backward 3;
// 3 a channel. Memory: u and y forwards; u, dy and du backwards; k twice and dk.
void add_case(int64_t b, int64_t h, int64_t n, DType dtype, bool backward) {
  const double points = std::exp2(std::ceil(std::log2(static_cast<double>(n)))), rows = static_cast<double>(b * h),
               channels = static_cast<double>(h), size = static_cast<double>(n) * static_cast<double>(size_of(dtype));
  const double transforms = backward ? 5 * rows + 3 * channels : 2 * rows + channels;
  const double bytes = size * (backward ? 5 * rows + 3 * channels : 2 * rows + channels);
  const std::string name = "fft_conv/" + std::to_string(b) + "x" + std::to_string(h) + "x" + std::to_string(n) + "/" +
                           (dtype == float32 ? "fp32" : "bf16") + (backward ? "/step" : "/fwd");
  add(
      name,
      [=]() -> Step {
        const TensorOptions on = {.dtype = dtype, .device = Device::cuda()};
        const Tensor u = randn({b, h, n}, on), k = randn({h, n}, on) * 0.01, d = randn({h}, on);
        auto f = [](const Tensors& x) { return fft_conv(x[0], x[1], x[2]); };
        if (backward) return forward_backward(f, {u, k.detach(), d});
        return [=] {
          NoGrad guard;
          f({u, k, d});
        };
      },
      transforms * 5 * points * std::log2(points), bytes);
}

}  // namespace

void add_fft_cases() {
  for (DType dtype : {float32, bfloat16}) {
    for (bool backward : {false, true}) {
      add_case(8, 768, 8192, dtype, backward);
      add_case(64, 768, 1024, dtype, backward);
    }
  }
  add_case(8, 768, 4096, float32, true);
  add_case(2, 768, 32768, float32, true);
}

}  // namespace weft::bench::gpu
