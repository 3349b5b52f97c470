#include <doctest/doctest.h>
#include <weft/weft.h>

using namespace weft;

TEST_CASE("autograd: a reused node waits for all of its users") {
  Tensor x = tensor({2.0f}).requires_grad_();
  Tensor y = x * x;      // 4
  Tensor z = y * y + y;  // y⁴ + y², dz/dx = 4x³ + 2x = 36
  z.sum().backward();
  CHECK(x.grad().item() == doctest::Approx(36));
}

TEST_CASE("autograd: broadcasting is undone and second order works") {
  Tensor x = randn({3, 4}, {.dtype = float64, .requires_grad = true});
  Tensor b = randn({4}, {.dtype = float64, .requires_grad = true});
  Tensor y = exp(x * b).sum();
  Tensor g = grad({y}, {b}, {}, {.create_graph = true})[0];
  CHECK(g.shape() == Shape{4});
  Tensor gg = grad({g.sum()}, {b})[0];  // Σ x² e^{xb}
  Tensor want = sum(square(x) * exp(x * b), 0);
  CHECK(amax(abs(gg - want)).item() < 1e-12);
}

TEST_CASE("autograd: a chain of a million nodes is swept and freed without recursion") {
  Tensor x = tensor({1.0f}).requires_grad_();
  Tensor y = x;
  for (int i = 0; i < 1'000'000; ++i) y = y + 0.0;
  y.backward();
  CHECK(x.grad().item() == 1);
}

TEST_CASE("autograd: changing an input before backward is an error that names the op") {
  Tensor x = tensor({1.0f, 2.0f}).requires_grad_();
  Tensor y = exp(x).sum();
  {
    NoGrad guard;
    x.fill_(3);
  }
  CHECK_THROWS_WITH(y.backward(),
                    "exp: input 0 of shape [2] was changed in place after the forward pass (version 1, saved at "
                    "version 0): backward would use the wrong values");
}

TEST_CASE("matmul and linear agree with the definition") {
  Tensor a = randn({2, 3, 5}, {.dtype = float64, .requires_grad = true}),
         b = randn({5, 4}, {.dtype = float64, .requires_grad = true});
  Tensor y = matmul(a, b);
  Tensor want = sum(unsqueeze(a, -1) * b, -2);
  CHECK(amax(abs(y - want)).item() < 1e-12);
  Tensor bias = randn({4}, {.dtype = float64, .requires_grad = true});
  Tensor l = linear(a, b.t(), bias, Activation::gelu);
  CHECK(amax(abs(l - gelu(want + bias))).item() < 1e-12);
  auto g = grad({l.sum()}, {a, b, bias}), h = grad({gelu(want + bias).sum()}, {a, b, bias});
  for (int i = 0; i < 3; ++i) CHECK(amax(abs(g[i] - h[i])).item() < 1e-10);
}
