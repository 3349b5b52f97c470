// Products, dense layers and convolutions on the GPU against float64 on the CPU: shapes that the samples are too small
// for, odd addresses, mixed precision, graphs.
#include "cuda/gpu.h"

#include <weft/ops/product_op.h>

#include "support/walker.h"

#include <array>
#include <cmath>

using namespace weft;
using namespace weft::test;

namespace {

// Leaves NaN in memory that the next results are made in.
void poison() {
  for (const int64_t n : {int64_t{1} << 10, int64_t{1} << 16, int64_t{1} << 21})
    full({n}, std::nan(""), {.device = Device::cuda()});
}

double limit(DType d) { return d == float64 ? 1e-12 : d == float32 ? 3e-6 : d == bfloat16 ? 8e-3 : 1.5e-3; }

Tensor random(const Shape& shape, uint64_t seed, DType d) {
  return values(shape, seed, -1, 1).to(d).to(Device::cuda());
}
Tensor exact(const Tensor& x) { return x.defined() ? x.detach().cpu().to(float64).contiguous() : x; }

void same(const char* what, const Tensor& got, const Tensor& want, double bound) {
  INFO(what, " ", concat(got.shape(), " ", got.dtype()));
  CHECK(got.shape() == want.shape());
  if (got.shape() == want.shape()) CHECK(relative_error(got.detach().cpu(), want) <= bound);
}

// f and its gradients by all inputs against f in float64 on the CPU.
void compare(const std::string& name, const std::function<Tensor(const Tensors&)>& f, const Tensors& inputs, DType d,
             double scale = 1) {
  INFO(name, " in ", weft::name(d));
  Tensors x, p;
  for (const Tensor& t : inputs) {
    x.push_back(t.detach().requires_grad_());
    p.push_back(exact(t).requires_grad_());
  }
  poison();
  const Tensor y = f(x), want = [&] {
    const DefaultDevice on_the_cpu(Device::cpu());
    return f(p);
  }();
  same("value", y, want, limit(d) * scale);
  const Tensor dy = random(y.shape(), 99, y.dtype());
  poison();
  const Tensors g = grad({y}, x, {dy}), h = grad({want}, p, {exact(dy)});
  for (size_t i = 0; i < g.size(); ++i) {
    INFO("gradient ", i);
    CHECK(g[i].dtype() == x[i].dtype());
    same("gradient", g[i], h[i], 2 * limit(d) * scale);
  }
}

const std::initializer_list<DType> kFloats = {float64, float32, bfloat16, float16};

}  // namespace

TEST_CASE("cuda matmul: every layout of operands, sizes from 1 up") {
  NEEDS_GPU();
  const std::initializer_list<std::array<int64_t, 3>> sizes = {{1, 1, 1},       {1, 64, 33},     {65, 1, 40},
                                                               {7, 9, 1},       {16, 8, 24},     {127, 65, 33},
                                                               {256, 384, 128}, {33, 512, 1000}, {2, 50, 4097}};
  for (const DType d : kFloats) {
    for (const auto& [m, n, k] : sizes) {
      for (const int transposed : {0, 1, 2, 3}) {
        const bool ta = transposed & 1, tb = transposed & 2;
        const Tensor a = random(ta ? Shape{k, m} : Shape{m, k}, 1, d), b = random(tb ? Shape{n, k} : Shape{k, n}, 2, d);
        compare(
            concat(m, "x", n, "x", k, ta ? " T" : " N", tb ? "T" : "N"),
            [=](const Tensors& x) { return matmul(ta ? x[0].t() : x[0], tb ? x[1].t() : x[1]); }, {a, b}, d);
      }
    }
  }
}

TEST_CASE("cuda matmul: views at odd addresses and with longer rows") {
  NEEDS_GPU();
  for (const DType d : kFloats) {
    for (const int64_t shift : {1, 2, 3, 5, 8}) {
      const Tensor a = random({70, 91}, 1, d), b = random({90, 77}, 2, d);
      compare(
          concat("offset ", shift),
          [=](const Tensors& x) {
            return matmul(x[0].narrow(1, shift, 40).narrow(0, 3, 33), x[1].narrow(0, shift, 40).narrow(1, 1, 51));
          },
          {a, b}, d);
    }
  }
}

