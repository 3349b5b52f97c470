#include <weft/cpu/fft_plan.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace weft::cpu::fft {
namespace {

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

template <class T>
void put(T* re, T* im, std::complex<double> value) {
  *re = static_cast<T>(value.real());
  *im = static_cast<T>(value.imag());
}

// The root's twiddle as a fraction of a turn in quarters: 0 for the DFT, -1 for the right-angle convolution.
int64_t root_quarters(bool right_angle) { return right_angle ? -1 : 0; }

}  // namespace

std::complex<double> unit_root(int64_t num, int64_t den) {
  num %= den;
  if (num < 0) num += den;
  // eighths of a turn: the angle is octant·45° + rest, with the rest measured towards the nearer axis
  const int64_t octant = 8 * num / den;
  const int64_t quarter = (octant + 1) / 2;
  const int64_t rest = 4 * num - quarter * den;  // in units of a quarter turn / den; |rest| <= den / 2
  const double angle = std::numbers::pi / 2 * static_cast<double>(rest) / static_cast<double>(den);
  const double c = std::cos(angle), s = std::sin(angle);
  switch (quarter % 4) {
    case 0:
      return {c, s};
    case 1:
      return {-s, c};
    case 2:
      return {-c, -s};
    default:
      return {s, -c};
  }
}

Factors factorise(int64_t n) {
  Factors f;
  for (int r : {13, 11, 7, 5, 3}) {
    for (; n % r == 0; n /= r) f.radix.push_back(r);
  }
  int twos = 0;
  for (; n % 2 == 0; n /= 2) ++twos;
  if (twos % 2) f.radix.push_back(2);
  for (; twos >= 2; twos -= 2) f.radix.push_back(4);
  f.ok = n == 1;
  return f;
}

// A node at a level of `nodes` blocks stands for z^span = e^(2πi (q/4 - k)/nodes), q the root's quarters and k the
// frequency its output starts from; its child j has k + nodes·j.
template <class T>
Tree<T> make_tree(int64_t rows, bool right_angle) {
  Tree<T> t;
  t.rows = rows;
  t.radix = factorise(rows).radix;
  const size_t levels = t.radix.size();
  t.span.push_back(rows);
  int64_t size = 0, nodes = 1;
  for (int r : t.radix) {
    t.span.push_back(t.span.back() / r);
    size += nodes * (r - 1) * 2;
    nodes *= r;
  }
  t.table = Buffer<T>(size);
  t.order = {0};
  T* out = t.table.data();
  nodes = 1;
  for (size_t l = 0; l < levels; ++l) {
    const int r = t.radix[l];
    t.twiddles.push_back(out);
    std::vector<int32_t> next(static_cast<size_t>(nodes * r));
    for (int64_t b = 0; b < nodes; ++b) {
      const int64_t k = t.order[static_cast<size_t>(b)];
      for (int p = 1; p < r; ++p, out += 2) {
        put(out, out + 1, unit_root((root_quarters(right_angle) - 4 * k) * p, 4 * nodes * r));
      }
      for (int j = 0; j < r; ++j) next[static_cast<size_t>(b * r + j)] = static_cast<int32_t>(k + nodes * j);
    }
    t.order = std::move(next);
    nodes *= r;
  }
  t.place.resize(t.order.size());
  for (size_t p = 0; p < t.order.size(); ++p) t.place[static_cast<size_t>(t.order[p])] = static_cast<int32_t>(p);
  return t;
}

