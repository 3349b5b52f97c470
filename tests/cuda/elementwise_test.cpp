// Elementwise operations, copies and reductions of the GPU against the CPU's: sizes around the edges of packs and
// blocks, offsets that break alignment, broadcasts, strides, all dtypes. Without a GPU there is nothing to do.
#include <doctest/doctest.h>
#include <weft/weft.h>

#ifdef WEFT_CUDA
#include <weft/cuda/runtime.h>
#endif

#include "support/sample.h"

#include <cmath>
#include <functional>

using namespace weft;

namespace {

bool no_gpu() {
#ifdef WEFT_CUDA
  return cuda::device_count() == 0;
#else
  return true;
#endif
}

const DType kAll[] = {float64, float32, bfloat16, float16, int64, int32, uint8, boolean};
const DType kFloats[] = {float64, float32, bfloat16, float16};

double tolerance(DType d) { return d == float64 ? 1e-13 : d == float32 ? 2e-6 : d == bfloat16 ? 8e-3 : 1e-3; }

Tensor input(const Shape& shape, DType dtype, uint64_t seed) {
  if (dtype == boolean) return gt(test::values(shape, seed), 0);
  return test::values(shape, seed, is_floating(dtype) ? -2 : 0, is_floating(dtype) ? 2 : 11).to(dtype);
}

// What a negative number becomes in an unsigned one is nobody's promise.
Tensor castable(const Shape& shape, DType from, DType to) {
  const Tensor x = input(shape, from, 1);
  return to == uint8 && is_floating(from) ? abs(x) : x;
}

// The largest difference, relative where the value is large; -1 where it is fine, NaNs being in the same places.
struct Worst {
  double difference = -1, got = 0, wanted = 0;
  size_t at = 0;
};
Worst compare(const Tensor& got, const Tensor& wanted, double allowed) {
  Worst w;
  const auto a = got.to_vector<double>(), b = wanted.to_vector<double>();
  for (size_t i = 0; i < b.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double d = std::abs(a[i] - b[i]) / std::max(1.0, std::abs(b[i]));
    if (!(d <= allowed) && !(d <= w.difference)) w = {d, a[i], b[i], i};
  }
  return w;
}

// What the next results are likely to be written over.
void poison() {
  for (const int64_t n : {16, 4096, 300000}) full({n}, NAN, {.dtype = float64, .device = Device::cuda()});
}

using Call = std::function<Tensor(const Tensors&)>;

// Calls f on the CPU and on the GPU.
void agree(const std::string& what, const Tensors& inputs, const Call& f, double allowed = 0) {
  Tensors there;
  for (const Tensor& x : inputs) there.push_back(x.to(Device::cuda()));
  const Tensor wanted = f(inputs);
  poison();
  const Tensor got = f(there);
  INFO(what, ", result ", concat(wanted.shape(), " ", wanted.dtype()));
  REQUIRE(got.shape() == wanted.shape());
  REQUIRE(got.dtype() == wanted.dtype());
  const Worst w = compare(got, wanted, allowed);
  INFO("element ", w.at, ": got ", w.got, ", wanted ", w.wanted);
  CHECK(w.difference < 0);
}

std::string label(const char* what, DType d, int64_t n = -1) {
  return n < 0 ? concat(what, " ", name(d)) : concat(what, " ", name(d), " ", n);
}

}  // namespace

TEST_CASE("cuda elementwise: sizes around the edges of packs and blocks, in every dtype") {
  if (no_gpu()) return;
  for (const DType d : kAll) {
    for (const int64_t n :
         {0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 255, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 70001}) {
      const Tensor a = input({n}, d, 1), b = input({n}, d, 2);
      agree(label("maximum", d, n), {a, b}, [](const Tensors& x) { return maximum(x[0], x[1]); });
      agree(
          label("mul", d, n), {a, b}, [](const Tensors& x) { return mul(x[0], x[1]); }, tolerance(d));
      agree(label("lt", d, n), {a, b}, [](const Tensors& x) { return lt(x[0], x[1]); });
      agree(label("where", d, n), {a, b, input({n}, boolean, 3)},
            [](const Tensors& x) { return where(x[2], x[0], x[1]); });
      if (d != boolean) agree(label("neg", d, n), {a}, [](const Tensors& x) { return neg(x[0]); });
    }
  }
}

