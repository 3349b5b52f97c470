// Attention on a Hopper GPU against the CPU's, and, with WEFT_TIME_ATTENTION set, its speed.
#include <doctest/doctest.h>
#include <weft/weft.h>

#ifdef WEFT_CUDA
#include <weft/cuda/attention_hopper.h>
#include <weft/cuda/runtime.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <tuple>

using namespace weft;

namespace {

bool has_hopper() {
  Tensor q, none;
  try {
    q = zeros({1, 1, 1, 64}, {.dtype = bfloat16, .device = Device::cuda()});
  } catch (const Error&) {
    return false;
  }
  Tensor out = empty_like(q), lse = empty({1, 1, 1}, float32, q.device());
  return cuda::hopper_forward(q, q, q, none, none, {}, out, lse);
}

struct Case {
  int64_t b, h, hk, n, m, d;
  bool causal;
  DType dtype = bfloat16;
};

std::string text(const Case& c) {
  std::string s;
  for (const int64_t x : {c.b, c.h, c.hk, c.n, c.m, c.d}) s += std::to_string(x) + " ";
  return s + (c.causal ? "causal" : "full");
}

// ‖got - want‖ / ‖want‖, where -∞ must meet -∞.
double error(const Tensor& got, const Tensor& want) {
  const Tensor g = got.cpu().to(float64), w = want.cpu().to(float64), finite = isfinite(w);
  if (!all(eq(isfinite(g), finite)).item<int64_t>()) return NAN;
  const double size = std::sqrt(sum(square(where(finite, w, 0.0))).item());
  return std::sqrt(sum(square(where(finite, g - w, 0.0))).item()) / std::max(size, 1e-6);
}

// Which rows are wrong: the first few (b, h, i) whose error is large, to find a fault at the first run.
std::string wrong_rows(const Tensor& got, const Tensor& want) {
  const Tensor g = got.cpu().to(float32).contiguous(), w = want.cpu().to(float32).contiguous();
  const int64_t d = g.size(-1), n = g.size(-2);
  std::string text;
  int found = 0;
  for (int64_t r = 0; r < g.numel() / d; ++r) {
    int bad = 0, first = -1;
    for (int64_t e = 0; e < d; ++e) {
      const float x = g.data<float>()[r * d + e], y = w.data<float>()[r * d + e];
      if (!(std::abs(x - y) <= 0.05 + 0.05 * std::abs(y)) && bad++ == 0) first = static_cast<int>(e);
    }
    if (bad == 0 || found++ >= 6) continue;
    text += "\n  head " + std::to_string(r / n) + " row " + std::to_string(r % n) + ": " + std::to_string(bad) +
            " of " + std::to_string(d) + " wrong, first at " + std::to_string(first) + ": " +
            std::to_string(g.data<float>()[r * d + first]) + " for " + std::to_string(w.data<float>()[r * d + first]);
  }
  return found ? std::to_string(found) + " rows" + text : "";
}

// [b, h, n, d] as a view of [b, n, 2h, d]: strides as of heads split from a joint projection.
Tensor heads(int64_t b, int64_t h, int64_t n, int64_t d, DType dtype, Generator& g) {
  return transpose(slice(randn({b, n, 2 * h, d}, {}, g).to(dtype).to(Device::cuda()), 2, h), 1, 2);
}

struct Inputs {
  Tensor q, k, v, dout, dlse;
};
Inputs inputs(const Case& c) {
  Generator g(static_cast<uint64_t>(c.n * 1000 + c.m));
  return {heads(c.b, c.h, c.n, c.d, c.dtype, g), heads(c.b, c.hk, c.m, c.d, c.dtype, g),
          heads(c.b, c.hk, c.m, c.d, c.dtype, g), heads(c.b, c.h, c.n, c.d, c.dtype, g),
          randn({c.b, c.h, c.n}, {}, g).to(Device::cuda())};
}

AttentionArgs args_of(const Case& c) {
  AttentionArgs a;
  a.causal = c.causal;
  a.scale = 1 / std::sqrt(static_cast<double>(c.d));
  return a;
}

// A kernel that waits for ever says nothing: with WEFT_TIME_ATTENTION set, cases are named before they run.
void announce(const Case& c) {
  if (std::getenv("WEFT_TIME_ATTENTION") == nullptr) return;
  std::printf("%s\n", text(c).c_str());
  std::fflush(stdout);
}

Tensor poisoned(const Shape& shape, DType dtype) {
  return full(shape, NAN, {.dtype = dtype, .device = Device::cuda()});
}

const Case kCases[] = {
    {1, 1, 1, 64, 128, 64, false},          {1, 1, 1, 64, 128, 128, false},
    {1, 2, 2, 192, 256, 64, false},         {2, 3, 3, 300, 300, 64, true},
    {2, 3, 3, 300, 300, 128, true},         {1, 4, 2, 129, 517, 128, false},
    {1, 4, 2, 129, 517, 64, true},          {1, 6, 2, 700, 261, 128, true},
    {1, 6, 2, 700, 261, 64, true},          {1, 2, 1, 1, 1000, 128, true},
    {1, 2, 1, 1000, 1, 64, true},           {3, 5, 5, 513, 513, 64, false},
    {1, 2, 2, 300, 300, 64, true, float16}, {1, 2, 2, 300, 300, 128, true, float16},
    {1, 3, 3, 1700, 1700, 64, true},        {1, 2, 1, 2000, 300, 64, false},
    {2, 40, 40, 800, 800, 128, true},       {2, 40, 20, 800, 800, 64, true},
};

}  // namespace

