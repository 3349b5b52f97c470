#include <doctest/doctest.h>
#include <weft/cpu/fft.h>
#include <weft/cpu/fft_kernels.h>
#include <weft/tensor/parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace cpu = weft::cpu;
using cpu::fft::Kernels;
using Real = long double;

template <class T>
std::vector<T> normal(int64_t count, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> draw;
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) x = static_cast<T>(draw(bits));
  return v;
}
template <class T>
std::vector<T> unset(size_t count) {
  return std::vector<T>(count, std::numeric_limits<T>::quiet_NaN());
}

/// ‖x - want‖ / ‖want‖; NaN if there is one anywhere.
template <class A, class B>
double error(const std::vector<A>& x, const std::vector<B>& want) {
  Real diff = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    diff += (x[i] - want[i]) * (x[i] - want[i]);
    norm += static_cast<Real>(want[i]) * want[i];
  }
  return static_cast<double>(norm > 0 ? std::sqrt(diff / norm) : std::sqrt(diff));
}

template <class T>
constexpr double limit = sizeof(T) == 4 ? 5e-7 : 1e-14;

/// Sums of the definition, for the bins given.
template <class T>
std::vector<Real> naive_rfft(const T* x, int64_t n, const std::vector<int64_t>& bins) {
  std::vector<Real> c(static_cast<size_t>(n)), s(c), out;
  for (int64_t j = 0; j < n; ++j) {
    const Real angle = 2 * std::numbers::pi_v<Real> * static_cast<Real>(j) / static_cast<Real>(n);
    c[static_cast<size_t>(j)] = std::cos(angle);
    s[static_cast<size_t>(j)] = std::sin(angle);
  }
  for (int64_t k : bins) {
    Real re = 0, im = 0;
    for (int64_t j = 0; j < n; ++j) {
      const auto turn = static_cast<size_t>(j * k % n);
      re += x[j] * c[turn];
      im -= x[j] * s[turn];
    }
    out.insert(out.end(), {re, im});
  }
  return out;
}

template <class T>
void check_length(const Kernels<T>& set, int64_t n) {
  INFO(set.name << ", " << 8 * sizeof(T) << " bits, n = " << n);
  const int64_t rows = 2 * set.width + 3, bins = n / 2 + 1;  // a full group of rows and a partial one
  auto plan = cpu::fft::make_real_plan<T>(n, set.width);
  if (plan.kind == cpu::fft::RealPlan<T>::chirp) set.fill_filter(plan.bluestein);

  const auto x = normal<T>(rows * n, static_cast<unsigned>(n));
  auto spec = unset<T>(static_cast<size_t>(rows * bins * 2)), back = unset<T>(x.size());
  set.rfft(plan, {x.data(), n, n, spec.data(), T(1)}, 0, rows);
  std::vector<int64_t> some;
  for (int64_t k = 0; k < bins; k += 1 + bins / 200) some.push_back(k);
  for (int64_t r : {int64_t{0}, rows / 2, rows - 1}) {
    std::vector<T> got;
    for (int64_t k : some) {
      const T* at = spec.data() + (r * bins + k) * 2;
      got.insert(got.end(), {at[0], at[1]});
    }
    CHECK(error(got, naive_rfft(x.data() + r * n, n, some)) < limit<T>);
  }
  // what the inverse must ignore
  for (int64_t r = 0; r < rows; ++r) {
    spec[static_cast<size_t>(r * bins * 2 + 1)] = T(7);
    if (n % 2 == 0) spec[static_cast<size_t>((r + 1) * bins * 2 - 1)] = T(-5);
  }
  set.irfft(plan, {spec.data(), bins, 2 * bins, back.data(), T(1) / static_cast<T>(n)}, 0, rows);
  CHECK(error(back, x) < limit<T>);
}

template <class T>
void check_lengths() {
  const Kernels<T>* sets[3];
  const int count = cpu::fft::kernel_sets(sets);
  REQUIRE(count >= 1);
  for (int i = 0; i < count; ++i) {
    for (int64_t n = 1; n <= 70; ++n) check_length(*sets[i], n);
    for (int64_t n :
         {77, 91, 121, 127, 128, 143, 169, 210, 256, 512, 1000, 1021, 1280, 2042, 3072, 4096, 4099, 10007}) {
      check_length(*sets[i], n);
    }
    check_length(*sets[i], 40000);
    check_length(*sets[i], 65536);
  }
}

template <class T>
struct ConvolutionCase {
  int64_t batch, channels, n, taps, taps_rev;
  bool skip;
  std::vector<T> u, k, k_rev, d, dy;