TEST_CASE("cuda elementwise: offsets that break alignment") {
  if (no_gpu()) return;
  for (const DType d : {float32, bfloat16, uint8}) {
    for (const int64_t from : {0, 1, 2, 4, 8, 16}) {
      for (const int64_t other : {0, 3, 8}) {
        const Tensor a = input({5000}, d, 1), b = input({5000}, d, 2);
        agree(
            concat("add from ", from, " and ", other), {a, b},
            [=](const Tensors& x) {
              return add(slice(x[0], 0, from, from + 4321), slice(x[1], 0, other, other + 4321));
            },
            tolerance(d));
      }
      agree(concat("copy_ to ", from), {input({5000}, d, 3), input({4321}, d, 4)}, [=](const Tensors& x) {
        Tensor y = x[0].clone();
        slice(y, 0, from, from + 4321).copy_(x[1]);
        return y;
      });
      agree(concat("fill_ from ", from), {input({5000}, d, 3)}, [=](const Tensors& x) {
        Tensor y = x[0].clone();
        slice(y, 0, from, from + 4321).fill_(3);
        return y;
      });
    }
  }
}

TEST_CASE("cuda elementwise: broadcasts and strides") {
  if (no_gpu()) return;
  for (const DType d : {float32, bfloat16, float64, int64}) {
    const double t = tolerance(d);
    for (const int64_t n : {1, 3, 8, 24, 64, 513}) {
      const Tensor x = input({3, 17, n}, d, 1);
      auto with = [&](const Shape& shape) {
        agree(
            concat("add ", name(d), " [3, 17, n] and ", shape), {x, input(shape, d, 2)},
            [](const Tensors& v) { return add(v[0], v[1]); }, t);
        agree(
            concat("sub ", name(d), " ", shape, " and [3, 17, n]"), {x, input(shape, d, 2)},
            [](const Tensors& v) { return sub(v[1], v[0]); }, t);
      };
      for (const Shape& shape : {Shape{n}, Shape{17, 1}, Shape{3, 1, 1}, Shape{3, 1, n}, Shape{1}, Shape{17, n}})
        with(shape);
    }
    const Tensor square = input({67, 67}, d, 3), deep = input({5, 6, 7, 16}, d, 4);
    agree(
        "transposed", {square}, [](const Tensors& v) { return add(v[0], v[0].t()); }, t);
    agree(
        "every other column", {square},
        [](const Tensors& v) { return add(slice(v[0], 1, 0, 66, 2), slice(v[0], 1, 1, 67, 2)); }, t);
    agree(
        "permuted", {deep},
        [](const Tensors& v) {
          return mul(v[0].permute({2, 0, 3, 1}), v[0].permute({2, 0, 3, 1}).contiguous());
        },
        t);
    agree(
        "outer", {input({33}, d, 5), input({1, 65}, d, 6)},
        [](const Tensors& v) { return mul(unsqueeze(v[0], 1), v[1]); }, t);
    agree(
        "number", {square}, [](const Tensors& v) { return sub(Scalar(3), v[0]); }, t);
    agree(
        "halves", {input({9, 48}, d, 7)},
        [](const Tensors& v) { return mul(slice(v[0], 1, 0, 24), slice(v[0], 1, 24)); }, t);
  }
}

TEST_CASE("cuda elementwise: operands of two dtypes") {
  if (no_gpu()) return;
  for (const DType a : kAll) {
    for (const DType b : kAll) {
      const DType worse = is_half(a) || is_half(b) ? bfloat16 : float32;
      agree(
          concat(name(a), " + ", name(b)), {input({9, 33}, a, 1), input({33}, b, 2)},
          [](const Tensors& x) { return add(x[0], x[1]); }, tolerance(worse));
      agree(
          concat(name(a), " to ", name(b)), {castable({4099}, a, b)}, [b](const Tensors& x) { return x[0].to(b); },
          is_floating(b) ? tolerance(b) : 0);
      agree(
          concat(name(a), " turned to ", name(b)), {castable({70, 45}, a, b)},
          [b](const Tensors& x) { return x[0].t().to(b).contiguous(); }, is_floating(b) ? tolerance(b) : 0);
    }
  }
}

