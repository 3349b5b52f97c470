// Transforms and long convolutions on a GPU against the CPU's in float64, around every length at which the path
// changes.
#include <doctest/doctest.h>
#include <weft/weft.h>

#ifdef WEFT_CUDA
#include <weft/cuda/graph.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "support/sample.h"

namespace {

using namespace weft;
using test::values;

bool has_gpu() {
  try {
    zeros({1}, {.device = Device::cuda()});
    return true;
  } catch (const Error&) {
    return false;
  }
}

// What the next results are written into, unless they are written in full.
void poison() { full({1 << 20}, std::nan(""), {.device = Device::cuda()}); }

double norm_of(const Tensor& x) {
  double sum = 0;
  for (double v : x.to_vector<double>()) sum += v * v;
  return std::sqrt(sum);
}
// ‖got - want‖ / max(‖want‖, least)
double error(const Tensor& got, const Tensor& want, double least = 0) {
  REQUIRE(got.shape() == want.shape());
  const auto x = got.cpu().to_vector<double>(), y = want.cpu().to_vector<double>();
  double diff = 0;
  for (size_t i = 0; i < x.size(); ++i) diff += (x[i] - y[i]) * (x[i] - y[i]);
  const double norm = std::max(norm_of(want), least);
  return norm > 0 ? std::sqrt(diff) / norm : std::sqrt(diff);
}
double bound(DType dtype) { return dtype == float64 ? 1e-13 : dtype == float32 ? 1e-6 : 1e-2; }

struct Case {
  int64_t b, h, n, taps, taps_rev;
  bool skip, gate;
  DType dtype = float32;
};
std::string text(const Case& c) {
  return concat(Shape{c.b, c.h, c.n}, " taps ", c.taps, " reversed ", c.taps_rev, c.skip ? " skip" : "",
                c.gate ? " gate " : " ", c.dtype);
}

// u, k, D, k_rev, gate and dy; float64 with the values of the case's dtype
Tensors inputs_of(const Case& c) {
  Tensors x = {values({c.b, c.h, c.n}, 1),
               values({c.h, c.taps}, 2),
               c.skip ? values({c.h}, 3) : Tensor(),
               c.taps_rev ? values({c.h, c.taps_rev}, 4) : Tensor(),
               c.gate ? values({c.b, c.h, c.n}, 5) : Tensor(),
               values({c.b, c.h, c.n}, 6)};
  for (Tensor& t : x)
    if (t.defined()) t = t.to(c.dtype).to(float64);
  return x;
}

// y and the gradients of all inputs that there are
Tensors run(const Tensors& given, DType dtype, Device device) {
  Tensors x, wanted;
  for (const Tensor& t : given) x.push_back(t.defined() ? t.to(dtype).to(device) : Tensor());
  for (size_t i = 0; i + 1 < x.size(); ++i)
    if (x[i].defined()) wanted.push_back(x[i].requires_grad_());
  if (device.is_cuda()) poison();
  const Tensor y = fft_conv(x[0], x[1], x[2], x[3], x[4]);
  if (device.is_cuda()) poison();
  Tensors out = grad({y}, wanted, {x[5]});
  out.insert(out.begin(), y.detach());
  return out;
}

void compare(const Case& c) {
  const Tensors x = inputs_of(c), got = run(x, c.dtype, Device::cuda()), want = run(x, float64, Device::cpu());
  // D's gradient is the one sum at lag 0, which may be small by chance: it is as exact as the sums at the other lags
  const double typical = norm_of(want[2]) / std::sqrt(static_cast<double>(std::min(c.n, c.taps)));
  for (size_t i = 0; i < got.size(); ++i) {
    const double e = error(got[i], want[i], c.skip && i == 3 ? typical : 0);
    CHECK_MESSAGE(e < bound(c.dtype), "fft_conv ", text(c), ": result ", i, " of ", got.size(), " is off by ", e);
  }
}

}  // namespace

TEST_CASE("cuda fft_conv: every length from 1 to 64, odd and even batches, short and long taps") {
  if (!has_gpu()) return;
  for (int64_t n = 1; n <= 64; ++n) {
    const int64_t taps = n % 3 == 0 ? n : n % 3 == 1 ? n + 5 : n / 2 + 1;
    compare({n % 9 + 1, 2, n, taps, n % 2 ? n % 7 + 1 : 0, n % 4 != 0, n % 5 == 0});
  }
}

TEST_CASE("cuda fft_conv: around every length at which the path changes") {
  if (!has_gpu()) return;
  int64_t i = 0;
  for (int64_t n : {127,  128,  129,  255,  256,  257,  511,  512,  513,  1000, 1023,  1024,  1025, 2047,
                    2048, 2049, 3001, 4095, 4096, 4097, 6007, 8191, 8192, 8193, 10007, 16384, 20011}) {
    compare({i % 3 + 1, 2, n, n, 0, true, false});
    compare({2, 1, n, i % 2 ? n + 1000 : n / 3 + 1, i % 3 ? n : n + 9000, false, true});
    ++i;
  }
}

TEST_CASE("cuda fft_conv: rows in 2, 4, 8, 16 and 32 parts, and beyond those") {
  if (!has_gpu()) return;
  for (int64_t n : {32768, 32769, 65000, 65537, 131072, 131073, 262144, 262145}) {
    compare({2, 1, n, n, 0, true, false});
    compare({1, 2, n, n + 1000, n + 100000, true, true});
  }
  compare({3, 210, 8200, 8200, 8200, true, true});  // several groups of channels
  compare({3, 2, 40000, 40000, 3, true, true, bfloat16});
}

