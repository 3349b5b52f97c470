// Attention on the GPU against the CPU's in float64 on the same rounded inputs: every option alone, many together, odd
// sizes; the same bits twice.
#include <doctest/doctest.h>
#include <weft/weft.h>

#ifdef WEFT_CUDA
#include <weft/cuda/runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

using namespace weft;

namespace {

enum class Extent { none, keys, heads, queries, full };  // of a mask or bias: [b,1,1,m], [h,n,m], [n,1], [b,h,n,m]

struct Case {
  int64_t b = 1, h = 2, hk = 2, n = 65, m = 129, d = 64, dv = 64;
  bool causal = false;
  int left = -1, right = -1;
  Extent mask = Extent::none, bias = Extent::none;
  bool alibi = false, length = false, packed = false, tokens_first = true;
  double dropout = 0, scale = 0;
  AttentionFn fn = AttentionFn::softmax;
};

std::string text(const Case& c) {
  std::string s = "b " + std::to_string(c.b) + " h " + std::to_string(c.h) + "/" + std::to_string(c.hk) + " n " +
                  std::to_string(c.n) + " m " + std::to_string(c.m) + " d " + std::to_string(c.d) + "/" +
                  std::to_string(c.dv);
  if (c.causal) s += " causal";
  if (c.left >= 0) s += " left " + std::to_string(c.left);
  if (c.right >= 0) s += " right " + std::to_string(c.right);
  if (c.mask != Extent::none) s += " mask " + std::to_string(static_cast<int>(c.mask));
  if (c.bias != Extent::none) s += " bias " + std::to_string(static_cast<int>(c.bias));
  if (c.alibi) s += " alibi";
  if (c.length) s += " length";
  if (c.packed) s += " packed";
  if (c.dropout > 0) s += " dropout";
  if (c.scale != 0) s += " scale";
  if (c.fn != AttentionFn::softmax) s += c.fn == AttentionFn::laplace ? " laplace" : " relu";
  return s;
}

Shape shape_of(Extent e, const Case& c) {
  switch (e) {
    case Extent::keys:
      return {c.b, 1, 1, c.m};
    case Extent::heads:
      return {c.h, c.n, c.m};
    case Extent::queries:
      return {c.n, 1};
    default:
      return {c.b, c.h, c.n, c.m};
  }
}

// q, k, v and a bias, and an upstream gradient; those that are not floating, and slopes, in options.
struct Inputs {
  Tensors x;
  Tensor dy, dlse;
  AttentionOptions options;
  Tensor cu_q, cu_k;
};

Inputs inputs(const Case& c, DType dtype) {
  Generator g(7);
  auto draw = [&](const Shape& shape) { return randn(shape, {.dtype = float32}, g).to(dtype); };
  auto heads = [&](int64_t h, int64_t n, int64_t d) {  // as a projection gives them, or one head after another
    if (c.packed) return draw({n, h, d});
    return c.tokens_first ? transpose(draw({c.b, n, h, d}), 1, 2) : draw({c.b, h, n, d});
  };
  Inputs in;
  in.x = {heads(c.h, c.n, c.d), heads(c.hk, c.m, c.d), heads(c.hk, c.m, c.dv)};
  in.dy = heads(c.h, c.n, c.dv);
  if (!c.packed) in.dlse = randn({c.b, c.h, c.n}, {.dtype = float32}, g);
  AttentionOptions& o = in.options;
  if (c.mask != Extent::none) o.mask = ge(rand(shape_of(c.mask, c), {}, g), 0.3);
  if (c.bias != Extent::none) in.x.push_back(draw(shape_of(c.bias, c)));
  o.causal = c.causal, o.dropout = c.dropout, o.fn = c.fn;
  o.window_left =
      c.left >= 0 ? c.left : 1 << 20;  // a window that hides nothing: not the plain cases of Hopper's kernels
  if (c.right >= 0) o.window_right = c.right;
  if (c.scale != 0) o.scale = c.scale;
  const int64_t sequences = c.packed ? 3 : c.b;
  if (c.alibi) o.alibi_slopes = rand({sequences, c.h}, {}, g);
  if (c.length) o.kv_length = add(randint(0, c.m, {c.b}, {.dtype = int64}, g), 1);
  if (c.packed) {
    in.cu_q = tensor(std::vector<int64_t>{0, c.n / 4, c.n / 4, c.n}, {4});
    in.cu_k = tensor(std::vector<int64_t>{0, c.m / 3, c.m / 2, c.m}, {4});
  }
  return in;
}

// {out, lse where there is one, dq, dk, dv, dbias where there is one}
Tensors results(const Case& c, Inputs in, Device device, DType dtype, bool backward) {
  Tensors x;
  auto moved = [&](const Tensor& t) { return t.defined() ? t.to(device) : t; };
  for (const Tensor& t : in.x) x.push_back(moved(t.to(dtype)).detach().requires_grad_(backward));
  AttentionOptions o = in.options;
  o.mask = moved(o.mask), o.alibi_slopes = moved(o.alibi_slopes), o.kv_length = moved(o.kv_length);
  if (x.size() > 3) o.bias = x[3];
  Generator g(11);
  Tensors y, dy;
  if (c.packed)
    y = {attention_varlen(x[0], x[1], x[2], moved(in.cu_q), moved(in.cu_k), c.n, c.m, o, g)};
  else if (c.fn != AttentionFn::softmax)
    y = {scaled_dot_product_attention(x[0], x[1], x[2], o, g)};
  else {
    const auto [out, lse] = attention_with_lse(x[0], x[1], x[2], o, g);
    y = {out, lse};
  }
  dy = {moved(in.dy.to(dtype))};
  if (y.size() > 1) dy.push_back(moved(in.dlse.to(y[1].dtype())));
  if (backward) {
    for (const Tensor& t : grad(y, x, dy)) y.push_back(t);
  }
  for (Tensor& t : y) t = t.detach().cpu();
  return y;
}

// ‖got - want‖ / ‖want‖, where -∞ must meet -∞; NaN never passes.
double error(const Tensor& got, const Tensor& want) {
  const Tensor g = got.to(float64), w = want.to(float64), finite = isfinite(w);
  if (!all(eq(isfinite(g), finite)).item<int64_t>()) return INFINITY;
  const double size = std::sqrt(sum(square(where(finite, w, 0.0))).item());
  return std::sqrt(sum(square(where(finite, g - w, 0.0))).item()) / std::max(size, 1e-3);
}

// Where the first wrong elements are, to find a fault at the first run.
std::string wrong(const Tensor& got, const Tensor& want, double bound) {
  const std::vector<double> g = got.to(float64).to_vector<double>(), w = want.to(float64).to_vector<double>();
  std::string s = concat(want.shape());
  int found = 0;
  for (size_t i = 0; i < g.size() && found < 6; ++i) {
    if (std::abs(g[i] - w[i]) <= 5 * bound * (1 + std::abs(w[i])) || g[i] == w[i]) continue;
    ++found;
    s += " [" + std::to_string(i) + "] " + std::to_string(g[i]) + " not " + std::to_string(w[i]);
  }
  return s;
}

bool has_gpu() {
  if (cuda::device_count() > 0) return true;
  MESSAGE("there is no GPU: skipped");
  return false;
}

void compare(const Case& c, DType dtype, bool backward) {
  const double bound = dtype == float32 ? 2e-5 : dtype == float64 ? 1e-9 : dtype == float16 ? 2e-3 : 1e-2;
  const std::string what = std::string(name(dtype)) + " " + text(c);
  if (std::getenv("WEFT_TEST_PROGRESS")) std::fprintf(stderr, "%s\n", what.c_str());
  const Inputs in = inputs(c, dtype);
  const Tensors want = results(c, in, Device::cpu(), float64, backward),
                got = results(c, in, Device::cuda(), dtype, backward);
  for (size_t i = 0; i < want.size(); ++i) {
    const double e = error(got[i], want[i]);
    CHECK_MESSAGE(e <= bound, what << ": result " << i << " error " << e << " " << wrong(got[i], want[i], bound));
  }
}

std::vector<Case> each_option() {
  const AttentionFn laplace = AttentionFn::laplace, relu = AttentionFn::relu_squared;
  std::vector<Case> all = {
      {},
      {.d = 128, .dv = 128},
      {.n = 300, .m = 300, .causal = true},
      {.b = 2, .h = 4, .hk = 2, .n = 127, .m = 300, .d = 128, .dv = 128, .causal = true},
      {.n = 300, .m = 63, .causal = true},
      {.n = 300, .m = 300, .left = 20, .right = 5},
      {.n = 200, .m = 300, .d = 128, .dv = 128, .causal = true, .left = 70},
      {.b = 2, .mask = Extent::keys},
      {.b = 2, .d = 128, .dv = 128, .mask = Extent::full},
      {.b = 2, .h = 3, .hk = 3, .n = 129, .m = 130, .bias = Extent::heads},
      {.b = 3, .mask = Extent::keys, .bias = Extent::keys},
      {.b = 2, .bias = Extent::queries},
      {.b = 2, .d = 128, .dv = 128, .causal = true, .bias = Extent::full},
      {.b = 2, .h = 4, .hk = 1, .causal = true, .alibi = true},
      {.b = 3, .n = 65, .m = 300, .length = true},
      {.b = 2, .h = 4, .hk = 2, .n = 1, .m = 1000, .d = 128, .dv = 128, .causal = true, .length = true},
      {.b = 2, .h = 4, .hk = 2, .n = 3, .m = 1000, .causal = true, .length = true},
      {.n = 300, .m = 300, .causal = true, .packed = true},
      {.h = 4, .hk = 2, .n = 200, .m = 330, .d = 128, .dv = 128, .alibi = true, .packed = true},
      {.m = 132, .dropout = 0.3},
      {.d = 128, .dv = 128, .causal = true, .dropout = 0.3},
      {.n = 165, .m = 132, .packed = true, .dropout = 0.3},
      {.scale = -0.3},
      {.n = 129, .m = 300, .d = 128, .dv = 1024, .causal = true, .scale = 0.02, .fn = laplace},
      {.b = 2, .bias = Extent::heads, .scale = 0.05, .fn = relu},
      {.b = 3,
       .h = 4,
       .hk = 4,
       .n = 64,
       .m = 64,
       .dv = 512,
       .causal = true,
       .bias = Extent::queries,
       .tokens_first = false,
       .scale = 0.05,
       .fn = laplace},
      {.b = 2,
       .n = 65,
       .m = 67,
       .dv = 320,
       .left = 20,
       .right = 9,
       .mask = Extent::keys,
       .bias = Extent::heads,
       .scale = 0.05,
       .fn = relu},
      {.n = 48, .m = 32, .dv = 264, .mask = Extent::full, .bias = Extent::full, .scale = 0.1, .fn = laplace},
      {.b = 2,
       .n = 2400,
       .m = 2400,
       .d = 16,
       .dv = 136,
       .causal = true,
       .bias = Extent::heads,
       .scale = 0.1,
       .fn = relu},
      {.b = 40,
       .n = 250,
       .m = 250,
       .d = 16,
       .dv = 128,
       .mask = Extent::keys,
       .tokens_first = false,
       .dropout = 0.2,
       .scale = 0.1,
       .fn = laplace},
      {.b = 3, .h = 3, .hk = 3, .n = 200, .m = 129, .dv = 160, .causal = true, .alibi = true, .scale = 0.1, .fn = relu},
      {.tokens_first = false},
      {.n = 1, .m = 1},
      {.n = 17, .m = 63, .mask = Extent::full, .dropout = 1},
  };
  for (int64_t d : {16, 17, 32, 40, 80, 96, 160, 192, 256}) all.push_back({.n = 65, .m = 127, .d = d, .dv = d});
  return all;
}

Case any_case(std::mt19937& r) {
  auto one_of = [&](std::initializer_list<int64_t> values) { return *(values.begin() + r() % values.size()); };
  auto rarely = [&] { return r() % 4 == 0; };
  Case c;
  c.b = one_of({1, 2, 3}), c.hk = one_of({1, 2}), c.h = c.hk * one_of({1, 1, 2, 3});
  c.n = one_of({1, 17, 63, 65, 127, 129, 300}), c.m = one_of({1, 17, 63, 65, 127, 128, 129, 300});
  c.d = one_of({16, 32, 40, 64, 64, 80, 96, 128, 128, 160, 192, 256});
  c.dv = rarely() ? one_of({24, 64, 200, 1024}) : c.d;
  c.causal = r() % 2, c.tokens_first = r() % 2;
  if (rarely()) c.left = static_cast<int>(r() % 100);
  if (rarely()) c.right = static_cast<int>(r() % 100);
  c.packed = c.b == 1 && rarely();
  const Extent extents[] = {Extent::keys, Extent::heads, Extent::queries, Extent::full};
  if (!c.packed) {
    c.length = rarely();
    if (rarely()) c.mask = extents[r() % 4];
    if (rarely()) c.bias = extents[r() % 4];
  }
  c.alibi = rarely();
  if (rarely()) c.dropout = 0.25;
  if (rarely()) c.fn = r() % 2 ? AttentionFn::laplace : AttentionFn::relu_squared, c.scale = 0.5 / double(c.d);
  return c;
}

void compare_many() {
  for (const Case& c : each_option()) compare(c, bfloat16, true);
  for (const Case& c : {Case{}, Case{.d = 128, .dv = 128, .causal = true}, Case{.mask = Extent::keys, .dropout = 0.2}})
    compare(c, float16, true);
  std::mt19937 r(5);
  for (int i = 0; i < 40; ++i) compare(any_case(r), i % 8 == 0 ? float16 : bfloat16, true);
}

}  // namespace

