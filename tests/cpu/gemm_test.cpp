#include <doctest/doctest.h>
#include <weft/cpu/gemm.h>
#include <weft/cpu/gemm_kernels.h>
#include <weft/tensor/parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using weft::cpu::gemm;
using weft::cpu::gemm_serial;

struct Case {
  int64_t m, n, k;
  bool trans_a, trans_b;
  double alpha, beta;
  int64_t gap;  // elements between two rows that belong to neither

  std::string text() const {
    return std::to_string(m) + "×" + std::to_string(n) + "×" + std::to_string(k) + (trans_a ? " t" : " n") +
           (trans_b ? "t" : "n") + " alpha " + std::to_string(alpha) + " beta " + std::to_string(beta) + " gap " +
           std::to_string(gap);
  }
};

/// A stored matrix; what lies between its rows is NaN, so that a read of it shows.
template <class T>
struct Matrix {
  int64_t rows, cols, ld;
  std::vector<T> data;

  Matrix(int64_t rows, int64_t cols, int64_t gap, unsigned seed) : rows(rows), cols(cols), ld(cols + gap) {
    std::mt19937 bits(seed);
    std::uniform_real_distribution<double> draw(-1, 1);
    // The last row ends where the memory ends: a read past it is an error that a sanitizer sees.
    data.assign(static_cast<size_t>(std::max<int64_t>(0, rows * ld - gap)), std::numeric_limits<T>::quiet_NaN());
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) at(i, j) = static_cast<T>(draw(bits));
    }
  }
  T& at(int64_t i, int64_t j) { return data[static_cast<size_t>(i * ld + j)]; }
  double get(int64_t i, int64_t j, bool trans) { return trans ? at(j, i) : at(i, j); }
};

template <class T>
struct Operands {
  Matrix<T> a, b, c;
  explicit Operands(const Case& x)
      : a(x.trans_a ? x.k : x.m, x.trans_a ? x.m : x.k, x.gap, 1),
        b(x.trans_b ? x.n : x.k, x.trans_b ? x.k : x.n, x.gap, 2),
        c(x.m, x.n, x.gap, 3) {}
};

template <class T, class F>
void apply(F&& product, const Case& x, Operands<T>& o) {
  product(x.trans_a, x.trans_b, x.m, x.n, x.k, static_cast<T>(x.alpha), o.a.data.data(), o.a.ld, o.b.data.data(),
          o.b.ld, static_cast<T>(x.beta), o.c.data.data(), o.c.ld);
}

/// The triple loop in double precision, and the error relative to the sizes of the terms.
template <class T>
double error(const Case& x, Operands<T>& before, Operands<T>& after) {
  double worst = 0;
  for (int64_t i = 0; i < x.m; ++i) {
    for (int64_t j = 0; j < x.n; ++j) {
      double sum = 0, size = 1e-30;
      for (int64_t p = 0; p < x.k; ++p) {
        const double term = before.a.get(i, p, x.trans_a) * before.b.get(p, j, x.trans_b);
        sum += term;
        size += std::abs(term);
      }
      sum *= x.alpha, size *= std::abs(x.alpha);
      if (x.beta != 0) sum += x.beta * before.c.at(i, j), size += std::abs(x.beta * before.c.at(i, j));
      const double off = std::abs(after.c.at(i, j) - sum) / (size + 1e-300);
      worst = off <= worst ? worst : off;  // takes NaN
      if (std::isnan(off)) return off;
    }
  }
  return worst;
}

template <class T>
bool gaps_untouched(const Case& x, Operands<T>& o) {
  for (int64_t i = 0; i + 1 < x.m; ++i) {
    for (int64_t j = x.n; j < o.c.ld; ++j) {
      if (!std::isnan(o.c.at(i, j))) return false;
    }
  }
  return true;
}

