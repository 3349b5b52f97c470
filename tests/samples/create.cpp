#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

const TensorOptions f64{.dtype = float64};

void add(SampleList& l, const char* op, const char* variant, std::function<Tensor()> call,
         std::function<Tensor()> reference) {
  l.samples.push_back({.op = op,
                       .variant = variant,
                       .inputs = {},
                       .call = [call](const Tensors&) -> Tensors { return {call()}; },
                       .reference = [reference](const Tensors&) -> Tensors { return {reference()}; },
                       .order = 0});
}

Tensor whole_numbers(const Shape& shape, const std::function<double(int64_t)>& f) { return make(shape, f).to(int64); }

void add_filled(SampleList& l) {
  for (const Shape& s : {Shape{}, Shape{0}, Shape{1, 3}, Shape{3, 0, 2}, Shape{5, 7}}) {
    add(
        l, "zeros", "float", [s] { return zeros(s); }, [s] { return make(s, [](int64_t) { return 0.0; }); });
    add(
        l, "ones", "float", [s] { return ones(s, f64); }, [s] { return make(s, [](int64_t) { return 1.0; }); });
    add(
        l, "full", "float", [s] { return full(s, -2.5, f64); }, [s] { return make(s, [](int64_t) { return -2.5; }); });
    const auto like = [&](const char* op, Tensor (*f)(const Tensor&), double v) {
      l.samples.push_back(
          {.op = op,
           .variant = "as its model",
           .inputs = {values(s, 1)},
           .call = [f](const Tensors& x) -> Tensors { return {f(x[0])}; },
           .reference = [v](const Tensors& x) -> Tensors { return {map1(x[0], [v](double) { return v; })}; },
           .order = 0});
    };
    like("zeros_like", zeros_like, 0);
    like("ones_like", ones_like, 1);
    like(
        "full_like", [](const Tensor& x) { return full_like(x, 0.25); }, 0.25);
  }
  add(
      l, "full", "integer beyond 2^53", [] { return full({2}, (int64_t{1} << 60) + 1, {.dtype = int64}); },
      [] { return tensor(std::vector<int64_t>(2, (int64_t{1} << 60) + 1), {2}); });
  add(
      l, "full", "bool", [] { return full({2}, 3, {.dtype = boolean}); },
      [] {
        return tensor(std::vector<bool>{true, true}, {2});
      });
  add(
      l, "scalar", "float", [] { return scalar(1.25, f64); }, [] { return make({}, [](int64_t) { return 1.25; }); });
  add(
      l, "eye", "square", [] { return eye(3, -1, f64); },
      [] {
        return make({3, 3}, [](int64_t i) { return i % 4 == 0 ? 1.0 : 0.0; });
      });
  add(
      l, "eye", "wide, of integers", [] { return eye(2, 5, {.dtype = int64}); },
      [] {
        return whole_numbers({2, 5}, [](int64_t i) { return i == 0 || i == 6 ? 1.0 : 0.0; });
      });
  add(
      l, "eye", "tall", [] { return eye(3, 1); },
      [] {
        return make({3, 1}, [](int64_t i) { return i == 0; });
      });
  add(
      l, "eye", "none", [] { return eye(0); },
      [] {
        return make({0, 0}, [](int64_t) { return 0.0; });
      });
}

void add_ranges(SampleList& l) {
  add(
      l, "arange", "to an end", [] { return arange(5); },
      [] { return whole_numbers({5}, [](int64_t i) { return static_cast<double>(i); }); });
  add(
      l, "arange", "with a step", [] { return arange(2, 11, 3); },
      [] {
        return tensor(std::vector<int64_t>{2, 5, 8}, {3});
      });
  add(
      l, "arange", "the end is left out", [] { return arange(2, 8, 3); },
      [] {
        return tensor(std::vector<int64_t>{2, 5}, {2});
      });
  add(
      l, "arange", "downwards", [] { return arange(3, -4, -2); },
      [] {
        return tensor(std::vector<int64_t>{3, 1, -1, -3}, {4});
      });
  add(
      l, "arange", "none", [] { return arange(3, 3); }, [] { return zeros({0}, {.dtype = int64}); });
  add(
      l, "arange", "none, the wrong way", [] { return arange(3, 0); }, [] { return zeros({0}, {.dtype = int64}); });
  add(
      l, "arange", "fractions", [] { return arange(0.5, 2.0, 0.25, f64); },
      [] { return make({6}, [](int64_t i) { return 0.5 + 0.25 * static_cast<double>(i); }); });
  add(
      l, "arange", "fractions downwards", [] { return arange(1.0, -1.0, -0.75, f64); },
      [] {
        return tensor(std::vector<double>{1, 0.25, -0.5}, {3});
      });
  for (const int64_t n : {0, 1, 2, 7}) {
    add(
        l, "linspace", "both ends", [n] { return linspace(-1.5, 2.25, n, f64); },
        [n] {
          return make({n}, [n](int64_t i) {
            const double t = n > 1 ? static_cast<double>(i) / static_cast<double>(n - 1) : 0;
            return -1.5 * (1 - t) + 2.25 * t;
          });
        });
  }
  add(
      l, "tensor", "list of floats",
      [] {
        return tensor({1.5f, -2.0f});
      },
      [] { return make({2}, [](int64_t i) { return i == 0 ? 1.5 : -2.0; }); });
  add(
      l, "tensor", "values and shape",
      [] {
        return tensor(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3});
      },
      [] {
        return make({2, 3}, [](int64_t i) { return static_cast<double>(i + 1); });
      });
  add(
      l, "tensor", "another dtype",
      [] {
        return tensor(std::vector<double>{1.5, 2.25}, {2}, {.dtype = bfloat16});
      },
      [] { return make({2}, [](int64_t i) { return i == 0 ? 1.5 : 2.25; }); });
}

}  // namespace

void create_samples(SampleList& l) {
  add_filled(l);
  add_ranges(l);
  const auto error = [&](const char* op, std::function<void()> call, const char* message) {
    l.errors.push_back({op, std::move(call), message});
  };
  error(
      "zeros",
      [] {
        zeros({2, -1});
      },
      "empty: negative size in [2, -1]");
  error(
      "tensor",
      [] {
        tensor(std::vector<float>{1, 2, 3}, {2, 2});
      },
      "tensor: 3 values for shape [2, 2]");
  error(
      "arange", [] { arange(0, 5, 0); }, "arange: step must not be 0");
  error(
      "arange", [] { arange(0.0, 1.0, 0.0, {}); }, "arange: step must be finite and not 0");
  error(
      "arange", [] { arange(0.0, 1e200, 1e-9, {}); }, "arange: from 0 to 1e+200 by 1e-09 are too many values");
  error(
      "linspace", [] { linspace(0, 1, -2); }, "linspace: steps must not be negative, got -2");
  error(
      "eye", [] { eye(-1); }, "eye: n must not be negative, got -1");
  error(
      "ones", [] { ones({2}, {.dtype = int64, .requires_grad = true}); },
      "requires_grad_: only floating tensors have gradients, this one is int64");
}

}  // namespace weft::test
