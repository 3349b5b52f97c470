#include "support/sample.h"

#include <numeric>

namespace weft::test {

namespace {

using Ids = std::vector<int64_t>;

// Different values in no order, so that no step of a difference quotient changes the order.
Tensor shuffled(const Shape& shape) {
  const int64_t n = shape.numel();
  return make(shape, [n](int64_t i) { return static_cast<double>((i * 7 + 3) % (n % 7 ? n : n + 1)) * 0.25 - 1; });
}

// For each lane along dim, `count` of the positions 0 ... n-1 in stable order of its values: [..., count, ...].
Tensor ranked(const Tensor& x, int64_t dim, bool falling, int64_t first, int64_t count) {
  const auto v = x.to_vector<double>();
  const int64_t n = x.shape()[dim], step = x.shape().contiguous_strides()[dim];
  Shape shape = x.shape();
  shape[dim] = count;
  return make(shape,
              [&](int64_t i) {
                const int64_t base = i / (count * step) * (n * step) + i % step;
                Ids order(static_cast<size_t>(n));
                std::iota(order.begin(), order.end(), 0);
                std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
                  const double p = v[static_cast<size_t>(base + a * step)], q = v[static_cast<size_t>(base + b * step)];
                  return falling ? p > q : p < q;
                });
                return static_cast<double>(order[static_cast<size_t>(first + i / step % count)]);
              })
      .to(int64);
}

// x at positions along dim.
Tensor picked(const Tensor& x, int64_t dim, const Tensor& positions) {
  const auto v = x.to_vector<double>();
  const auto p = positions.to_vector<int64_t>();
  const int64_t n = x.shape()[dim], count = positions.shape()[dim], step = x.shape().contiguous_strides()[dim];
  return make(positions.shape(), [&](int64_t i) {
    return v[static_cast<size_t>(i / (count * step) * (n * step) + p[static_cast<size_t>(i)] * step + i % step)];
  });
}

Tensors both(const ValuesIndices& r) { return {r.values, r.indices}; }

void add(SampleList& l, const char* op, const char* variant, const Tensors& inputs,
         std::function<Tensors(const Tensors&)> call, std::function<Tensors(const Tensors&)> reference, int order = 2) {
  l.samples.push_back({.op = op,
                       .variant = variant,
                       .inputs = inputs,
                       .call = std::move(call),
                       .reference = std::move(reference),
                       .order = order});
}

void extreme_samples(SampleList& l, const char* op, const char* arg_op, bool largest,
                     ValuesIndices (*call)(const Tensor&, int64_t, bool),
                     Tensor (*arg)(const Tensor&, std::optional<int64_t>, bool)) {
  auto one = [&](const char* variant, const Tensor& x, int64_t dim, bool keep, int order = 2) {
    auto find = [=](const Tensor& x) { return ranked(x, dim, largest, 0, 1); };
    auto drop = [=](const Tensor& y) {
      Shape shape = y.shape();
      if (!keep) shape.erase(dim);
      return y.reshape(shape);
    };
    add(
        l, op, variant, {x}, [=](const Tensors& x) { return both(call(x[0], dim, keep)); },
        [=](const Tensors& x) -> Tensors {
          return {drop(picked(x[0], dim, find(x[0]))), drop(find(x[0]))};
        },
        order);
    add(
        l, arg_op, variant, {x}, [=](const Tensors& x) -> Tensors { return {arg(x[0], dim, keep)}; },
        [=](const Tensors& x) -> Tensors { return {drop(find(x[0]))}; }, 0);
  };
  one("last dim", shuffled({3, 5}), 1, false);
  one("dim 0, kept", shuffled({4, 3}), 0, true);
  one("middle", shuffled({2, 3, 4}), 1, false);
  one("equal elements: the first", make({2, 40}, [](int64_t i) { return static_cast<double>(i % 3); }), 1, false, 0);
  one("longer than a block", make({2, 1500}, [](int64_t i) { return static_cast<double>((i * 37) % 1500); }), 1, false,
      0);
  one("size 1", shuffled({3, 1}), 1, true);
  one("no rows", shuffled({0, 3}), 1, false);
  add(
      l, arg_op, "flat", {shuffled({2, 3})}, [=](const Tensors& x) -> Tensors { return {arg(x[0], {}, false)}; },
      [=](const Tensors& x) -> Tensors { return {ranked(x[0].flatten(), 0, largest, 0, 1).reshape({})}; }, 0);
  for (const char* name : {op, arg_op}) {
    const bool is_arg = name == arg_op;
    l.errors.push_back({name,
                        [=] {
                          is_arg ? void(arg(zeros({2, 0}), 1, false)) : void(call(zeros({2, 0}), 1, false));
                        },
                        std::string(name) + ": nothing to choose from in shape [2, 0]"});
  }
}