TEST_CASE("cuda fft_conv: float64, bfloat16 and float16") {
  if (!has_gpu()) return;
  for (DType dtype : {float64, bfloat16, float16}) {
    for (int64_t n : {1, 33, 1000, 1024, 2500, 8192, 9001}) {
      compare({3, 2, n, n, 0, true, false, dtype});
      compare({2, 2, n, n / 2 + 1, n + 3, true, true, dtype});
    }
  }
}

TEST_CASE("cuda fft_conv: a batch cut into several chunks, summed in the same order every time") {
  if (!has_gpu()) return;
  for (const Case& c : {Case{9, 40, 700, 700, 700, true, false}, Case{67, 20, 300, 300, 0, true, true},
                        Case{5, 300, 1500, 1500, 0, false, false}, Case{40, 33, 9, 9, 9, true, false},
                        Case{600, 2, 64, 64, 0, false, false}}) {
    compare(c);
    const Tensors x = inputs_of(c), first = run(x, c.dtype, Device::cuda()), again = run(x, c.dtype, Device::cuda());
    for (size_t i = 0; i < first.size(); ++i) {
      INFO(text(c));
      CHECK(all(eq(first[i], again[i])).item<int64_t>() == 1);
    }
  }
}

TEST_CASE("cuda fft_conv: only the gradients that are wanted") {
  if (!has_gpu()) return;
  for (int64_t n : {50, 1500, 8200}) {
    const Tensors x = inputs_of({3, 2, n, n, n, true, true});
    const Tensors all = run(x, float32, Device::cuda());
    for (size_t wanted = 0; wanted < 5; ++wanted) {
      Tensors in;
      for (const Tensor& t : x) in.push_back(t.to(float32).to(Device::cuda()));
      in[wanted].requires_grad_();
      const Tensors g = grad({fft_conv(in[0], in[1], in[2], in[3], in[4])}, {in[wanted]}, {in[5]});
      INFO("n ", n, ", input ", wanted);
      CHECK(error(g[0], all[wanted + 1]) < 1e-6);
    }
  }
}

TEST_CASE("cuda rfft, irfft: any length, cropped, padded and scaled") {
  if (!has_gpu()) return;
  for (DType dtype : {float32, float64}) {
    for (int64_t n : {1, 2, 3, 7, 16, 45, 64, 97, 1000, 4096, 10007}) {
      for (int64_t length : {n, n + 1, n + 2, n / 2 + 1}) {
        for (FftNorm norm : {FftNorm::backward, FftNorm::ortho}) {
          INFO("n ", n, ", length ", length);
          const Tensor x = values({3, length}, 1).to(dtype), spectrum = values({3, length, 2}, 2).to(dtype);
          poison();
          CHECK(error(rfft(x.to(Device::cuda()), n, -1, norm), rfft(x.to(float64), n, -1, norm)) < bound(dtype));
          const Tensor kept = spectrum.to(Device::cuda());
          CHECK(error(irfft(kept, n, -1, norm), irfft(spectrum.to(float64), n, -1, norm)) < bound(dtype));
          CHECK(error(kept, spectrum) == 0);  // cuFFT's inverse overwrites what it is given
        }
      }
    }
  }
  // not on a complex number's boundary
  const Tensor x = values({1, 101}, 3).to(float32);
  CHECK(error(rfft(slice(x.to(Device::cuda()), 1, 1)), rfft(slice(x, 1, 1).to(float64))) < 1e-6);
}

TEST_CASE("cuda fft: a captured step gives what plain calls give") {
  if (!has_gpu()) return;
  for (int64_t n : {500, 3000, 9001}) {
    const Tensor u = values({3, 2, n}, 1).to(float32).to(Device::cuda());
    Tensor k = values({2, n}, 2).to(float32).to(Device::cuda());
    k.requires_grad_();
    Tensors got;
    auto work = [&] {
      const Tensor y = fft_conv(u, k);
      got = grad({y}, {k}, {irfft(rfft(u, n), n)});
      got.push_back(y.detach());
    };
    work();
    const Tensors want = got;
    cuda::Graph step(work);
    for (int i = 0; i < 5; ++i) step.run();
    CHECK(step.captured());
    for (size_t i = 0; i < want.size(); ++i) {
      INFO("n ", n, ", result ", i);
      CHECK(all(eq(got[i], want[i])).item<int64_t>() == 1);
    }
  }
}

TEST_CASE("cuda fft: plans come and go, work areas count as memory and are given back") {
  if (!has_gpu()) return;
  const Device gpu = Device::cuda();
  const Tensor x = values({64, 10007}, 1).to(float32).to(gpu);  // a prime: cuFFT needs a work area
  const Tensor before = rfft(x);
  const size_t in_use = memory_stats(gpu).in_use;
  reset_peak_memory(gpu);
  for (int64_t n = 10; n < 200; ++n) rfft(x, n);
  const Tensor again = rfft(x);
  CHECK(all(eq(before, again)).item<int64_t>() == 1);
  const MemoryStats stats = memory_stats(gpu);
  const size_t result = static_cast<size_t>(again.numel()) * sizeof(float);
  CHECK(stats.in_use - in_use < result + result / 4);
  CHECK(stats.peak - in_use > result + result / 2);
}
#endif