TEST_CASE("cuda matmul: batches that repeat, that do not merge, of many") {
  NEEDS_GPU();
  using Pair = std::pair<Shape, Shape>;
  for (const DType d : kFloats) {
    for (const auto& [a, b] :
         {Pair{{3, 5, 20, 30}, {30, 17}}, Pair{{20, 30}, {6, 30, 17}}, Pair{{4, 1, 9, 16}, {1, 5, 16, 8}},
          Pair{{2, 1, 3, 16}, {40, 16, 24}}, Pair{{5, 1, 16}, {16, 24}}, Pair{{1500, 4, 6}, {1500, 6, 8}},
          Pair{{70000, 2, 3}, {70000, 3, 2}}, Pair{{9, 1, 4, 6}, {1, 9, 6, 8}}}) {
      compare(
          concat(a, " x ", b), [](const Tensors& x) { return matmul(x[0], x[1]); }, {random(a, 1, d), random(b, 2, d)},
          d);
    }
    compare(
        "heads",
        [](const Tensors& x) {
          return matmul(x[0].transpose(1, 2), x[1].permute({0, 2, 3, 1}));
        },
        {random({3, 40, 6, 32}, 1, d), random({3, 50, 6, 32}, 2, d)}, d);
    compare(
        "einsum",
        [](const Tensors& x) {
          return einsum("b g n d, b g n e -> b g d e", {x[0], x[1]});
        },
        {random({2, 5, 64, 16}, 1, d), random({2, 5, 64, 24}, 2, d)}, d);
  }
}

TEST_CASE("cuda matmul: no inner size, integers, TF32, errors") {
  NEEDS_GPU();
  poison();
  CHECK(relative_error(matmul(zeros({5, 0}), zeros({0, 3})).cpu(), zeros({5, 3}).cpu()) == 0);
  CHECK(relative_error(linear(zeros({5, 0}), zeros({3, 0}), ones({3})).cpu(), ones({5, 3}).cpu()) == 0);
  const Tensor a = randint(-9, 9, {2, 33, 20}), b = randint(-9, 9, {20, 7});
  CHECK(different_bits(matmul(a, b), matmul(a.cpu(), b.cpu())) == 0);

  const Tensor x = random({256, 300}, 1, float32), w = random({300, 200}, 2, float32),
               want = matmul(exact(x), exact(w));
  CHECK(!tf32_allowed());
  CHECK(relative_error(matmul(x, w).cpu(), want) < 1e-6);
  allow_tf32(true);
  const double rounded = relative_error(matmul(x, w).cpu(), want);
  allow_tf32(false);
  CHECK(rounded > 1e-5);
  CHECK(rounded < 1e-3);
  CHECK(message_of([] { matmul(zeros({2, 3}), zeros({4, 5})); }) == "matmul: inner sizes differ: [2, 3] × [4, 5]");
}

TEST_CASE("cuda matmul: large products of rows that begin anywhere") {
  NEEDS_GPU();
  for (const DType d : {bfloat16, float16}) {
    for (const bool turned : {false, true}) {
      compare(
          "odd sizes", [=](const Tensors& x) { return matmul(turned ? x[0].t() : x[0], turned ? x[1].t() : x[1]); },
          {random(turned ? Shape{1301, 1333} : Shape{1333, 1301}, 1, d),
           random(turned ? Shape{1419, 1301} : Shape{1301, 1419}, 2, d)},
          d);
    }
    compare(
        "odd batch", [](const Tensors& x) { return matmul(x[0], x[1]); },
        {random({3, 1300, 959}, 1, d), random({1, 959, 963}, 2, d)}, d);
    for (const Activation act : {Activation::none, Activation::relu, Activation::gelu_tanh})
      compare(
          "odd layer", [=](const Tensors& x) { return linear(x[0], x[1], x[2], act); },
          {random({2520, 1064}, 1, d), random({1309, 1064}, 2, d), random({1309}, 3, d)}, d, 4);
  }
}

TEST_CASE("cuda matmul: products that start from another matrix") {
  NEEDS_GPU();
  const auto sum = [](const Tensors& x) { return baddbmm(x[0], x[1], x[2]); };
  for (const DType d : kFloats) {
    for (const auto& [c, a, b] : {std::array<Shape, 3>{Shape{33, 64}, {33, 40}, {40, 64}},
                                  {Shape{51}, {33, 40}, {40, 51}},
                                  {Shape{3, 5, 20, 24}, {3, 5, 20, 16}, {3, 5, 16, 24}},
                                  {Shape{3, 1, 20, 24}, {3, 5, 20, 16}, {16, 24}},
                                  {Shape{7, 9}, {7, 0}, {0, 9}}}) {
      compare(concat(c, " + ", a, " x ", b), sum, {random(c, 3, d), random(a, 1, d), random(b, 2, d)}, d);
    }
    compare(
        "views", [=](const Tensors& x) { return baddbmm(x[0].narrow(1, 1, 40), x[1], x[2]); },
        {random({30, 43}, 3, d), random({30, 16}, 1, d), random({16, 40}, 2, d)}, d);
  }
  for (const DType d : {bfloat16, float16})
    compare("odd sizes", sum, {random({1333, 1419}, 3, d), random({1333, 1301}, 1, d), random({1301, 1419}, 2, d)}, d);
  const auto whole = [](const Shape& s) { return randint(-9, 9, s); };
  const Tensor c = whole({4, 6}), a = whole({4, 5}), b = whole({5, 6});
  CHECK(baddbmm(c, a, b).cpu().to_vector<int64_t>() == baddbmm(c.cpu(), a.cpu(), b.cpu()).to_vector<int64_t>());
}