template <class T>
bool same_bits(const Matrix<T>& x, const Matrix<T>& y) {
  return x.data.size() == y.data.size() && std::memcmp(x.data.data(), y.data.data(), x.data.size() * sizeof(T)) == 0;
}

std::vector<Case> cases() {
  const std::vector<std::vector<int64_t>> sizes = {
      {1, 1, 1},     {1, 1, 37},    {2, 3, 4},     {4, 4, 64},     {5, 7, 3},      {1, 33, 17},    {3, 100, 129},
      {4, 65, 300},  {100, 1, 65},  {100, 3, 64},  {1, 513, 511},  {12, 32, 16},   {13, 33, 17},   {16, 64, 64},
      {24, 96, 600}, {64, 64, 64},  {65, 63, 257}, {96, 256, 256}, {97, 257, 259}, {128, 128, 1},  {150, 70, 1030},
      {300, 40, 90}, {7, 1000, 70}, {300, 4, 131}, {531, 1, 90},   {520, 40, 70},  {1000, 7, 700}, {8, 48, 512}};
  std::vector<Case> all;
  for (const auto& s : sizes) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        all.push_back({s[0], s[1], s[2], ta, tb, 1, 0, 0});
        all.push_back({s[0], s[1], s[2], ta, tb, -0.5, 1, 3});
        all.push_back({s[0], s[1], s[2], ta, tb, 2, 0.25, 1});
      }
    }
  }
  return all;
}

TEST_CASE_TEMPLATE("gemm: against the triple loop in double", T, float, double) {
  for (const Case& x : cases()) {
    CAPTURE(x.text());
    Operands<T> before(x), after(x);
    if (x.beta == 0) std::fill(after.c.data.begin(), after.c.data.end(), std::numeric_limits<T>::quiet_NaN());
    apply<T>(gemm<T>, x, after);
    CHECK(error(x, before, after) < 16 * std::numeric_limits<T>::epsilon());
    CHECK(gaps_untouched(x, after));
  }
}

TEST_CASE_TEMPLATE("gemm: same bits for any number of threads, and in gemm_serial", T, float, double) {
  for (const Case& x : {Case{300, 500, 700, false, true, 1, 0, 0}, Case{513, 257, 129, true, false, 1, 1, 0},
                        Case{1, 4000, 400, false, true, 1, 0, 0}, Case{2, 4000, 400, false, false, 1, 0, 0},
                        Case{128, 128, 128, false, false, 1, 0, 2}, Case{600, 300, 300, false, false, 1, 0, 2},
                        Case{3000, 3, 400, true, false, 1, 0, 1}, Case{200, 30, 6000, true, false, 1, 0, 0},
                        Case{4000, 2, 300, false, true, 1, 0, 0}}) {
    CAPTURE(x.text());
    Operands<T> serial(x);
    apply<T>(gemm_serial<T>, x, serial);
    for (const int threads : {1, 2, 3, 8}) {
      CAPTURE(threads);
      weft::set_num_threads(threads);
      Operands<T> threaded(x);
      apply<T>(gemm<T>, x, threaded);
      CHECK(same_bits(serial.c, threaded.c));
    }
    weft::set_num_threads(0);
  }
}

TEST_CASE("gemm: a large product with a depth and sizes that are cut into blocks") {
  for (const Case& x : {Case{40, 9000, 300, false, true, 1, 0, 0}, Case{40, 50, 30000, true, false, 1, 0.5, 0}}) {
    CAPTURE(x.text());
    Operands<float> before(x), after(x);
    apply<float>(gemm<float>, x, after);
    CHECK(error(x, before, after) < 16 * std::numeric_limits<float>::epsilon());
  }
}