TEST_CASE("cuda elementwise: every function of one number") {
  if (no_gpu()) return;
  using Function = Tensor (*)(const Tensor&);
  const std::pair<const char*, Function> all[] = {{"neg", neg},
                                                  {"abs", abs},
                                                  {"sign", sign},
                                                  {"square", square},
                                                  {"reciprocal", reciprocal},
                                                  {"exp", exp},
                                                  {"exp2", exp2},
                                                  {"expm1", expm1},
                                                  {"sin", sin},
                                                  {"cos", cos},
                                                  {"tan", tan},
                                                  {"atan", atan},
                                                  {"sinh", sinh},
                                                  {"cosh", cosh},
                                                  {"tanh", tanh},
                                                  {"asinh", asinh},
                                                  {"erf", erf},
                                                  {"erfc", erfc},
                                                  {"sigmoid", sigmoid},
                                                  {"softplus", softplus},
                                                  {"relu", relu},
                                                  {"gelu", gelu},
                                                  {"gelu_tanh", gelu_tanh},
                                                  {"silu", silu},
                                                  {"mish", mish},
                                                  {"floor", floor},
                                                  {"ceil", ceil},
                                                  {"round", round},
                                                  {"trunc", trunc},
                                                  {"log_sigmoid", log_sigmoid},
                                                  {"isfinite", isfinite},
                                                  {"logical_not", logical_not}};
  const std::pair<const char*, Function> positive[] = {{"sqrt", sqrt},    {"rsqrt", rsqrt}, {"log", log},
                                                       {"log2", log2},    {"log10", log10}, {"log1p", log1p},
                                                       {"lgamma", lgamma}};
  const std::pair<const char*, Function> small[] = {{"asin", asin}, {"acos", acos}, {"atanh", atanh}};
  for (const DType d : kFloats) {
    const Tensor x = input({4103}, d, 1), up = add(abs(x), 0.1).to(d), less = mul(x, 0.4).to(d);
    for (const auto& [what, f] : all)
      agree(
          label(what, d), {x}, [f = f](const Tensors& v) { return f(v[0]); }, 4 * tolerance(d));
    for (const auto& [what, f] : positive)
      agree(
          label(what, d), {up}, [f = f](const Tensors& v) { return f(v[0]); }, 4 * tolerance(d));
    for (const auto& [what, f] : small)
      agree(
          label(what, d), {less}, [f = f](const Tensors& v) { return f(v[0]); }, 4 * tolerance(d));
  }
}

TEST_CASE("cuda elementwise: gradients of the activations") {
  if (no_gpu()) return;
  using Function = Tensor (*)(const Tensor&);
  const std::pair<const char*, Function> all[] = {{"relu", relu}, {"gelu", gelu}, {"gelu_tanh", gelu_tanh},
                                                  {"silu", silu}, {"mish", mish}, {"sigmoid", sigmoid},
                                                  {"tanh", tanh}};
  for (const DType d : kFloats) {
    for (const auto& [what, f] : all) {
      agree(
          label(what, d), {input({33, 129}, d, 1), input({33, 129}, d, 2)},
          [f = f](const Tensors& v) {
            const Tensor x = v[0].clone().requires_grad_();
            return grad({f(x)}, {x}, {v[1]})[0];
          },
          4 * tolerance(d));
    }
  }
}