TEST_CASE("attention on Hopper: forward") {
  if (!has_hopper()) return;
  const Tensor none;
  for (const Case& c : kCases) {
    CAPTURE(text(c));
    announce(c);
    const Inputs x = inputs(c);
    const double bound = c.dtype == float16 ? 2e-3 : 1e-2;
    // out as a view of [b, n, h, d], as what joins the heads again would like it.
    Tensor out = transpose(poisoned({c.b, c.n, c.h, c.d}, c.dtype), 1, 2), lse = poisoned({c.b, c.h, c.n}, float32);
    REQUIRE(cuda::hopper_forward(x.q, x.k, x.v, none, none, args_of(c), out, lse));
    const AttentionResult want =
        attention_with_lse(x.q.cpu().to(float32), x.k.cpu().to(float32), x.v.cpu().to(float32), {.causal = c.causal});
    CHECK(error(lse, want.lse) < 1e-4);
    CHECK(error(out, want.out) < bound);
    CHECK(wrong_rows(out, want.out) == "");
  }
}

TEST_CASE("attention on Hopper: backward") {
  if (!has_hopper()) return;
  const Tensor none;
  for (const Case& c : kCases) {
    CAPTURE(text(c));
    announce(c);
    const Inputs x = inputs(c);
    const double bound = c.dtype == float16 ? 4e-3 : 2e-2;
    Tensor out = poisoned({c.b, c.h, c.n, c.d}, c.dtype), lse = poisoned({c.b, c.h, c.n}, float32), dbias;
    REQUIRE(cuda::hopper_forward(x.q, x.k, x.v, none, none, args_of(c), out, lse));
    Tensor dq = transpose(poisoned({c.b, c.n, c.h, c.d}, c.dtype), 1, 2), dk = poisoned({c.b, c.hk, c.m, c.d}, c.dtype),
           dv = poisoned({c.b, c.hk, c.m, c.d}, c.dtype);
    REQUIRE(cuda::hopper_backward(x.q, x.k, x.v, none, none, args_of(c), out, lse, x.dout, x.dlse, dq, dk, dv, dbias));
    Tensors in;
    for (const Tensor& t : {x.q, x.k, x.v}) in.push_back(t.cpu().to(float32).requires_grad_());
    const AttentionResult y = attention_with_lse(in[0], in[1], in[2], {.causal = c.causal});
    const Tensors want = grad({y.out, y.lse}, in, {x.dout.cpu().to(float32), x.dlse.cpu()});
    CHECK(error(dq, want[0]) < bound);
    CHECK(error(dk, want[1]) < bound);
    CHECK(error(dv, want[2]) < bound);
    CHECK(wrong_rows(dq, want[0]) == "");
    CHECK(wrong_rows(dk, want[1]) == "");
    CHECK(wrong_rows(dv, want[2]) == "");
  }
}

