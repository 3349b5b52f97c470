#include "support/sample.h"

namespace weft::test {

namespace {

using Ids = std::vector<int64_t>;

Tensor ids(const Ids& v, const Shape& shape) { return tensor(v, shape); }
Tensor ids(const Ids& v) { return tensor(v, Shape{static_cast<int64_t>(v.size())}); }

// Position i of a row-major tensor as a multi-index.
Ids unravel(int64_t i, const Shape& shape) {
  Ids at(static_cast<size_t>(shape.size()));
  for (int64_t d = shape.size() - 1; d >= 0; --d) at[static_cast<size_t>(d)] = i % shape[d], i /= shape[d];
  return at;
}
int64_t ravel(const Ids& at, const Shape& shape) {
  int64_t i = 0;
  for (int64_t d = 0; d < shape.size(); ++d) i = i * shape[d] + at[static_cast<size_t>(d)];
  return i;
}
int64_t id_at(const Tensor& index, const Ids& i) { return static_cast<int64_t>(at(index, i)); }

void add(SampleList& l, const char* op, const char* variant, const Tensors& inputs,
         std::function<Tensor(const Tensors&)> call, std::function<Tensor(const Tensors&)> reference, int order = 2) {
  l.samples.push_back({.op = op,
                       .variant = variant,
                       .inputs = inputs,
                       .call = [call](const Tensors& x) -> Tensors { return {call(x)}; },
                       .reference = [reference](const Tensors& x) -> Tensors { return {reference(x)}; },
                       .order = order});
}

void error(SampleList& l, const char* op, std::function<void()> call, const char* message) {
  l.errors.push_back({op, std::move(call), message});
}

// --- reading ---------------------------------------------------------------------------------------------------------

// y[p] = x[p with index[p] at dim]
Tensor naive_gather(const Tensor& x, int64_t dim, const Tensor& index) {
  return make(index.shape(), [&](int64_t i) {
    Ids p = unravel(i, index.shape());
    p[static_cast<size_t>(dim)] = id_at(index, p);
    return at(x, p);
  });
}

void gather_samples(SampleList& l) {
  auto one = [&](const char* variant, const Shape& x, int64_t dim, const Tensor& index) {
    const int64_t d = dim < 0 ? dim + x.size() : dim;
    add(
        l, "gather", variant, {values(x, 1), index}, [dim](const Tensors& x) { return gather(x[0], dim, x[1]); },
        [d](const Tensors& x) { return naive_gather(x[0], d, x[1]); });
  };
  one("last dim", {3, 5}, -1, ids({4, 0, 0, 2, 1, 1}, {3, 2}));
  one("dim 0, longer than x", {2, 3}, 0, ids({1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0}, {4, 3}));
  one("middle, smaller elsewhere", {3, 4, 3}, 1, ids({3, 0, 1, 2}, {1, 2, 2}));
  one("one element", {1}, 0, ids({0}));
  one("empty index", {3, 2}, 0, ids({}, {0, 2}));
  add(
      l, "gather", "scalar", {values({}, 1), ids({0}, {})}, [](const Tensors& x) { return gather(x[0], 0, x[1]); },
      [](const Tensors& x) { return make({}, [&](int64_t) { return at(x[0], {}); }); });
  error(
      l, "gather",
      [] {
        gather(zeros({2, 4}), 1, ids({0, 4}, {2, 1}));
      },
      "gather: index 4 is out of range for dim 1 of size 4");
  error(
      l, "gather",
      [] {
        gather(zeros({2, 0}), 1, ids({0, 0}, {2, 1}));
      },
      "gather: index 0 is out of range for dim 1 of size 0");
  error(
      l, "gather",
      [] {
        gather(zeros({2, 4}), 1, ids({0, -1}, {2, 1}));
      },
      "gather: index -1 is out of range for dim 1 of size 4");
  error(
      l, "gather",
      [] {
        gather(zeros({2, 4}), 1, ids({0, 1}));
      },
      "gather: index [2] must have as many dimensions as the input [2, 4]");
  error(
      l, "gather",
      [] {
        gather(zeros({2, 4}), 1, ids({0, 1, 2}, {3, 1}));
      },
      "gather: index [3, 1] is larger than the input [2, 4] in dim 0");
  error(
      l, "gather",
      [] {
        gather(zeros({2, 4}), 1, zeros({2, 1}));
      },
      "gather: expected an integer index, got float32");

  add(
      l, "take_along_dim", "broadcast", {values({3, 1, 4}, 2), ids({3, 0, 1, 2}, {1, 2, 2})},
      [](const Tensors& x) { return take_along_dim(x[0], x[1], -1); },
      [](const Tensors& x) {
        return make({3, 2, 2}, [&](int64_t i) {
          const Ids p = unravel(i, {3, 2, 2});
          return at(x[0], {p[0], 0, id_at(x[1], p)});
        });
      });
  add(
      l, "take_along_dim", "flat", {values({2, 3}, 2), ids({5, 0, 3})},
      [](const Tensors& x) { return take_along_dim(x[0], x[1]); },
      [](const Tensors& x) {
        return make({3}, [&](int64_t i) { return at(x[0], unravel(id_at(x[1], {i}), {2, 3})); });
      });
  error(
      l, "take_along_dim",
      [] {
        take_along_dim(zeros({2, 3}), ids({7, 1, 2}, {1, 3}), 1);
      },
      "take_along_dim: index 7 is out of range for dim 1 of size 3");
  error(
      l, "take_along_dim",
      [] {
        take_along_dim(zeros({2, 3}), ids({1}), 1);
      },
      "take_along_dim: index [1] must have as many dimensions as the input [2, 3]");
}

void select_samples(SampleList& l) {
  auto one = [&](const char* variant, const Shape& x, int64_t dim, const Ids& index) {
    add(
        l, "index_select", variant, {values(x, 3), ids(index)},
        [dim](const Tensors& x) { return index_select(x[0], dim, x[1]); },
        [dim](const Tensors& x) {
          Shape shape = x[0].shape();
          shape[dim] = x[1].numel();
          return make(shape, [&](int64_t i) {
            Ids p = unravel(i, shape);
            p[static_cast<size_t>(dim)] = id_at(x[1], {p[static_cast<size_t>(dim)]});
            return at(x[0], p);
          });
        });
  };
  one("rows, repeated", {3, 4}, 0, {2, 0, 2, 2, 1});
  one("columns", {3, 4}, 1, {3, 3, 0});
  one("middle", {2, 3, 5}, 1, {1, 1});
  one("one dimension", {5}, 0, {4, 0, 4});
  one("no index", {3, 4}, 0, {});
  one("no columns", {3, 0}, 0, {2, 2});
  one("one element", {1, 1}, 1, {0});
  error(
      l, "index_select",
      [] {
        index_select(zeros({2, 3}), 0, ids({0, 2}));
      },
      "index_select: index 2 is out of range for dim 0 of size 2");
  error(
      l, "index_select",
      [] {
        index_select(zeros({2, 3}), 0, ids({0, 1}, {1, 2}));
      },
      "index_select: expected a 1-D index, got shape [1, 2]");

  add(
      l, "masked_select", "broadcast mask",
      {values({3, 4}, 4), tensor(std::vector<bool>{true, false, true, true}, {4})},
      [](const Tensors& x) { return masked_select(x[0], x[1]); },
      [](const Tensors& x) {
        return make({9}, [&](int64_t i) { return at(x[0], {i / 3, std::vector<int64_t>{0, 2, 3}[i % 3]}); });
      });
  add(
      l, "masked_select", "broadcast input",
      {values({2, 1}, 4), tensor(std::vector<bool>{true, false, false, true}, {2, 2})},
      [](const Tensors& x) { return masked_select(x[0], x[1]); },
      [](const Tensors& x) { return make({2}, [&](int64_t i) {
                               return at(x[0], {i, 0});
                             }); });
  add(
      l, "masked_select", "nothing", {values({5}, 4), zeros({5}, {.dtype = boolean})},
      [](const Tensors& x) { return masked_select(x[0], x[1]); },
      [](const Tensors&) { return make({0}, [](int64_t) { return 0.0; }); });
  error(
      l, "masked_select", [] { masked_select(zeros({2}), zeros({2})); },
      "masked_select: expected a boolean mask, got float32");

  add(
      l, "nonzero", "matrix", {tensor(std::vector<double>{0, 1, 0, -2, 3, 0}, {2, 3})},
      [](const Tensors& x) { return nonzero(x[0]); },
      [](const Tensors&) {
        return ids({0, 1, 1, 0, 1, 1}, {3, 2});
      },
      0);
  add(
      l, "nonzero", "empty", {zeros({0}, {.dtype = float64})}, [](const Tensors& x) { return nonzero(x[0]); },
      [](const Tensors&) {
        return ids({}, {0, 1});
      },
      0);
}

// --- index -----------------------------------------------------------------------------------------------------------

void several_samples(SampleList& l) {
  const Tensor x = values({3, 4, 2}, 5);
  add(
      l, "index", "neighbours broadcast, negative", {x, ids({0, -1, 2}, {3, 1}), ids({1, -4})},
      [](const Tensors& x) {
        return index(x[0], {x[1], x[2]});
      },
      [](const Tensors& x) {
        const Ids a{0, 2, 2}, b{1, 0};
        return make({3, 2, 2}, [&](int64_t i) { return at(x[0], {a[i / 4], b[i / 2 % 2], i % 2}); });
      });
  add(
      l, "index", "in the middle", {x, ids({3, 0, 3})},
      [](const Tensors& x) {
        return index(x[0], {Tensor(), x[1]});
      },
      [](const Tensors& x) {
        const Ids b{3, 0, 3};
        return make({3, 3, 2}, [&](int64_t i) { return at(x[0], {i / 6, b[i / 2 % 3], i % 2}); });
      });
  add(
      l, "index", "apart", {x, ids({2, 1, 2}), ids({1, 0, 1})},
      [](const Tensors& x) {
        return index(x[0], {x[1], Tensor(), x[2]});
      },
      [](const Tensors& x) {
        const Ids a{2, 1, 2}, c{1, 0, 1};
        return make({3, 4}, [&](int64_t i) { return at(x[0], {a[i / 4], i % 4, c[i / 4]}); });
      });
  add(
      l, "index", "mask over two dimensions",
      {values({2, 2, 3}, 5), tensor(std::vector<bool>{false, true, true, true}, {2, 2})},
      [](const Tensors& x) { return index(x[0], {x[1]}); },
      [](const Tensors& x) {
        return make({3, 3}, [&](int64_t i) { return at(x[0], {(i / 3 + 1) / 2, (i / 3 + 1) % 2, i % 3}); });
      });
  add(
      l, "index", "one element", {values({1}, 5), ids({0}, {})}, [](const Tensors& x) { return index(x[0], {x[1]}); },
      [](const Tensors& x) { return make({}, [&](int64_t) { return at(x[0], {0}); }); });
  error(
      l, "index",
      [] {
        index(zeros({2, 3}), {Tensor(), ids({0, 3})});
      },
      "index: index 3 is out of range for dim 1 of size 3");
  error(
      l, "index",
      [] {
        index(zeros({2, 3}), {ids({-3})});
      },
      "index: index -3 is out of range for dim 0 of size 2");
  error(
      l, "index",
      [] {
        index(zeros({2}), {ids({0}), ids({0})});
      },
      "index: 2 indices for 1 dimensions");
  error(
      l, "index",
      [] {
        index(zeros({2, 3}), {zeros({3}, {.dtype = boolean})});
      },
      "index: mask [3] does not fit the input [2, 3] at dim 0");
  error(
      l, "index", [] { index(zeros({2}), {Tensor()}); }, "index: expected at least one index tensor");

  auto put = [&](const char* variant, bool accumulate, const Shape& values_shape) {
    add(
        l, "index_put", variant, {x, ids({0, 2, 0}), ids({1, -1, 1}), values(values_shape, 6)},
        [accumulate](const Tensors& x) {
          return index_put(x[0], {x[1], x[2]}, x[3], accumulate);
        },
        [accumulate](const Tensors& x) {
          auto y = x[0].to_vector<double>();
          const Ids a{0, 2, 0}, b{1, 3, 1};
          for (int64_t j = 0; j < 3; ++j) {
            for (int64_t k = 0; k < 2; ++k) {
              double& place = y[static_cast<size_t>(ravel({a[j], b[j], k}, {3, 4, 2}))];
              const double v = x[3].dim() == 0 ? at(x[3], {}) : at(x[3], {j, k});
              place = accumulate ? place + v : v;
            }
          }
          return tensor(y, {3, 4, 2});
        });
  };
  put("overwrite, the last stays", false, {3, 2});
  put("overwrite with a row", false, {2});
  put("add", true, {3, 2});
  put("add a scalar", true, {});
  add(
      l, "index_put", "apart", {x, ids({2, 1}), ids({1, 0}), values({2, 4}, 6)},
      [](const Tensors& x) {
        return index_put(x[0], {x[1], Tensor(), x[2]}, x[3]);
      },
      [](const Tensors& x) {
        return make({3, 4, 2}, [&](int64_t i) {
          const Ids p = unravel(i, {3, 4, 2});
          if (p[0] == 2 && p[2] == 1) return at(x[3], {0, p[1]});
          return p[0] == 1 && p[2] == 0 ? at(x[3], {1, p[1]}) : at(x[0], p);
        });
      });
  error(
      l, "index_put",
      [] {
        index_put(zeros({2, 3}), {ids({0})}, zeros({2}));
      },
      "index_put: values [2] do not broadcast to [1, 3]");
  error(
      l, "index_put",
      [] {
        index_put(zeros({2, 3}), {ids({0})}, ones({3}, {.dtype = float64}));
      },
      "index_put: the values are float64, the input float32");
}

// --- ids to rows -----------------------------------------------------------------------------------------------------

void embedding_samples(SampleList& l) {
  auto one = [&](const char* variant, const Tensor& index, int64_t n, int64_t d) {
    add(
        l, "embedding", variant, {index, values({n, d}, 7)}, [](const Tensors& x) { return embedding(x[0], x[1]); },
        [](const Tensors& x) {
          Shape shape = x[0].shape();
          shape.push_back(x[1].size(1));
          const auto flat = x[0].to_vector<int64_t>();
          return make(shape, [&](int64_t i) {
            return at(x[1], {flat[static_cast<size_t>(i / x[1].size(1))], i % x[1].size(1)});
          });
        });
  };
  one("repeated ids", ids({2, 0, 2, 1, 2, 0}, {2, 3}), 4, 3);
  one("one id", ids({1}, {}), 3, 5);
  one("no ids", ids({}, {2, 0}), 3, 5);
  one("width 1", ids({1, 1, 0}), 2, 1);
  one("bytes", ids({3, 1, 3}).to(uint8), 4, 2);
  // The padding row reads as any other, but has no gradient: here it is an input of its own, declared so.
  l.samples.push_back({.op = "embedding",
                       .variant = "padding",
                       .inputs = {ids({2, 0, 1, 2}), values({2, 3}, 7), values({1, 3}, 8)},
                       .call = [](const Tensors& x) -> Tensors {
                         return {embedding(x[0], cat({x[1], x[2]}), -1)};
                       },
                       .reference = [](const Tensors& x) -> Tensors {
                         const Ids id{2, 0, 1, 2};
                         return {make({4, 3}, [&](int64_t i) {
                           const int64_t r = id[i / 3];
                           return r == 2 ? at(x[2], {0, i % 3}) : at(x[1], {r, i % 3});
                         })};
                       },
                       .frozen = {2}});
  error(
      l, "embedding",
      [] {
        embedding(ids({0, 256}), zeros({256, 4}));
      },
      "embedding: index 256 is out of range for dim 0 of size 256");
  error(
      l, "embedding",
      [] {
        embedding(zeros({2}), zeros({256, 4}));
      },
      "embedding: expected an integer index, got float32");
  error(
      l, "embedding", [] { embedding(ids({0}), zeros({256})); }, "embedding: expected a weight [n, d], got [256]");
  error(
      l, "embedding",
      [] {
        embedding(ids({0}), zeros({3, 4}), 3);
      },
      "embedding: padding_idx 3 is out of range for 3 rows");

  add(
      l, "one_hot", "given size", {ids({1, 0, 3}, {3, 1})}, [](const Tensors& x) { return one_hot(x[0], 5); },
      [](const Tensors&) {
        return ids({0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0}, {3, 1, 5});
      },
      0);
  add(
      l, "one_hot", "size of the largest", {ids({1, 0})}, [](const Tensors& x) { return one_hot(x[0]); },
      [](const Tensors&) {
        return ids({0, 1, 1, 0}, {2, 2});
      },
      0);
  add(
      l, "one_hot", "empty", {ids({}, {0})}, [](const Tensors& x) { return one_hot(x[0], 3); },
      [](const Tensors&) {
        return ids({}, {0, 3});
      },
      0);
  error(
      l, "one_hot",
      [] {
        one_hot(ids({0, 5}), 3);
      },
      "one_hot: index 5 is out of range for dim 1 of size 3");
  error(
      l, "one_hot", [] { one_hot(ids({})); }, "one_hot: without ids num_classes must be given");
}

void repeat_samples(SampleList& l) {
  add(
      l, "repeat_interleave", "number", {values({2, 3}, 9)},
      [](const Tensors& x) { return repeat_interleave(x[0], 2, 1); },
      [](const Tensors& x) {
        return make({2, 6}, [&](int64_t i) { return at(x[0], {i / 6, i % 6 / 2}); });
      });
  add(
      l, "repeat_interleave", "flat", {values({2, 2}, 9)}, [](const Tensors& x) { return repeat_interleave(x[0], 3); },
      [](const Tensors& x) { return make({12}, [&](int64_t i) {
                               return at(x[0], {i / 6, i / 3 % 2});
                             }); });
  add(
      l, "repeat_interleave", "none", {values({2, 2}, 9)},
      [](const Tensors& x) { return repeat_interleave(x[0], 0, 0); },
      [](const Tensors&) {
        return make({0, 2}, [](int64_t) { return 0.0; });
      });
  add(
      l, "repeat_interleave", "tensor", {values({3, 2}, 9), ids({2, 0, 3})},
      [](const Tensors& x) { return repeat_interleave(x[0], x[1], 0); },
      [](const Tensors& x) {
        return make({5, 2}, [&](int64_t i) { return at(x[0], {i < 4 ? 0 : 2, i % 2}); });
      });
  add(
      l, "repeat_interleave", "tensor of one", {values({1, 3}, 9), ids({2})},
      [](const Tensors& x) { return repeat_interleave(x[0], x[1], 1); },
      [](const Tensors& x) {
        return make({1, 6}, [&](int64_t i) { return at(x[0], {0, i / 2}); });
      });
  error(
      l, "repeat_interleave",
      [] {
        repeat_interleave(zeros({3}), ids({1, 2}), 0);
      },
      "repeat_interleave: 2 repeats for size 3");
  error(
      l, "repeat_interleave",
      [] {
        repeat_interleave(zeros({2}), ids({1, -2}), 0);
      },
      "repeat_interleave: repeats must not be negative, got -2");
  error(
      l, "repeat_interleave", [] { repeat_interleave(zeros({2}), -1); },
      "repeat_interleave: repeats must not be negative, got -1");
}

// --- writing ---------------------------------------------------------------------------------------------------------

// y[p with index[p] at dim] = (or +=) src[p], in the order of p
Tensor naive_scatter(const Tensor& x, int64_t dim, const Tensor& index, bool sum,
                     std::function<double(const Ids&)> src) {
  auto y = x.to_vector<double>();
  for (int64_t i = 0; i < index.numel(); ++i) {
    Ids p = unravel(i, index.shape());
    const double v = src(p);
    p[static_cast<size_t>(dim)] = id_at(index, p);
    double& place = y[static_cast<size_t>(ravel(p, x.shape()))];
    place = sum ? place + v : v;
  }
  return tensor(y, x.shape());
}

void scatter_samples(SampleList& l) {
  auto one = [&](const char* variant, const Shape& x, int64_t dim, const Tensor& index, const Shape& src) {
    const Tensors inputs{values(x, 10), index, values(src, 11)};
    auto from = [](const Tensors& x) { return [s = x[2]](const Ids& p) { return at(s, p); }; };
    add(
        l, "scatter", variant, inputs, [dim](const Tensors& x) { return scatter(x[0], dim, x[1], x[2]); },
        [=](const Tensors& x) { return naive_scatter(x[0], dim, x[1], false, from(x)); });
    add(
        l, "scatter_add", variant, inputs, [dim](const Tensors& x) { return scatter_add(x[0], dim, x[1], x[2]); },
        [=](const Tensors& x) { return naive_scatter(x[0], dim, x[1], true, from(x)); });
    add(
        l, "scatter", (std::string(variant) + ", value").c_str(), {inputs[0], index},
        [dim](const Tensors& x) { return scatter(x[0], dim, x[1], 1.5); },
        [=](const Tensors& x) { return naive_scatter(x[0], dim, x[1], false, [](const Ids&) { return 1.5; }); });
  };
  one("last dim, repeated", {2, 5}, 1, ids({4, 0, 4, 1, 1, 1}, {2, 3}), {2, 3});
  one("dim 0, source larger", {3, 3}, 0, ids({0, 2, 2, 2}, {2, 2}), {4, 3});
  one("middle", {2, 3, 2}, 1, ids({2, 1, 0, 0, 1, 1, 2, 2}, {2, 2, 2}), {2, 2, 2});
  one("one element", {1}, 0, ids({0, 0}), {2});
  one("empty index", {2, 2}, 1, ids({}, {2, 0}), {2, 2});
  error(
      l, "scatter",
      [] {
        scatter(zeros({2, 3}), 1, ids({0, 3}, {2, 1}), zeros({2, 1}));
      },
      "scatter: index 3 is out of range for dim 1 of size 3");
  error(
      l, "scatter",
      [] {
        scatter(zeros({2, 3}), 1, ids({0, 1}, {1, 2}), zeros({1, 1}));
      },
      "scatter: index [1, 2] is larger than the source [1, 1] in dim 1");
  error(
      l, "scatter_add", [] { scatter_add(zeros({3}), 0, ids({3}), zeros({1})); },
      "scatter_add: index 3 is out of range for dim 0 of size 3");
  error(
      l, "scatter_add", [] { scatter_add(zeros({3}), 0, ids({0}), zeros({1}, {.dtype = float64})); },
      "scatter_add: the source is float64, the input float32");

  auto rows = [&](const char* variant, const Shape& x, int64_t dim, const Ids& index) {
    Shape src = x;
    src[dim] = static_cast<int64_t>(index.size());
    const Tensors inputs{values(x, 12), ids(index), values(src, 13)};
    auto wide = [dim, src](const Tensor& index) {
      return make(src, [&](int64_t i) { return at(index, {unravel(i, src)[static_cast<size_t>(dim)]}); });
    };
    add(
        l, "index_add", variant, inputs, [dim](const Tensors& x) { return index_add(x[0], dim, x[1], x[2], -0.5); },
        [=](const Tensors& x) {
          return naive_scatter(x[0], dim, wide(x[1]), true, [&](const Ids& p) { return -0.5 * at(x[2], p); });
        });
    add(
        l, "index_copy", variant, inputs, [dim](const Tensors& x) { return index_copy(x[0], dim, x[1], x[2]); },
        [=](const Tensors& x) {
          return naive_scatter(x[0], dim, wide(x[1]), false, [&](const Ids& p) { return at(x[2], p); });
        });
  };
  rows("rows, repeated", {4, 3}, 0, {3, 0, 3, 3});
  rows("columns", {2, 4}, 1, {1, 1, 0});
  rows("middle", {2, 3, 2}, 1, {2, 0});
  rows("no index", {2, 3}, 0, {});
  error(
      l, "index_add",
      [] {
        index_add(zeros({2, 3}), 0, ids({2}), zeros({1, 3}));
      },
      "index_add: index 2 is out of range for dim 0 of size 2");
  error(
      l, "index_add",
      [] {
        index_add(zeros({2, 3}), 0, ids({1}), zeros({2, 3}));
      },
      "index_add: expected a source of shape [1, 3], got [2, 3]");
  error(
      l, "index_copy",
      [] {
        index_copy(zeros({2, 3}), 1, ids({5}), zeros({2, 1}));
      },
      "index_copy: index 5 is out of range for dim 1 of size 3");
}

}  // namespace

void index_samples(SampleList& l) {
  gather_samples(l);
  select_samples(l);
  several_samples(l);
  embedding_samples(l);
  repeat_samples(l);
  scatter_samples(l);
}

}  // namespace weft::test