TEST_CASE("cuda copy: every order of four dimensions, forwards and backwards") {
  if (no_gpu()) return;
  for (const DType d : {float64, float32, bfloat16, uint8}) {
    for (const Shape& shape : {Shape{3, 37, 5, 16}, Shape{2, 70, 1, 130}, Shape{9, 8, 10, 11}}) {
      const Tensor x = input(shape, d, 1);
      Shape order{0, 1, 2, 3};
      do {
        agree(concat("permute ", shape, " by ", order, " ", name(d)), {x},
              [&](const Tensors& v) { return v[0].permute(order).contiguous(); });
        agree(concat("into a permuted ", shape, " by ", order, " ", name(d)), {x, input(shape, d, 2)},
              [&](const Tensors& v) {
                Tensor y = v[0].clone();
                y.permute(order).copy_(v[1].permute(order).contiguous());
                return y;
              });
      } while (std::next_permutation(order.begin(), order.end()));
      agree("flip", {x}, [](const Tensors& v) { return flip(v[0], {1, 3}); });
      agree("expand", {slice(x, 1, 0, 1)}, [](const Tensors& v) {
        return expand(v[0], {v[0].size(0), 6, v[0].size(2), v[0].size(3)}).contiguous();
      });
      agree("cat", {x}, [](const Tensors& v) { return cat({v[0], slice(v[0], 1, 1), v[0]}, 1); });
      agree("stack", {x}, [](const Tensors& v) { return stack({v[0], v[0]}, -1); });
      agree("fill", {x}, [](const Tensors& v) {
        Tensor y = v[0].clone();
        slice(y, 3, 1, 9, 3).fill_(2);
        return y;
      });
    }
  }
}

TEST_CASE("cuda reduce: dimensions, dtypes and sizes") {
  if (no_gpu()) return;
  for (const DType d : kAll) {
    const double t = d == float64 ? 1e-12 : d == float32 ? 2e-5 : is_floating(d) ? 2 * tolerance(d) : 0;
    for (const Shape& shape : {Shape{3, 37, 40}, Shape{5, 1, 513}, Shape{1000, 3, 2}, Shape{2, 700, 24}}) {
      const Tensor x = input(shape, d, 1);
      for (const Shape& dims : {Shape{0}, Shape{1}, Shape{2}, Shape{0, 1}, Shape{0, 2}, Shape{1, 2}, Shape{0, 1, 2}}) {
        auto check_op = [&](const char* what, auto f) {
          agree(
              concat(what, " ", shape, " over ", dims, " ", name(d)), {x},
              [&](const Tensors& v) { return f(v[0], Dims(dims)); }, t);
          agree(
              concat(what, " permuted ", shape, " over ", dims, " ", name(d)), {x},
              [&](const Tensors& v) {
                return f(v[0].permute({2, 0, 1}), Dims(dims));
              },
              t);
        };
        check_op("sum", [](const Tensor& v, const Dims& r) {
          return div(sum(v, r), 10).to(v.dtype() == boolean ? float64 : v.dtype());
        });
        check_op("amax", [](const Tensor& v, const Dims& r) { return amax(v, r); });
        check_op("amin", [](const Tensor& v, const Dims& r) { return amin(v, r); });
        check_op("any", [](const Tensor& v, const Dims& r) { return any(gt(v, 1), r); });
        check_op("all", [](const Tensor& v, const Dims& r) { return all(gt(v, 0), r); });
      }
    }
    agree(label("sum of nothing", d), {input({3, 0, 4}, d, 1)}, [](const Tensors& v) { return sum(v[0], 1); });
    agree(
        label("product", d), {input({3, 7}, d, 1)}, [](const Tensors& v) { return prod(v[0], 1); }, 4 * t);
  }
  for (const DType d : {float32, bfloat16}) {
    const Tensor tall = input({5000, 96}, d, 1), wide = input({3, 70000}, d, 2), deep = input({7, 600, 40}, d, 3);
    agree(
        label("sum of columns", d), {tall}, [](const Tensors& v) { return mean(v[0], 0); }, tolerance(d));
    agree(
        label("sum of everything", d), {tall}, [](const Tensors& v) { return mean(v[0]); }, tolerance(d));
    agree(
        label("sum of long rows", d), {wide}, [](const Tensors& v) { return mean(v[0], 1); }, tolerance(d));
    agree(
        label("sum of middle", d), {deep}, [](const Tensors& v) { return mean(v[0], 1); }, tolerance(d));
    agree(
        label("sum of a slice", d), {tall}, [](const Tensors& v) { return mean(slice(v[0], 1, 3, 90), 0); },
        tolerance(d));
  }
}