TEST_CASE("attention on the GPU: without gradients") {  // inference has a path of its own for few queries
  if (!has_gpu()) return;
  for (const Case& c :
       {Case{.b = 2, .h = 8, .hk = 2, .n = 1, .m = 2000, .d = 128, .dv = 128, .causal = true, .length = true},
        Case{.h = 4, .hk = 1, .n = 5, .m = 3000, .causal = true},
        Case{.b = 4, .h = 4, .hk = 4, .n = 1, .m = 1500, .d = 80, .dv = 80, .mask = Extent::keys}})
    for (const DType dtype : {bfloat16, float32}) compare(c, dtype, false);
  for (const DType dtype : {float32, float64})
    for (Case c : each_option())
      for (const int64_t n : {1, 7, 8}) {
        if (!c.packed) c.n = n;
        compare(c, dtype, false);
      }
}

TEST_CASE("attention on the GPU: gradients") {
  if (has_gpu()) compare_many();
}

TEST_CASE("attention on the GPU: wide values") {  // by products over a kept matrix of weights
  if (!has_gpu()) return;
  for (const Case& c : {Case{.n = 65,
                       .m = 67,
                       .d = 16,
                       .dv = 136,
                       .causal = true,
                       .bias = Extent::heads,
                       .scale = 0.1,
                       .fn = AttentionFn::relu_squared},
                        Case{.b = 3,
                        .n = 30,
                        .m = 41,
                        .d = 24,
                        .dv = 128,
                        .mask = Extent::keys,
                        .dropout = 0.2,
                        .scale = 0.1,
                        .fn = AttentionFn::laplace}})
    compare(c, bfloat16, true);
}

