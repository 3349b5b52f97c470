#include "support/sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace weft::test {

namespace {

using Values = std::vector<double>;
using Op = std::function<Tensor(const Tensor& x, const Dims& dims, bool keep)>;
using Formula = std::function<double(const Values&)>;

// f over the values that reduce to one element.
Tensor reduced(const Tensor& x, const Dims& dims, bool keep, const Formula& f) {
  const auto gone = dims.mask(x.dim(), "reference");
  Shape full, out;
  for (int64_t d = 0; d < x.dim(); ++d) {
    const bool g = gone[static_cast<size_t>(d)];
    full.push_back(g ? 1 : x.size(d));
    if (!g || keep) out.push_back(full.back());
  }
  const Shape strides = full.contiguous_strides();
  std::vector<Values> rows(static_cast<size_t>(full.numel()));
  make_at(x.shape(), [&](const Index& i) {
    int64_t row = 0;
    for (int64_t d = 0; d < x.dim(); ++d) row += full[d] == 1 ? 0 : i[static_cast<size_t>(d)] * strides[d];
    rows[static_cast<size_t>(row)].push_back(at(x, i));
    return 0.0;
  });
  return make(out, [&](int64_t i) { return f(rows[static_cast<size_t>(i)]); });
}

struct Family {
  SampleList& list;
  Sample& add(const char* op, const char* variant, const Tensor& x, const Dims& dims, bool keep, Op call, Formula f,
              DType result = float64) {
    list.samples.push_back(
        {.op = op,
         .variant = variant,
         .inputs = {x},
         .call = [=](const Tensors& t) -> Tensors { return {call(t[0], dims, keep)}; },
         .reference = [=](const Tensors& t) -> Tensors { return {reduced(t[0], dims, keep, f).to(result)}; }});
    return list.samples.back();
  }
  // Along inner, outer, several and all dimensions, with and without keeping them.
  void add_all(const char* op, int order, const Op& call, const Formula& f, uint64_t seed = 1) {
    add(op, "all", values({3, 5}, seed), {}, false, call, f).order = order;
    add(op, "all, kept", values({3, 5}, seed), {}, true, call, f).order = order;
    add(op, "last dim", values({2, 3, 37}, seed), -1, false, call, f).order = order;
    add(op, "first dim, kept", values({7, 3, 5}, seed), 0, true, call, f).order = order;
    add(op, "outer and inner dims", values({3, 4, 5}, seed), {0, 2}, false, call, f).order = order;
    add(op, "size 1", values({1, 2, 1}, seed), {0}, false, call, f).order = order;
    add(op, "no rows", values({0, 3}, seed), 1, false, call, f).order = order;
  }
  void error(const char* op, std::function<void()> call, const char* message) {
    list.errors.push_back({op, std::move(call), message});
  }
};

double total(const Values& v) { return std::accumulate(v.begin(), v.end(), 0.0); }
double average(const Values& v) { return total(v) / static_cast<double>(v.size()); }
double product(const Values& v) {
  return std::accumulate(v.begin(), v.end(), 1.0, [](double a, double b) { return a * b; });
}

void sums(Family f) {
  f.add_all(
      "sum", 2, [](const Tensor& x, const Dims& d, bool k) { return sum(x, d, k); }, total);
  f.add_all(
      "mean", 2, [](const Tensor& x, const Dims& d, bool k) { return mean(x, d, k); }, average);
  const Op prod_op = [](const Tensor& x, const Dims& d, bool k) { return prod(x, d, k); };
  f.add("prod", "all", values({2, 3}, 1), {}, false, prod_op, product);
  f.add("prod", "last dim", values({3, 5}, 1), 1, true, prod_op, product);
  f.add("prod", "one and two zeros", tensor(Values{2, 0, -3, 0, 0, 1.5, 1, 2, 3}, {3, 3}), 1, false, prod_op, product);
  f.add("prod", "of nothing", values({2, 0}, 1), 1, false, prod_op, product);
  f.add(
      "sum", "of nothing", values({2, 0}, 1), 1, false,
      [](const Tensor& x, const Dims& d, bool k) { return sum(x, d, k); }, total);
  f.add(
       "sum", "integers", arange(12).reshape({3, 4}), 0, false,
       [](const Tensor& x, const Dims& d, bool k) { return sum(x, d, k); }, total, int64)
      .order = 0;
  f.add(
       "sum", "bool", tensor(std::vector<bool>{true, false, true}), {}, false,
       [](const Tensor& x, const Dims& d, bool k) { return sum(x, d, k); }, total, int64)
      .order = 0;
  f.list.samples.push_back({.op = "sum_to",
                            .variant = "fewer dims and size 1",
                            .inputs = {values({2, 3, 4}, 1)},
                            .call = [](const Tensors& x) -> Tensors {
                              return {sum_to(x[0], {3, 1})};
                            },
                            .reference = [](const Tensors& x) -> Tensors {
                              return {reshape(reduced(x[0], {0, 2}, true, total), {3, 1})};
                            }});

  f.error(
      "sum",
      [] {
        sum(zeros({2, 3}), {0, -2});
      },
      "sum: dim 0 is named twice");
  f.error(
      "sum",
      [] {
        sum(zeros({2, 3}), 2);
      },
      "sum: dim 2 is out of range for 2 dimensions");
  f.error(
      "mean", [] { mean(arange(3)); }, "mean: expected a floating tensor, got int64");
  f.error(
      "prod", [] { prod(zeros({2}), -2); }, "prod: dim -2 is out of range for 1 dimensions");
  f.error(
      "sum_to",
      [] {
        sum_to(zeros({2, 3}), {2});
      },
      "sum_to: shapes do not broadcast: [2, 3] and [2]");
}

void choices(Family f) {
  const Formula most = [](const Values& v) { return *std::max_element(v.begin(), v.end()); };
  const Formula least = [](const Values& v) { return *std::min_element(v.begin(), v.end()); };
  f.add_all(
      "amax", 2, [](const Tensor& x, const Dims& d, bool k) { return amax(x, d, k); }, most);
  f.add_all(
      "amin", 2, [](const Tensor& x, const Dims& d, bool k) { return amin(x, d, k); }, least);
  f.add(
       "amax", "integers", arange(12).reshape({3, 4}), 0, false,
       [](const Tensor& x, const Dims& d, bool k) { return amax(x, d, k); }, most, int64)
      .order = 0;

  const Tensor flags = tensor(Values{0, 0, 1, -2, 0, 0, 3, 4, 5}, {3, 3});
  const auto add_flags = [&](const char* op, DType result, const Op& call, const Formula& formula) {
    f.add(op, "rows", flags, 1, false, call, formula, result).order = 0;
    f.add(op, "columns, kept", flags, 0, true, call, formula, result).order = 0;
    f.add(op, "all", flags, {}, false, call, formula, result).order = 0;
    f.add(op, "of nothing", zeros({2, 0}, {.dtype = float64}), 1, false, call, formula, result).order = 0;
  };
  const auto nonzero = [](double v) { return v != 0; };
  add_flags(
      "any", boolean, [](const Tensor& x, const Dims& d, bool k) { return any(x, d, k); },
      [=](const Values& v) { return std::any_of(v.begin(), v.end(), nonzero); });
  add_flags(
      "all", boolean, [](const Tensor& x, const Dims& d, bool k) { return all(x, d, k); },
      [=](const Values& v) { return std::all_of(v.begin(), v.end(), nonzero); });
  add_flags(
      "count_nonzero", int64, [](const Tensor& x, const Dims& d, bool k) { return count_nonzero(x, d, k); },
      [=](const Values& v) { return static_cast<double>(std::count_if(v.begin(), v.end(), nonzero)); });

  f.error(
      "amax",
      [] {
        amax(zeros({2, 0}), 1);
      },
      "amax: nothing to choose from in shape [2, 0]");
  f.error(
      "amin", [] { amin(zeros({0})); }, "amin: nothing to choose from in shape [0]");
  f.error(
      "any", [] { any(zeros({2}), 1); }, "any: dim 1 is out of range for 1 dimensions");
  f.error(
      "all", [] { all(zeros({2}), 1); }, "all: dim 1 is out of range for 1 dimensions");
  f.error(
      "count_nonzero", [] { count_nonzero(zeros({2}), 1); }, "sum: dim 1 is out of range for 1 dimensions");
}

void spreads(Family f) {
  const auto variance = [](double correction) {
    return [correction](const Values& v) {
      const double m = average(v);
      double s = 0;
      for (double e : v) s += (e - m) * (e - m);
      return s / (static_cast<double>(v.size()) - correction);
    };
  };
  const auto deviation = [variance](const Values& v) { return std::sqrt(variance(1)(v)); };
  const auto add_spread = [&](const char* op, const Op& call, const Formula& formula) {
    f.add(op, "all", values({3, 5}, 1), {}, false, call, formula);
    f.add(op, "last dim", values({2, 3, 37}, 1), -1, false, call, formula);
    f.add(op, "outer and inner dims, kept", values({3, 4, 5}, 1), {0, 2}, true, call, formula);
    f.add(op, "far from 0", values({3, 9}, 1, 30, 31), 1, false, call, formula);
    f.add(op, "no rows", values({0, 3}, 1), 1, false, call, formula);
  };
  add_spread(
      "var", [](const Tensor& x, const Dims& d, bool k) { return var(x, d, 1, k); }, variance(1));
  add_spread(
      "std", [](const Tensor& x, const Dims& d, bool k) { return std(x, d, 1, k); }, deviation);
  f.add(
      "var", "correction 0, size 1", values({4, 1}, 1), 1, false,
      [](const Tensor& x, const Dims& d, bool k) { return var(x, d, 0, k); }, variance(0));
  f.add(
      "var", "correction 2.5", values({4, 5}, 1), 1, false,
      [](const Tensor& x, const Dims& d, bool k) { return var(x, d, 2.5, k); }, variance(2.5));

  f.error(
      "var", [] { var(arange(3)); }, "var: expected a floating tensor, got int64");
  f.error(
      "std", [] { std(arange(3)); }, "std: expected a floating tensor, got int64");
}

void norms(Family f) {
  const auto p_norm = [](double p) {
    return [p](const Values& v) {
      double s = p == -INFINITY ? INFINITY : 0;
      for (double e : v) {
        const double a = std::abs(e);
        s = p == INFINITY    ? std::max(s, a)
            : p == -INFINITY ? std::min(s, a)
            : p == 0         ? s + (e != 0)
                             : s + std::pow(a, p);
      }
      return p == 0 || std::isinf(p) ? s : std::pow(s, 1 / p);
    };
  };
  const auto op = [](double p) { return [p](const Tensor& x, const Dims& d, bool k) { return norm(x, p, d, k); }; };
  f.add_all(
      "norm", 2, [](const Tensor& x, const Dims& d, bool k) { return norm(x, 2, d, k); }, p_norm(2));
  const std::pair<double, const char*> others[] = {{1, "p 1"},          {3, "p 3"},           {1.5, "p 1.5"},
                                                   {0.5, "p 0.5"},      {-2, "p -2"},         {0, "p 0"},
                                                   {INFINITY, "p inf"}, {-INFINITY, "p -inf"}};
  for (const auto& [p, variant] : others) f.add("norm", variant, values({3, 5}, 2), 1, true, op(p), p_norm(p));

  const Formula log_sum = [](const Values& v) {
    double s = 0;
    for (double e : v) s += std::exp(e);
    return std::log(s);
  };
  f.add_all(
      "logsumexp", 2, [](const Tensor& x, const Dims& d, bool k) { return logsumexp(x, d, k); }, log_sum);
  f.add(
      "logsumexp", "large", values({3, 5}, 3, 300, 310), 1, false,
      [](const Tensor& x, const Dims& d, bool k) { return logsumexp(x, d, k); }, log_sum);
  f.add(
      "logsumexp", "of nothing", values({2, 0}, 3), 1, false,
      [](const Tensor& x, const Dims& d, bool k) { return logsumexp(x, d, k); }, log_sum);

  f.error(
      "norm", [] { norm(arange(3)); }, "norm: expected a floating tensor, got int64");
  f.error(
      "norm", [] { norm(zeros({3}), NAN); }, "norm: p is NaN");
  f.error(
      "norm",
      [] {
        norm(zeros({3}), 2, {0, 0});
      },
      "norm: dim 0 is named twice");
  f.error(
      "logsumexp", [] { logsumexp(arange(3)); }, "logsumexp: expected a floating tensor, got int64");
}

}  // namespace

void reduce_samples(SampleList& list) {
  const Family f{list};
  sums(f), choices(f), spreads(f), norms(f);
}

}  // namespace weft::test