TEST_CASE("cuda reduce: the same bits each time, NaN wins") {
  if (no_gpu()) return;
  const Tensor x = test::values({300, 1111}, 1).to(float32).to(Device::cuda());
  const auto first = sum(x, 0).to_vector(), all = sum(x).to_vector();
  for (int i = 0; i < 5; ++i) {
    CHECK(sum(x, 0).to_vector() == first);
    CHECK(sum(x).to_vector() == all);
  }
  Tensor y = x.clone();
  slice(slice(y, 0, 17, 18), 1, 1000, 1001).fill_(NAN);
  CHECK(std::isnan(amax(y).item()));
  CHECK(std::isnan(amin(y, 0).to_vector()[1000]));
  CHECK(std::isnan(amax(y, 1).to_vector()[17]));
}

TEST_CASE("cuda scan: along every dimension, both ways") {
  if (no_gpu()) return;
  for (const DType d : {float64, float32, bfloat16, int64, uint8}) {
    const double t = d == float64 ? 1e-11 : d == float32 ? 2e-5 : is_floating(d) ? 4 * tolerance(d) : 0;
    for (const Shape& shape :
         {Shape{3, 37, 40}, Shape{5, 1, 513}, Shape{2, 700, 7}, Shape{1, 1, 20001}, Shape{9000, 1, 5}}) {
      const Tensor x = is_floating(d) ? mul(input(shape, d, 1), 0.1).to(d) : input(shape, d, 1);
      for (const int64_t dim : {0, 1, 2}) {
        for (const bool exclusive : {false, true}) {
          for (const bool reverse : {false, true}) {
            agree(
                concat("cumsum ", shape, " along ", dim, " ", name(d), exclusive ? " exclusive" : "",
                       reverse ? " reverse" : ""),
                {x}, [=](const Tensors& v) { return cumsum(v[0], dim, {.exclusive = exclusive, .reverse = reverse}); },
                t);
          }
        }
        agree(
            concat("cumsum permuted ", shape, " along ", dim, " ", name(d)), {x},
            [=](const Tensors& v) {
              return cumsum(v[0].permute({1, 2, 0}), dim);
            },
            t);
        agree(concat("cummax ", shape, " along ", dim, " ", name(d)), {x},
              [=](const Tensors& v) { return cummax(v[0], dim).indices; });
        agree(concat("cummin ", shape, " along ", dim, " ", name(d)), {x},
              [=](const Tensors& v) { return cummin(v[0], dim).values; });
        if (is_floating(d)) {
          agree(
              concat("logcumsumexp ", shape, " along ", dim, " ", name(d)), {x},
              [=](const Tensors& v) { return logcumsumexp(v[0], dim); }, t);
          agree(
              concat("linear_scan ", shape, " along ", dim, " ", name(d)), {x, x},
              [=](const Tensors& v) { return linear_scan(v[0], v[1], dim, true); }, t);
        }
      }
    }
  }
}