TEST_CASE("attention on Hopper: the same bits every time") {
  if (!has_hopper()) return;
  const Tensor none;
  for (const Case& c : {Case{2, 16, 8, 1500, 1500, 128, true}, Case{2, 16, 16, 1500, 1500, 64, false}}) {
    CAPTURE(text(c));
    announce(c);
    const Inputs x = inputs(c);
    Tensor out = empty({c.b, c.h, c.n, c.d}, c.dtype, x.q.device()),
           lse = empty({c.b, c.h, c.n}, float32, x.q.device());
    REQUIRE(cuda::hopper_forward(x.q, x.k, x.v, none, none, args_of(c), out, lse));
    Tensors first;
    for (int i = 0; i < 4; ++i) {
      Tensor dq = poisoned(x.q.shape(), c.dtype), dk = poisoned(x.k.shape(), c.dtype),
             dv = poisoned(x.v.shape(), c.dtype), dbias;
      cuda::hopper_backward(x.q, x.k, x.v, none, none, args_of(c), out, lse, x.dout, none, dq, dk, dv, dbias);
      if (i == 0) first = {dq, dk, dv};
      CHECK(all(eq(dq, first[0])).item<int64_t>() == 1);
      CHECK(all(eq(dk, first[1])).item<int64_t>() == 1);
      CHECK(all(eq(dv, first[2])).item<int64_t>() == 1);
    }
  }
}

TEST_CASE("attention on Hopper: what is not its own is left alone") {
  if (!has_hopper()) return;
  const Tensor none, q = zeros({1, 2, 8, 64}, {.dtype = bfloat16, .device = Device::cuda()}),
                     odd = slice(zeros({1, 2, 8, 65}, {.dtype = bfloat16, .device = Device::cuda()}), 3, 1);
  Tensor out = empty_like(q), lse = empty({1, 2, 8}, float32, q.device());
  CHECK_FALSE(cuda::hopper_forward(odd, q, q, none, none, {}, out, lse));
  CHECK_FALSE(cuda::hopper_forward(q.to(float32), q.to(float32), q.to(float32), none, none, {}, out, lse));
  AttentionArgs laplace, dropout;
  laplace.fn = AttentionFn::laplace, dropout.dropout = 0.5;
  CHECK_FALSE(cuda::hopper_forward(q, q, q, none, none, laplace, out, lse));
  CHECK_FALSE(cuda::hopper_forward(q, q, q, none, none, dropout, out, lse));
  CHECK_FALSE(cuda::hopper_forward(q, q, expand(slice(q, 2, 0, 1), {1, 2, 8, 64}), none, none, {}, out, lse));
}

TEST_CASE("attention on Hopper: speed") {
  if (std::getenv("WEFT_TIME_ATTENTION") == nullptr || !has_hopper()) return;
  const Tensor none;
  for (const auto& [d, n, causal] : std::initializer_list<std::tuple<int64_t, int64_t, bool>>{{64, 1024, true},
                                                                                              {64, 4096, true},
                                                                                              {64, 16384, true},
                                                                                              {64, 16384, false},
                                                                                              {128, 1024, true},
                                                                                              {128, 4096, true},
                                                                                              {128, 16384, true},
                                                                                              {128, 16384, false}}) {
    const int64_t b = 16384 / n, h = 2048 / d;
    auto random = [&] { return randn({b, h, n, d}, {.dtype = bfloat16, .device = Device::cuda()}); };
    const Tensor q = random(), k = random(), v = random(), dout = random();
    AttentionArgs args;
    args.causal = causal, args.scale = 1 / std::sqrt(static_cast<double>(d));
    Tensor out = empty_like(q), lse = empty({b, h, n}, float32, q.device());
    const double flops = 4.0 * n * n * d * h * b / (causal ? 2 : 1);
    auto time = [&](auto&& call, int times) {
      for (int i = 0; i < 3; ++i) call();
      cuda::synchronize();
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < times; ++i) call();
      cuda::synchronize();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / times;
    };
    const int times = n >= 16384 ? 20 : 60;
    const double forward = time([&] { cuda::hopper_forward(q, k, v, none, none, args, out, lse); }, times);
    Tensor dq = empty_like(q), dk = empty_like(q), dv = empty_like(q), dbias;
    const double backward =
        time([&] { cuda::hopper_backward(q, k, v, none, none, args, out, lse, dout, none, dq, dk, dv, dbias); }, times);
    announce({b, h, h, n, n, d, causal});
    std::printf("d %3d n %5d %s forward %6.1f backward %6.1f TFLOP/s\n", int(d), int(n), causal ? "causal" : "full  ",
                flops / forward * 1e-12, 2.5 * flops / backward * 1e-12);
    std::fflush(stdout);
  }
}
#endif