void order_samples(SampleList& l) {
  auto one = [&](const char* variant, const Tensor& x, int64_t dim, bool descending, int order = 2) {
    const int64_t n = x.shape()[dim];
    add(
        l, "sort", variant, {x}, [=](const Tensors& x) { return both(sort(x[0], dim, descending)); },
        [=](const Tensors& x) -> Tensors {
          const Tensor i = ranked(x[0], dim, descending, 0, n);
          const Tensor v = picked(x[0], dim, i);
          return {x[0].is_floating() ? v : v.to(x[0].dtype()), i};
        },
        order);
    add(
        l, "argsort", variant, {x}, [=](const Tensors& x) -> Tensors { return {argsort(x[0], dim, descending)}; },
        [=](const Tensors& x) -> Tensors { return {ranked(x[0], dim, descending, 0, n)}; }, 0);
  };
  one("last dim", shuffled({3, 5}), 1, false);
  one("dim 0, descending", shuffled({4, 3}), 0, true);
  one("middle", shuffled({2, 3, 2}), 1, true);
  one("stable", make({2, 150}, [](int64_t i) { return static_cast<double>(i % 4) - 1.5; }), 1, false, 0);
  one("stable, descending", make({150}, [](int64_t i) { return static_cast<double>(i % 4) - 1.5; }), 0, true, 0);
  one("long", make({300}, [](int64_t i) { return static_cast<double>((i * 97) % 300) - 150; }), 0, false, 0);
  one("integers far apart", tensor(Ids{3, -(int64_t{1} << 40), 7, int64_t{1} << 40, 3}, {5}), 0, true, 0);
  one("integers", tensor(Ids{3, -1, 7, 0, 3, -9}, {2, 3}).to(int32), 1, true, 0);
  one("size 1", shuffled({2, 1}), 1, false);
  one("empty", shuffled({2, 0}), 1, false);
  for (const char* op : {"sort", "argsort"}) {
    l.errors.push_back(
        {op, [is_sort = op[0] == 's'] { is_sort ? void(sort(zeros({2}), 1)) : void(argsort(zeros({2}), 1)); },
         std::string(op) + ": dim 1 is out of range for 1 dimensions"});
  }

  auto top = [&](const char* variant, const Tensor& x, int64_t k, int64_t dim, bool largest, int order = 2) {
    add(
        l, "topk", variant, {x}, [=](const Tensors& x) { return both(topk(x[0], k, dim, largest)); },
        [=](const Tensors& x) -> Tensors {
          const Tensor i = ranked(x[0], dim, largest, 0, k);
          return {picked(x[0], dim, i), i};
        },
        order);
  };
  top("largest", shuffled({3, 8}), 3, 1, true);
  top("smallest, dim 0", shuffled({6, 2}), 2, 0, false);
  top("all", shuffled({2, 4}), 4, 1, true);
  top("none", shuffled({2, 4}), 0, 1, true);
  top("long rows", make({2, 3000}, [](int64_t i) { return static_cast<double>((i * 1009) % 3001) - 1500; }), 5, 1, true,
      0);
  top("equal elements: the first", make({700}, [](int64_t i) { return static_cast<double>(i % 5); }), 200, 0, true, 0);
  l.errors.push_back({"topk", [] { topk(zeros({2, 3}), 4); }, "topk: k = 4 is out of range for dim 1 of [2, 3]"});

  auto kth = [&](const char* variant, const Tensor& x, int64_t k, int64_t dim) {
    add(
        l, "kthvalue", variant, {x}, [=](const Tensors& x) { return both(kthvalue(x[0], k, dim, true)); },
        [=](const Tensors& x) -> Tensors {
          const Tensor i = ranked(x[0], dim, false, k - 1, 1);
          return {picked(x[0], dim, i), i};
        });
  };
  kth("last dim", shuffled({3, 6}), 4, 1);
  kth("dim 0", shuffled({5, 2}), 1, 0);
  kth("size 1", shuffled({1, 2}), 1, 0);
  l.errors.push_back({"kthvalue",
                      [] {
                        kthvalue(zeros({2, 3}), 0);
                      },
                      "kthvalue: k = 0 is out of range for dim 1 of [2, 3]"});
}