TEST_CASE("attention on the GPU: more heads than a grid has rows") {
  if (!has_gpu()) return;
  for (const DType dtype : {float32, bfloat16})
    for (const bool gradients : {false, true})
      compare(Case{.b = 35000, .h = 2, .hk = 2, .n = 2, .m = 3, .d = 16, .dv = 16, .causal = true}, dtype, gradients);
}

TEST_CASE("attention on the GPU: float32 and float64") {
  if (!has_gpu()) return;
  for (const Case& c : each_option()) compare(c, float32, true);
  std::mt19937 r(6);
  for (int i = 0; i < 20; ++i) compare(any_case(r), i % 4 == 0 ? float64 : float32, true);
}

TEST_CASE("attention on the GPU: the same bits twice") {
  if (!has_gpu()) return;
  for (const Case& c : {Case{.b = 4, .h = 8, .hk = 8, .n = 1000, .m = 1000, .causal = true},
                        Case{.b = 2, .h = 8, .hk = 8, .n = 500, .m = 700, .d = 128, .dv = 128, .bias = Extent::heads},
                        Case{.b = 2, .h = 8, .hk = 2, .n = 300, .m = 900, .mask = Extent::keys, .dropout = 0.1}}) {
    const Inputs in = inputs(c, bfloat16);
    const Tensors first = results(c, in, Device::cuda(), bfloat16, true);
    for (int i = 0; i < 5; ++i) {
      const Tensors again = results(c, in, Device::cuda(), bfloat16, true);
      for (size_t k = 0; k < first.size(); ++k)
        CHECK_MESSAGE(all(eq(first[k], again[k])).item<int64_t>() == 1, text(c) << ": result " << k << " differs");
    }
  }
}
#endif