  cpu::LongConvolution<T> call() const {
    return {batch,
            channels,
            n,
            u.data(),
            taps ? k.data() : nullptr,
            taps,
            taps_rev ? k_rev.data() : nullptr,
            taps_rev,
            skip ? d.data() : nullptr};
  }
};
template <class T>
ConvolutionCase<T> convolution_case(int64_t n, int64_t taps, int64_t taps_rev, bool skip) {
  const int64_t batch = 3, channels = 2;
  const auto seed = static_cast<unsigned>(n * 100 + taps);
  return {batch,
          channels,
          n,
          taps,
          taps_rev,
          skip,
          normal<T>(batch * channels * n, seed),
          normal<T>(channels * taps, seed + 1),
          normal<T>(channels * taps_rev, seed + 2),
          normal<T>(channels, seed + 3),
          normal<T>(batch * channels * n, seed + 4)};
}

/// y and the gradients by the definition. The scale of dd's error is that of the sum it is: Σ |dy·u|.
template <class T>
struct NaiveConvolution {
  std::vector<Real> y, du, dk, dk_rev, dd;

  explicit NaiveConvolution(const ConvolutionCase<T>& c)
      : y(c.u.size()), du(c.u.size()), dk(c.k.size()), dk_rev(c.k_rev.size()), dd(c.d.size()) {
    for (int64_t row = 0; row < c.batch * c.channels; ++row) {
      const int64_t h = row % c.channels;
      for (int64_t t = 0; t < c.n; ++t) {
        for (int64_t j = 0; j <= t && j < c.taps; ++j)
          tap(c, c.k, dk, h * c.taps + j, row * c.n + t, row * c.n + t - j);
        for (int64_t j = 0; j < c.taps_rev && t + 1 + j < c.n; ++j) {
          tap(c, c.k_rev, dk_rev, h * c.taps_rev + j, row * c.n + t, row * c.n + t + 1 + j);
        }
        if (c.skip) tap(c, c.d, dd, h, row * c.n + t, row * c.n + t);
      }
    }
  }
  void tap(const ConvolutionCase<T>& c, const std::vector<T>& k, std::vector<Real>& dk_out, int64_t tap, int64_t to,
           int64_t from) {
    const auto at = static_cast<size_t>(tap), t = static_cast<size_t>(to), f = static_cast<size_t>(from);
    y[t] += static_cast<Real>(k[at]) * c.u[f];
    du[f] += static_cast<Real>(k[at]) * c.dy[t];
    dk_out[at] += static_cast<Real>(c.dy[t]) * c.u[f];
  }
};

template <class T>
void check_convolution(const Kernels<T>* set, const ConvolutionCase<T>& c) {
  INFO((set ? set->name : "public") << ", " << 8 * sizeof(T) << " bits, n = " << c.n << ", taps " << c.taps << " + "
                                    << c.taps_rev << (c.skip ? ", skip" : ""));
  auto y = unset<T>(c.u.size()), du = y, dk = unset<T>(c.k.size()), dk_rev = unset<T>(c.k_rev.size()),
       dd = unset<T>(c.d.size());
  T *to_dk = c.taps ? dk.data() : nullptr, *to_rev = c.taps_rev ? dk_rev.data() : nullptr,
    *to_dd = c.skip ? dd.data() : nullptr;
  if (set) {
    const auto plan = cpu::fft::make_row_plan<T>(cpu::fft::cheap_length(c.n, set->width), set->width, true, false);
    const auto call = c.call();
    const cpu::fft::ConvolveJob<T> job{call.u, call.k, call.k_rev, call.d,     c.dy.data(), y.data(), du.data(), to_dk,
                                       to_rev, to_dd,  c.batch,    c.channels, c.n,         c.taps,   c.taps_rev};
    set->convolve(plan, job, 0, c.channels);
    set->convolve_backward(plan, job, 0, c.channels);
  } else {
    cpu::convolve_rows(c.call(), y.data());
    cpu::convolve_rows_backward(c.call(), c.dy.data(), du.data(), to_dk, to_rev, to_dd);
  }
  const NaiveConvolution<T> want(c);
  CHECK(error(y, want.y) < limit<T>);
  CHECK(error(du, want.du) < limit<T>);
  // a gradient of few taps is a few long sums, which may come out near zero: room for that
  if (c.taps) CHECK(error(dk, want.dk) < 10 * limit<T>);
  if (c.taps_rev) CHECK(error(dk_rev, want.dk_rev) < 10 * limit<T>);
  if (c.skip) CHECK(error(dd, want.dd) < 10 * limit<T>);
}

template <class T>
void check_convolutions() {
  const Kernels<T>* sets[3];
  const int count = cpu::fft::kernel_sets(sets);
  for (int64_t n : {1, 2, 3, 16, 31, 100, 256, 300, 700}) {
    for (int64_t taps : {n, n / 2, n + 5, int64_t{0}}) {
      for (int64_t taps_rev : {int64_t{0}, n, n / 3}) {
        if (taps + taps_rev == 0) continue;
        const auto c = convolution_case<T>(n, taps, taps_rev, taps_rev != n);
        for (int i = 0; i < count; ++i) check_convolution(sets[i], c);
        check_convolution<T>(nullptr, c);
      }
    }
  }
  check_convolution<T>(nullptr, convolution_case<T>(2100, 2100, 64, true));
}

}  // namespace