TEST_CASE_TEMPLATE("gemm: empty sums and empty results", T, float, double) {
  std::vector<T> c = {1, 2, std::numeric_limits<T>::quiet_NaN(), 4};
  gemm<T>(false, false, 0, 2, 2, 1, nullptr, 2, nullptr, 2, 0, nullptr, 2);
  gemm<T>(false, false, 2, 0, 2, 1, nullptr, 2, nullptr, 2, 0, nullptr, 2);
  gemm<T>(false, false, 1, 2, 0, 1, nullptr, 2, nullptr, 2, 2, c.data(), 2);
  CHECK(c[0] == 2);
  CHECK(c[1] == 4);
  gemm<T>(false, false, 1, 2, 5, 0, nullptr, 5, nullptr, 2, 0, c.data() + 2, 2);
  CHECK(c[2] == 0);
  CHECK(c[3] == 0);
}

TEST_CASE("gemm: infinities and NaN of the operands arrive in C, and do not spread to other elements") {
  const float inf = std::numeric_limits<float>::infinity();
  for (const int64_t m : {2, 9, 70}) {
    const Case x{m, 70, 70, false, true, 1, 0, 0};
    Operands<float> o(x);
    o.a.at(1, 69) = inf;
    o.b.at(69, 3) = std::nanf("");
    apply<float>(gemm<float>, x, o);
    CHECK(std::isinf(o.c.at(1, 0)));
    CHECK(std::isfinite(o.c.at(0, 0)));
    CHECK(std::isnan(o.c.at(0, 69)));
    CHECK(std::isfinite(o.c.at(0, 68)));
  }
}

/// Every instruction set that this machine runs, not only the one that gemm picks.
TEST_CASE_TEMPLATE("gemm kernels: each set packs and multiplies", T, float, double) {
  const weft::cpu::GemmKernels<T>* sets[3];
  const char* names[3];
  const int count = weft::cpu::gemm_kernel_sets<T>(sets, names);
  REQUIRE(count >= 1);
  for (int s = 0; s < count; ++s) {
    const weft::cpu::GemmKernels<T>& kernels = *sets[s];
    for (int64_t rows = 1; rows <= kernels.mr; ++rows) {
      for (const int64_t cols : {int64_t{1}, kernels.nr / 2, kernels.nr / 2 + 1, kernels.nr}) {
        for (const bool trans : {false, true}) {
          const Case x{rows, cols, 43, trans, trans, 1.5, 0.5, 0};
          CAPTURE(names[s]);
          CAPTURE(x.text());
          Operands<T> before(x), packed(x), direct(x);
          std::vector<T> a(static_cast<size_t>(kernels.mr * x.k + 16)), b(static_cast<size_t>(kernels.nr * x.k + 16));
          kernels.pack_a(trans, before.a.data.data(), before.a.ld, rows, x.k, a.data());
          kernels.pack_b(trans, before.b.data.data(), before.b.ld, x.k, cols, b.data());
          kernels.tile(rows, cols, x.k, {a.data(), 1, kernels.mr}, b.data(), kernels.nr,
                       {packed.c.data.data(), packed.c.ld, T(1.5), T(0.5)});
          CHECK(error(x, before, packed) < 16 * std::numeric_limits<T>::epsilon());
          const int64_t row = trans ? 1 : before.a.ld, col = trans ? before.a.ld : 1;
          kernels.tile(rows, cols, x.k, {before.a.data.data(), row, col}, b.data(), kernels.nr,
                       {direct.c.data.data(), direct.c.ld, T(1.5), T(0.5)});
          CHECK(same_bits(packed.c, direct.c));
        }
      }
    }
    for (int64_t rows = 1; rows <= 4; ++rows) {
      const Case x{rows, 21, 45, false, true, 1.5, 0.5, 2};
      CAPTURE(x.text());
      Operands<T> before(x), after(x);
      kernels.dots(rows, x.n, x.k, before.a.data.data(), before.a.ld, before.b.data.data(), before.b.ld, T(1.5), T(0.5),
                   after.c.data.data(), after.c.ld, 1);
      CHECK(error(x, before, after) < 16 * std::numeric_limits<T>::epsilon());
    }
  }
}

}  // namespace