template <class T>
RowPlan<T> make_row_plan(int64_t n, int64_t width, bool right_angle, bool natural) {
  RowPlan<T> plan;
  plan.n = n;
  plan.width = width;
  plan.natural = natural;
  const int64_t rows = n / width, q = root_quarters(right_angle);
  plan.tree = make_tree<T>(rows, right_angle);
  plan.leaf = Buffer<T>(rows * (width - 1) * 2);
  const Factors leaf = factorise(width);  // {4, 4}, {2, 4}, {4} or {2}
  T* out = plan.leaf.data();
  for (int64_t g = 0; g < rows / width; ++g) {
    int64_t nodes = 1;
    std::vector<int64_t> order = {0};  // frequencies within the leaf
    for (int r : leaf.radix) {
      std::vector<int64_t> next;
      for (int64_t k : order) {
        for (int p = 1; p < r; ++p, out += 2 * width) {
          for (int64_t lane = 0; lane < width; ++lane) {
            const int64_t row = g * width + lane;
            const int64_t k2 = natural ? row : plan.tree.order[static_cast<size_t>(row)];
            put(out + lane, out + width + lane, unit_root((q - 4 * (k2 + rows * k)) * p, 4 * rows * nodes * r));
          }
        }
        for (int j = 0; j < r; ++j) next.push_back(k + nodes * j);
      }
      order = std::move(next);
      nodes *= r;
    }
  }
  return plan;
}

template <class T>
ChirpPlan<T> make_chirp_plan(int64_t n, int64_t width) {
  ChirpPlan<T> plan;
  plan.n = n;
  plan.m = cheap_length(2 * n - 1, width);
  plan.row = make_row_plan<T>(plan.m, width, false, false);
  const int64_t padded = round_up(n, width);
  plan.chirp = Buffer<T>(2 * padded);
  std::fill_n(plan.chirp.data(), 2 * padded, T(0));
  for (int64_t j = 0; j < n; ++j) {
    const auto square = static_cast<int64_t>(static_cast<__int128>(j) * j % (2 * n));
    put(plan.chirp.data() + j, plan.chirp.data() + padded + j, unit_root(-square, 2 * n));
  }
  plan.filter = Buffer<T>(2 * plan.m);
  return plan;
}

template <class T>
RealPlan<T> make_real_plan(int64_t n, int64_t width) {
  RealPlan<T> plan;
  plan.n = n;
  plan.length = n % 2 ? n : n / 2;
  const Factors factors = factorise(plan.length);
  constexpr int64_t longest_across = 1 << 14;  // beyond it, a vector of rows no longer fits the second-level cache
  if (factors.ok && plan.length % (width * width) == 0 && (factors.radix.empty() || factors.radix[0] <= 5)) {
    plan.kind = RealPlan<T>::in_row;
    plan.row = make_row_plan<T>(plan.length, width, false, true);
  } else if (factors.ok && plan.length <= longest_across) {
    plan.kind = RealPlan<T>::across_rows;
    plan.tree = make_tree<T>(plan.length, false);
  } else {
    plan.kind = RealPlan<T>::chirp;
    plan.bluestein = make_chirp_plan<T>(plan.length, width);
  }
  if (n % 2 == 0) {
    const int64_t padded = round_up(plan.length + 1, width);
    plan.split = Buffer<T>(2 * padded);
    for (int64_t k = 0; k < padded; ++k) {
      put(plan.split.data() + k, plan.split.data() + padded + k, unit_root(-k, n));
    }
  }
  return plan;
}

int64_t cheap_length(int64_t n, int64_t width) {
  int64_t best = INT64_MAX;
  for (int64_t odd : {1, 3, 5, 9, 15}) {
    int64_t length = odd * width * width;
    while (length < n) length *= 2;
    best = std::min(best, length);
  }
  return best;
}

template Tree<float> make_tree(int64_t, bool);
template Tree<double> make_tree(int64_t, bool);
template RowPlan<float> make_row_plan(int64_t, int64_t, bool, bool);
template RowPlan<double> make_row_plan(int64_t, int64_t, bool, bool);
template ChirpPlan<float> make_chirp_plan(int64_t, int64_t);
template ChirpPlan<double> make_chirp_plan(int64_t, int64_t);
template RealPlan<float> make_real_plan(int64_t, int64_t);
template RealPlan<double> make_real_plan(int64_t, int64_t);

}  // namespace weft::cpu::fft