TEST_CASE("cuda matmul: a sum over several products in float32, on rows that begin at whole packs") {
  NEEDS_GPU();
  for (const DType d : kFloats) {
    for (const int64_t n : {57, 64}) {
      const Tensor x = random({300, 40}, 1, d), w = random({n, 40}, 2, d);
      Tensor logits = detail::empty_rows(300, n, d, x.device());
      CHECK(logits.strides()[0] * static_cast<int64_t>(size_of(d)) % 16 == 0);
      poison();
      detail::multiply_into(x, w.t(), logits);
      same("logits", logits, matmul(exact(x), exact(w).t()), limit(d));
      Tensor dw = full({n, 40}, 3, {.dtype = is_half(d) ? float32 : d});
      for (const int64_t begin : {0, 100, 200})
        detail::multiply_into(logits.narrow(0, begin, 100).t(), x.narrow(0, begin, 100), dw, true);
      same("gradient", dw, matmul(exact(logits).t(), exact(x)) + 3.0, is_half(d) ? 1e-6 : 2 * limit(d));
    }
  }
}

TEST_CASE("cuda linear: activations, with and without bias, whole and odd sizes") {
  NEEDS_GPU();
  const std::initializer_list<std::array<int64_t, 3>> sizes = {
      {512, 96, 256}, {37, 33, 19}, {300, 64, 51}, {1, 128, 1}, {2500, 8, 24}};
  for (const DType d : kFloats) {
    for (const Activation act :
         {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_tanh, Activation::silu}) {
      for (const auto& [rows, in, out] : sizes) {
        const Tensor x = random({rows, in}, 1, d), w = random({out, in}, 2, d), b = random({out}, 3, d);
        const std::string name = concat("linear ", rows, "x", in, "x", out, " activation ", static_cast<int>(act));
        // A half's rounding of the argument can turn a relu over, and moves where gelu bends.
        const double scale = act == Activation::none ? 1 : 4;
        compare(
            name, [=](const Tensors& t) { return linear(t[0], t[1], t[2], act); }, {x, w, b}, d, scale);
        compare(
            name + " no bias", [=](const Tensors& t) { return linear(t[0], t[1], {}, act); }, {x, w}, d, scale);
        if (act == Activation::gelu_tanh)
          compare(
              name + " of a transposed weight", [=](const Tensors& t) { return linear(t[0], t[1].t(), t[2], act); },
              {x, w.t().contiguous(), b}, d, scale);
      }
      for (const bool recompute : {false, true}) {
        compare(
            concat("mlp activation ", static_cast<int>(act), " recompute ", recompute),
            [=](const Tensors& t) {
              return mlp(t[0], t[1], t[2], t[3], t[4], {.activation = act, .recompute = recompute});
            },
            {random({260, 40}, 1, d), random({128, 40}, 2, d), random({128}, 3, d), random({48, 128}, 4, d),
             random({48}, 5, d)},
            d, act == Activation::none ? 2 : 4);
      }
    }
  }
}

TEST_CASE("cuda linear: after a gate, whose gradient lies in a part of another") {
  NEEDS_GPU();
  for (const DType d : kFloats) {
    for (const auto& [rows, in, out] : {std::array<int64_t, 3>{50, 64, 24}, {33, 37, 19}}) {
      compare(
          concat(rows, " rows, ", in, " to ", out),
          [](const Tensors& x) {
            const Tensors parts = chunk(x[0], 2, -1);
            return swiglu_linear(silu(parts[0]), parts[1], x[1], x[2]);
          },
          {random({rows, 2 * in}, 1, d), random({out, in}, 2, d), random({out}, 3, d)}, d, 4);
    }
  }
}

TEST_CASE("cuda linear: a NaN stays a NaN through every activation") {
  NEEDS_GPU();
  for (const DType d : kFloats) {
    for (const Activation act :
         {Activation::none, Activation::relu, Activation::gelu, Activation::gelu_tanh, Activation::silu}) {
      Tensor x = ones({16, 32}, {.dtype = d});
      x.select(0, 3).fill_(std::nan(""));
      const Tensor y = linear(x, ones({24, 32}, {.dtype = d}), ones({24}, {.dtype = d}), act);
      INFO(name(d), " activation ", static_cast<int>(act));
      CHECK(std::isnan(y.to_vector<double>()[3 * 24]));
      CHECK(std::isfinite(y.to_vector<double>()[2 * 24]));
    }
  }
}