// --- searching -------------------------------------------------------------------------------------------------------

void search_samples(SampleList& l) {
  auto one = [&](const char* variant, const Tensor& sequence, const Tensor& v, bool right) {
    add(
        l, "searchsorted", variant, {sequence, v},
        [=](const Tensors& x) -> Tensors { return {searchsorted(x[0], x[1], right)}; },
        [=](const Tensors& x) -> Tensors {
          const int64_t n = x[0].size(-1), m = x[1].dim() ? x[1].size(-1) : 1;
          const auto s = x[0].to_vector<double>(), v = x[1].to_vector<double>();
          return {make(x[1].shape(), [&](int64_t i) {
                    const int64_t row = x[0].dim() == 1 ? 0 : i / m * n;
                    int64_t before = 0;
                    for (int64_t j = 0; j < n; ++j) {
                      const double e = s[static_cast<size_t>(row + j)], q = v[static_cast<size_t>(i)];
                      before += right ? e <= q : e < q;
                    }
                    return static_cast<double>(before);
                  }).to(int64)};
        },
        0);
  };
  const Tensor line = tensor(std::vector<double>{-1, 0, 0, 0.5, 2}, {5});
  const Tensor rows = tensor(std::vector<double>{-1, 0, 2, 1, 1, 3}, {2, 3});
  const Tensor v = tensor(std::vector<double>{0, -2, 3, 0.5, 1, 2}, {2, 3});
  one("left", line, v, false);
  one("right", line, v, true);
  one("by row", rows, v, false);
  one("by row, right", rows, v, true);
  one("one value", line, scalar(0, {.dtype = float64}), true);
  one("empty sequence", zeros({0}, {.dtype = float64}), v, false);
  one("no values", line, zeros({2, 0}, {.dtype = float64}), false);
  l.errors.push_back({"searchsorted",
                      [] {
                        searchsorted(zeros({2, 3}), zeros({3, 3}));
                      },
                      "searchsorted: sequence [2, 3] and values [3, 3] may differ in the last dimension only"});
  l.errors.push_back({"searchsorted", [] { searchsorted(zeros({}), zeros({3})); },
                      "searchsorted: expected a sequence of one dimension or more"});

  auto all_of = [](const Unique& u) -> Tensors { return {u.values, u.inverse, u.counts}; };
  add(
      l, "unique", "floats", {tensor(std::vector<double>{2, -1, 2, 0.5, -1, 2}, {2, 3})},
      [=](const Tensors& x) { return all_of(unique(x[0])); },
      [](const Tensors&) -> Tensors {
        return {tensor(std::vector<double>{-1, 0.5, 2}, {3}), tensor(Ids{2, 0, 2, 1, 0, 2}, {2, 3}),
                tensor(Ids{2, 1, 3}, {3})};
      },
      0);
  add(
      l, "unique", "all different", {shuffled({5})}, [=](const Tensors& x) { return all_of(unique(x[0])); },
      [](const Tensors& x) -> Tensors {
        const Tensor order = ranked(x[0], 0, false, 0, 5);
        const auto o = order.to_vector<int64_t>();
        Ids inverse(5);
        for (int64_t i = 0; i < 5; ++i) inverse[static_cast<size_t>(o[static_cast<size_t>(i)])] = i;
        return {picked(x[0], 0, order), tensor(inverse, {5}), tensor(Ids(5, 1), {5})};
      });
  add(
      l, "unique", "ids", {tensor(Ids{7, 7, 0, 300, 7}, {5})}, [=](const Tensors& x) { return all_of(unique(x[0])); },
      [](const Tensors&) -> Tensors {
        return {tensor(Ids{0, 7, 300}, {3}), tensor(Ids{1, 1, 0, 2, 1}, {5}), tensor(Ids{1, 3, 1}, {3})};
      },
      0);
  add(
      l, "unique", "empty", {zeros({0}, {.dtype = float64})}, [=](const Tensors& x) { return all_of(unique(x[0])); },
      [](const Tensors&) -> Tensors {
        return {zeros({0}, {.dtype = float64}), tensor(Ids{}, {0}), tensor(Ids{}, {0})};
      });
}