TEST_CASE("cuda sort: the CPU's order, equal elements and NaN included") {
  if (no_gpu()) return;
  for (const DType d : kAll) {
    for (const Shape& shape : {Shape{1}, Shape{3, 8}, Shape{5, 31}, Shape{9, 256}, Shape{4, 257}, Shape{3, 1024},
                               Shape{3, 1025}, Shape{2, 4096}, Shape{3, 4097}, Shape{1, 30000}, Shape{2, 3, 5}}) {
      Tensor x = input(shape, d, 1);  // halves and integers have many equal ones
      if (is_floating(d) && shape.size() == 2) {
        slice(x, 1, 3, 4).fill_(NAN);
        slice(x, 1, 5, 6).fill_(-0.0);
        slice(x, 1, 6, 7).fill_(0.0);
      }
      for (const bool down : {false, true}) {
        agree(concat("argsort ", shape, " ", name(d), " ", down), {x},
              [=](const Tensors& v) { return argsort(v[0], -1, down); });
        agree(concat("argsort 0 ", shape, " ", name(d), " ", down), {x},
              [=](const Tensors& v) { return argsort(v[0], 0, down); });
        for (const int64_t k : {1, 5, 32, 33, 1000}) {
          if (k <= shape.back())
            agree(concat("topk ", k, " of ", shape, " ", name(d), " ", down), {x},
                  [=](const Tensors& v) { return topk(v[0], k, -1, down).indices; });
        }
        for (int64_t dim = 0; dim < shape.size(); ++dim)
          agree(concat("argmax ", shape, " ", dim, " ", name(d), " ", down), {x},
                [=](const Tensors& v) { return down ? argmax(v[0], dim) : argmin(v[0], dim); });
        agree(concat("argmax ", shape, " ", name(d), " ", down), {x},
              [=](const Tensors& v) { return down ? argmax(v[0]) : argmin(v[0]); });
      }
    }
    agree(label("argmax of rows", d), {input({3, 20000}, d, 2)}, [](const Tensors& v) { return argmax(v[0], 1); });
    agree(label("argmax of columns", d), {input({20000, 6}, d, 3)}, [](const Tensors& v) { return argmax(v[0], 0); });
  }
}

TEST_CASE("cuda glu: halves of one tensor, and what a product's factors get") {
  if (no_gpu()) return;
  using Unit = Tensor (*)(const Tensor&, int64_t);
  const std::pair<const char*, Unit> all[] = {{"glu", glu}, {"geglu", geglu}, {"swiglu", swiglu}, {"reglu", reglu}};
  for (const DType d : kFloats) {
    for (const auto& [what, f] : all) {
      for (const int64_t dim : {0, 1}) {
        const Tensor x = input({34, 96}, d, 1), dy = input(dim ? Shape{34, 48} : Shape{17, 96}, d, 2);
        agree(
            label(what, d, dim), {x}, [=, f = f](const Tensors& v) { return f(v[0], dim); }, 2 * tolerance(d));
        agree(
            label(what, d, dim), {x, dy},
            [=, f = f](const Tensors& v) {
              const Tensor in = v[0].clone().requires_grad_();
              return grad({f(in, dim)}, {in}, {v[1]})[0];
            },
            4 * tolerance(d));
      }
    }
    for (const Shape& other : {Shape{33, 64, 24}, Shape{24}, Shape{64, 1}, Shape{33, 1, 1}, Shape{1, 24}, Shape{}}) {
      for (const int which : {0, 1}) {
        agree(
            concat("gradient ", which, " of a product with ", other, " ", name(d)),
            {input({33, 64, 24}, d, 3), mul(input(other, d, 4), 0.1).to(d), input({33, 64, 24}, d, 5)},
            [=](const Tensors& v) {
              const Tensor a = v[0].clone().requires_grad_(), b = v[1].clone().requires_grad_();
              return div(grad({mul(a, b)}, {a, b}, {v[2]})[static_cast<size_t>(which)].to(float64),
                         which && b.numel() < a.numel() ? 100 : 1);
            },
            d == float32 ? 2e-5 : 4 * tolerance(d));
      }
    }
  }
}

TEST_CASE("cuda elementwise: more than 2^31 elements") {
  if (no_gpu()) return;
  const int64_t n = (int64_t{1} << 31) + 12345;
  try {
    Tensor x = full({n}, 1, {.dtype = uint8, .device = Device::cuda()});
    slice(x, 0, n - 3).fill_(2);
    CHECK(sum(x).item<int64_t>() == n + 3);
    const Tensor y = add(x, x);
    CHECK(y[n - 1].item<int64_t>() == 4);
    CHECK(y[n - 4].item<int64_t>() == 2);
    CHECK(y[n / 2].item<int64_t>() == 2);
    CHECK(sum(y).item<int64_t>() == 2 * n + 6);
  } catch (const OutOfMemory&) {
    MESSAGE("skipped: not enough memory");
  }
}