TEST_CASE("cuda linear: Autocast computes in bfloat16 and gives float32 gradients of float32 quality") {
  NEEDS_GPU();
  for (const Activation act : {Activation::none, Activation::gelu_tanh, Activation::gelu}) {
    const Tensor x0 = random({4096, 64}, 1, bfloat16).to(float32), w0 = random({80, 64}, 2, bfloat16).to(float32),
                 b0 = random({80}, 3, bfloat16).to(float32);
    Tensor x = x0.clone().requires_grad_(), w = w0.clone().requires_grad_(), b = b0.clone().requires_grad_();
    Tensor p = exact(x0).requires_grad_(), q = exact(w0).requires_grad_(), r = exact(b0).requires_grad_();
    Tensor y;
    {
      const Autocast scope(bfloat16);
      y = linear(x, w, b, act);
    }
    CHECK(y.dtype() == bfloat16);
    const Tensor dy = random(y.shape(), 9, bfloat16), want = linear(p, q, r, act);
    const Tensors g = grad({y}, {x, w, b}, {dy}), h = grad({want}, {p, q, r}, {exact(dy)});
    // Without an activation every factor is exact in bfloat16, and the sums are float32's.
    const double bound = act == Activation::none ? limit(float32) : 1e-2;
    for (size_t i = 0; i < 3; ++i) {
      INFO("gradient ", i);
      CHECK(g[i].dtype() == float32);
      same("gradient", g[i], h[i], bound);
    }
  }
}

TEST_CASE("cuda linear: the same bits each time, and from a captured graph") {
  NEEDS_GPU();
  const Tensor x0 = randn({700, 96}), w0 = randn({136, 96}), b0 = randn({136});
  const auto step = [&] {
    Tensor x = x0.detach().requires_grad_(), w = w0.detach().requires_grad_(), b = b0.detach().requires_grad_();
    const Autocast scope(bfloat16);
    return grad({linear(x, w, b, Activation::gelu_tanh).sum()}, {x, w, b});
  };
  const Tensors once = step(), again = step();
  Tensors replayed;
  cuda::Graph graph([&] { replayed = step(); });
  for (int i = 0; i < 4; ++i) graph.run();
  for (size_t i = 0; i < 3; ++i) {
    CHECK(different_bits(once[i], again[i]) == 0);
    CHECK(different_bits(once[i], replayed[i]) == 0);
  }
}

TEST_CASE("cuda linear: a graph inside a long Autocast scope sees changed parameters") {
  NEEDS_GPU();
  const Tensor x = randn({16, 32}), w = randn({8, 32}).requires_grad_();
  Tensor y;
  const Autocast scope(bfloat16);
  linear(x, w);
  cuda::Graph graph([&] { y = linear(x, w); }, {.warmup = 1});
  for (int i = 0; i < 4; ++i) {
    {
      NoGrad guard;
      w.detach().fill_(i);
    }
    graph.run();
    CHECK(different_bits(y.detach(), linear(x, w).detach()) == 0);
  }
}

TEST_CASE("cuda conv: products with patches, depthwise and grouped") {
  NEEDS_GPU();
  struct Case {
    const char* name;
    Shape x, w;
    Conv2dOptions o;
  };
  const std::initializer_list<Case> cases = {
      {"3x3", {3, 16, 30, 41}, {24, 16, 3, 3}, {.padding = {1, 1}}},
      {"stride, dilation", {2, 5, 33, 29}, {7, 5, 3, 2}, {{2, 3}, {2, 1}, {3, 2}, 1}},
      {"pointwise", {4, 32, 19, 17}, {48, 32, 1, 1}, {}},
      {"patches", {3, 3, 64, 66}, {40, 3, 16, 16}, {.stride = {16, 16}}},
      {"grouped", {2, 12, 20, 23}, {18, 4, 3, 3}, {{1, 2}, {1, 1}, {1, 1}, 3}},
      {"depthwise", {2, 40, 1, 700}, {40, 1, 1, 17}, {.padding = {0, 8}, .groups = 40}},
      {"depthwise, two outputs a channel", {2, 8, 13, 31}, {16, 1, 3, 3}, {.padding = {1, 1}, .groups = 8}}};
  for (const DType d : kFloats) {
    for (const Case& c : cases) {
      compare(
          c.name, [&](const Tensors& t) { return conv2d(t[0], t[1], t[2], c.o); },
          {random(c.x, 1, d), random(c.w, 2, d), random({c.w[0]}, 3, d)}, d, 2);
    }
  }
}
