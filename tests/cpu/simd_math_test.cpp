#include <doctest/doctest.h>
#include <weft/cpu/simd.h>
#include <weft/cpu/simd_math.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using namespace weft::cpu;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kFloatMin = std::numeric_limits<float>::min();

/// Every 4099th of all floats, NaN, infinities and denormals among them.
std::vector<float> all_kinds_of_floats() {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4099) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (const float special : {0.0f, -0.0f, 1.0f, -1.0f, kInf, -kInf}) x.push_back(special);
  return x;
}

/// |got - want| in units of the last place of a float near want; 0 where both are NaN or both the same infinity.
double ulps(float got, double want, bool flushes_denormals) {
  const float rounded = static_cast<float>(want);
  if (std::isnan(want)) return std::isnan(got) ? 0 : kInf;
  if (std::isinf(rounded))
    return got >= std::numeric_limits<float>::max() && !std::signbit(rounded) ? 0 : got != rounded;
  if (flushes_denormals && std::fabs(want) < kFloatMin) return std::fabs(got) <= kFloatMin ? 0 : kInf;
  int exponent = 0;
  std::frexp(want, &exponent);
  const double off = std::fabs(got - want) / std::ldexp(1.0, std::max(exponent - 24, -149));
  return std::isnan(off) ? kInf : off;
}

/// The largest error over all kinds of floats, computed in a loop as kernels have it.
template <class Loop, class F, class Reference>
double worst(Loop&& loop, F f, Reference reference, bool flushes_denormals = false) {
  static const std::vector<float> x = all_kinds_of_floats();
  std::vector<float> y(x.size());
  auto body = [&] {
    for (size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  };
  loop(body);
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], reference(static_cast<double>(x[i])), flushes_denormals);
    if (error > most) most = error;
  }
  return most;
}

template <class Loop>
void check_all(Loop&& loop) {
  CHECK(worst(
            loop, [](float x) { return vexp(x); }, [](double x) { return std::exp(x); }) < 1.0);
  CHECK(worst(
            loop, [](float x) { return vexpm1(x); }, [](double x) { return std::expm1(x); }) < 1.6);
  CHECK(worst(
            loop, [](float x) { return vlog(x); }, [](double x) { return std::log(x); }) < 0.9);
  CHECK(worst(
            loop, [](float x) { return vlog1p(x); }, [](double x) { return std::log1p(x); }) < 1.6);
  CHECK(worst(
            loop, [](float x) { return vtanh(x); }, [](double x) { return std::tanh(x); }) < 1.5);
  CHECK(worst(
            loop, [](float x) { return verf(x); }, [](double x) { return std::erf(x); }) < 2.0);
  CHECK(worst(
            loop, [](float x) { return vsigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }, true) < 2.5);
}

TEST_CASE("simd_math: errors over all kinds of floats, in plain code") {
  check_all([](auto& body) { body(); });
}

TEST_CASE("simd_math: errors over all kinds of floats, in the widest vectors") {
  check_all([](auto& body) { vectorized(body); });
}

#ifdef WEFT_X86_TARGETS
TEST_CASE("simd_math: errors over all kinds of floats, with AVX2") {
  if (detect_isa() != Isa::plain) {
    check_all([](auto& body) { weft::cpu::detail::run_avx2(body); });
  }
}
#endif

TEST_CASE("simd_math: limits and signs") {
  CHECK(vexp(-kInf) == 0);
  CHECK(vexp(kInf) == kInf);
  CHECK(vexp(0.0f) == 1);
  CHECK(vexp(-100.0f) > 0);  // denormal
  CHECK(vlog(0.0f) == -kInf);
  CHECK(vlog(-0.0f) == -kInf);
  CHECK(vlog(1.0f) == 0);
  CHECK(std::isnan(vlog(-1.0f)));
  CHECK(vlog1p(-1.0f) == -kInf);
  CHECK(std::isnan(vlog1p(-1.5f)));
  CHECK(vsigmoid(-kInf) == 0);
  CHECK(vsigmoid(kInf) == 1);
  CHECK(vsigmoid(0.0f) == 0.5f);
  CHECK(vtanh(-kInf) == -1);
  CHECK(verf(kInf) == 1);
  for (const auto f : {+[](float x) { return vtanh(x); }, +[](float x) { return verf(x); },
                       +[](float x) { return vexpm1(x); }, +[](float x) { return vlog1p(x); }}) {
    CHECK(f(0.0f) == 0);
    CHECK(std::signbit(f(-0.0f)));
    CHECK(std::isnan(f(std::nanf(""))));
  }
}

TEST_CASE("simd_math: the double versions") {
  CHECK(vexp(0.3) == std::exp(0.3));
  CHECK(vexpm1(1e-9) == std::expm1(1e-9));
  CHECK(vlog(0.3) == std::log(0.3));
  CHECK(vlog1p(1e-9) == std::log1p(1e-9));
  CHECK(vtanh(0.3) == std::tanh(0.3));
  CHECK(verf(0.3) == std::erf(0.3));
  CHECK(vsigmoid(0.3) == doctest::Approx(1 / (1 + std::exp(-0.3))).epsilon(1e-15));
  CHECK(vsigmoid(-800.0) == 0);
}

TEST_CASE("vectorized: runs its body once and lets exceptions through") {
  int runs = 0;
  vectorized([&] { ++runs; });
  CHECK(runs == 1);
  CHECK_THROWS_AS(vectorized([] { throw 1; }), int);
}

}  // namespace