// --- drawing: what a sample of given size must be, whatever was drawn ------------------------------------------------

void draw_samples(SampleList& l) {
  // One weight above 0 leaves no choice; all drawn without replacement are a permutation.
  add(
      l, "multinomial", "no choice", {tensor(std::vector<double>{0, 2, 0, 0.5, 0, 0}, {2, 3})},
      [](const Tensors& x) -> Tensors {
        Generator g(3);
        return {multinomial(x[0], 4, true, g)};
      },
      [](const Tensors&) -> Tensors {
        return {tensor(Ids{1, 1, 1, 1, 0, 0, 0, 0}, {2, 4})};
      },
      0);
  add(
      l, "multinomial", "all of them", {make({7}, [](int64_t i) { return static_cast<double>(i + 1); })},
      [](const Tensors& x) -> Tensors {
        Generator g(4);
        return {sort(multinomial(x[0], 7, false, g)).values};
      },
      [](const Tensors&) -> Tensors { return {arange(7)}; }, 0);
  l.errors.push_back({"multinomial",
                      [] {
                        multinomial(tensor({1.0f, -1.0f}), 1);
                      },
                      "multinomial: weights must be finite and not negative"});
  l.errors.push_back({"multinomial",
                      [] {
                        multinomial(tensor({1.0f, 0.0f, 2.0f}), 3);
                      },
                      "multinomial: a row has fewer than 3 weights above 0"});
  l.errors.push_back(
      {"multinomial", [] { multinomial(zeros({2}), 1, true); }, "multinomial: a row has fewer than 1 weights above 0"});
  l.errors.push_back({"multinomial",
                      [] {
                        multinomial(zeros({2, 2, 2}), 1);
                      },
                      "multinomial: expected weights [n] or [rows, n], got [2, 2, 2]"});
  l.errors.push_back(
      {"multinomial", [] { multinomial(ones({2}), 0); }, "multinomial: expected num_samples > 0, got 0"});

  for (int64_t n : {0, 1, 2, 300}) {
    add(
        l, "randperm", concat("n = ", n).c_str(), {},
        [n](const Tensors&) -> Tensors {
          Generator g(5);
          return {sort(randperm(n, g)).values};
        },
        [n](const Tensors&) -> Tensors { return {arange(n)}; }, 0);
  }
  l.errors.push_back({"randperm", [] { randperm(-1); }, "randperm: n must not be negative, got -1"});
}

}  // namespace

void sort_samples(SampleList& l) {
  extreme_samples(l, "max", "argmax", true, max, argmax);
  extreme_samples(l, "min", "argmin", false, min, argmin);
  order_samples(l);
  search_samples(l);
  draw_samples(l);
}

}  // namespace weft::test