TEST_CASE("fft: every length agrees with the definition, on every instruction set") {
  check_lengths<float>();
  check_lengths<double>();
}

TEST_CASE("fft: long convolutions and their gradients agree with the definition") {
  check_convolutions<float>();
  check_convolutions<double>();
}

TEST_CASE("fft: rows are cropped and zero-padded, strides skip, the scale multiplies") {
  for (int64_t n : {12, 512, 31, 62}) {
    for (int64_t length : {n - 5, n, n + 9}) {
      CAPTURE(n);
      CAPTURE(length);
      const int64_t rows = 5, stride = length + 3, bins = n / 2 + 1;
      const auto x = normal<double>(rows * stride, 3);
      auto got = unset<double>(static_cast<size_t>(rows * bins * 2));
      cpu::rfft_rows(x.data(), rows, length, stride, n, 0.5, got.data());
      std::vector<double> want;
      std::vector<int64_t> all;
      for (int64_t k = 0; k < bins; ++k) all.push_back(k);
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<double> row(static_cast<size_t>(n));
        for (int64_t j = 0; j < std::min(n, length); ++j)
          row[static_cast<size_t>(j)] = x[static_cast<size_t>(r * stride + j)];
        for (Real v : naive_rfft(row.data(), n, all)) want.push_back(static_cast<double>(v / 2));
      }
      CHECK(error(got, want) < 1e-14);

      // the inverse of a cropped or padded half spectrum is that of the full one
      const int64_t given = length / 2 + 1, gap = 2 * given + 4;
      const auto spec = normal<double>(rows * gap, 4);
      std::vector<double> padded(static_cast<size_t>(rows * bins * 2));
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t k = 0; k < 2 * std::min(given, bins); ++k) {
          padded[static_cast<size_t>(r * bins * 2 + k)] = spec[static_cast<size_t>(r * gap + k)];
        }
      }
      auto a = unset<double>(static_cast<size_t>(rows * n)), b = a;
      cpu::irfft_rows(spec.data(), rows, given, gap, n, 1.0, a.data());
      cpu::irfft_rows(padded.data(), rows, bins, 2 * bins, n, 1.0, b.data());
      CHECK(a == b);
    }
  }
}

TEST_CASE("fft: the same bits for any number of threads") {
  const auto x = normal<float>(200 * 1000, 1);
  const auto c = convolution_case<float>(3000, 3000, 3000, true);
  std::vector<float> first, first_y;
  for (int threads : {1, 2, 3}) {
    weft::set_num_threads(threads);
    std::vector<float> out(200 * 501 * 2), y(c.u.size());
    cpu::rfft_rows(x.data(), 200, 1000, 1000, 1000, 1.0, out.data());
    cpu::convolve_rows(c.call(), y.data());
    if (first.empty()) first = out, first_y = y;
    CHECK(out == first);
    CHECK(y == first_y);
  }
  weft::set_num_threads(0);
}

TEST_CASE("fft: plans are shared by many threads and dropped when there are too many") {
  std::vector<std::thread> threads;
  std::vector<int> bad(4);
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&bad, t] {
      for (int64_t n = 1; n <= 90; ++n) {
        const auto x = normal<double>(n, static_cast<unsigned>(n));
        std::vector<double> spec(static_cast<size_t>(n / 2 * 2 + 2)), back(x.size());
        cpu::rfft_rows(x.data(), 1, n, n, n, 1.0, spec.data());
        cpu::irfft_rows(spec.data(), 1, n / 2 + 1, n / 2 * 2 + 2, n, 1.0 / static_cast<double>(n), back.data());
        bad[t] += !(error(back, x) < 1e-14);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(bad == std::vector<int>(4));
}

TEST_CASE("fft: empty batches; gradients of no rows are zero") {
  cpu::rfft_rows<float>(nullptr, 0, 8, 8, 8, 1.0, nullptr);
  const std::vector<float> k(6, 1.0f);
  std::vector<float> dk(6, 9.0f), dd(2, 9.0f);
  const cpu::LongConvolution<float> c{0, 2, 5, nullptr, k.data(), 3, nullptr, 0, nullptr};
  cpu::convolve_rows<float>(c, nullptr);
  cpu::convolve_rows_backward<float>(c, nullptr, nullptr, dk.data(), nullptr, dd.data());
  CHECK(dk == std::vector<float>(6));
  CHECK(dd == std::vector<float>(2));
}
