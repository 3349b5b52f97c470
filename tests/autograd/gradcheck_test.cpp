// Every check of gradcheck must be able to fail: each case here breaks one thing.
#include <doctest/doctest.h>
#include <weft/weft.h>

#include <cmath>

using namespace weft;

namespace {

Tensor variable(const Shape& shape, uint64_t seed = 3) {
  Generator g(seed);
  return randn(shape, {.dtype = float64, .requires_grad = true}, g);
}

// y = x³ with a backward of the caller's choice.
template <class F>
Tensor cube_with(const Tensor& x, F&& backward) {
  Tensor y;
  {
    NoGrad guard;
    y = mul(mul(x, x), x);
  }
  return record("cube", y, {x}, std::forward<F>(backward));
}
Tensor cube(const Tensor& x) {
  return cube_with(x, [x](const Tensor& dy) -> Grads { return {mul(dy, mul(square(x), 3))}; });
}

const GradcheckOptions quiet{.raise_exception = false};

bool has(const CheckResult& r, const char* part) {
  const bool found = !r.ok && r.message.find(part) != std::string::npos;
  if (!found) MESSAGE(r.message);
  return found;
}

}  // namespace

TEST_CASE("gradcheck: right gradients pass, in every form of callable") {
  const Tensor a = variable({2, 3}), b = variable({3}, 4);
  CHECK(gradcheck([](const Tensor& x) { return exp(x) * x; }, {a}));
  CHECK(gradcheck([](const Tensor& x, const Tensor& y) { return x * y; }, {a, b}));
  CHECK(gradcheck([](const Tensors& x) { return x[0] * x[1]; }, {a, b}));
  CHECK(gradcheck([](const Tensors& x) -> Tensors { return {x[0] * x[1], sum(x[0]), gt(x[0], 0)}; }, {a, b}));
  CHECK(gradgradcheck([](const Tensor& x, const Tensor& y) { return sin(x) * exp(y); }, {a, b}));
  CHECK(gradgradcheck([](const Tensors& x) { return x[0] * x[1]; }, {a, b}, {variable({2, 3}, 9)}));
  GradcheckOptions fast;
  fast.fast_mode = true;
  CHECK(gradcheck([](const Tensor& x, const Tensor& y) { return tanh(x) * y; }, {a, b}, fast));
  CHECK(gradgradcheck([](const Tensor& x) { return cube(x); }, {a}, {}, fast));
  CHECK(gradcheck([](const Tensor& x) { return x * 2.0; }, {variable({0, 3})}));
  CHECK(gradcheck([](const Tensor& x) { return x; }, {variable({})}));
}

TEST_CASE("gradcheck: a module's parameters are varied where they are") {
  Tensor w = variable({3, 3});
  const Tensor before = w.detach().clone();
  CHECK(gradcheck([&](const Tensors& x) { return tanh(matmul(x[0], w)); }, {variable({2, 3}, 5), w}));
  CHECK(w.to_vector<double>() == before.to_vector<double>());
  CHECK_FALSE(w.grad().defined());
}

TEST_CASE("gradcheck: a wrong backward is named with its element and both numbers") {
  Tensor x = tensor(std::vector<double>{1, 2, -1}, {3}).requires_grad_();
  const auto f = [](const Tensor& x) {
    return cube_with(x, [x](const Tensor& dy) -> Grads {
      return {mul(dy, mul(square(x), tensor(std::vector<double>{3, 2, 3}, {3})))};  // element 1: 2x² for 3x²
    });
  };
  const CheckResult r = gradcheck(f, {x}, quiet);
  CHECK(has(r,
            "gradcheck: the gradient of output 0 by input 0 is wrong in 1 of 9 entries; the worst: output element [1], "
            "input element [1]: analytic 8, numeric 12"));
  CHECK_THROWS_AS(gradcheck(f, {x}), Error);
  GradcheckOptions fast = quiet;
  fast.fast_mode = true;
  CHECK(has(gradcheck(f, {x}, fast), "input element [1]: analytic 8, numeric 12"));
}

TEST_CASE("gradcheck: the second of two outputs and inputs is told from the first") {
  const Tensor a = variable({2}), b = variable({2}, 6);
  const auto f = [](const Tensors& x) -> Tensors {
    Tensor second;
    {
      NoGrad guard;
      second = x[0] * x[1];
    }
    return {x[0] + x[1], record("product", second, x, [x](const Tensor& dy) -> Grads {
              return {dy * x[1], dy * x[1]};
            })};
  };
  CHECK(has(gradcheck(f, {a, b}, quiet), "the gradient of output 1 by input 1 is wrong"));
}

TEST_CASE("gradcheck: a severed gradient is found") {
  CHECK(has(gradcheck([](const Tensor& x) { return x.detach() * 2.0; }, {variable({2})}, quiet),
            "analytic 0, numeric 2"));
  CHECK(
      has(gradcheck([](const Tensor& x) { return x + x.detach(); }, {variable({2})}, quiet), "analytic 1, numeric 2"));
}

TEST_CASE("gradcheck: NaN never passes") {
  CHECK_FALSE(gradcheck([](const Tensor& x) { return sqrt(x); },
                        {tensor(std::vector<double>{-1}, {1}).requires_grad_()}, quiet));
  const auto nan_back = [](const Tensor& x) {
    return cube_with(x, [](const Tensor& dy) -> Grads { return {mul(dy, std::nan(""))}; });
  };
  CHECK_FALSE(gradcheck(nan_back, {variable({2})}, quiet));
}

TEST_CASE("gradcheck: randomness is named, in values, in runs and in sweeps") {
  CHECK(has(gradcheck([](const Tensor& x) { return dropout(x, 0.5); }, {variable({20})}, quiet),
            "output 0 is not deterministic: element"));
  int calls = 0;
  const auto by_sweep = [&](const Tensor& x) {
    return cube_with(
        x, [&calls, x](const Tensor& dy) -> Grads { return {mul(dy, add(mul(square(x), 3), 1e-9 * ++calls))}; });
  };
  CHECK(has(gradcheck(by_sweep, {variable({2})}, quiet), "the gradient of output 0 by input 0 is not deterministic"));
  GradcheckOptions loose = quiet;
  loose.nondet_tol = 1e-6;
  loose.check_undefined_grad = false;
  CHECK(gradcheck(by_sweep, {variable({2})}, loose));
}

TEST_CASE("gradcheck: a gradient of the wrong shape, number or with a throw is a failure") {
  const auto shape = [](const Tensor& x) {
    return cube_with(x, [](const Tensor& dy) -> Grads { return {dy.narrow(0, 0, 1)}; });
  };
  CHECK(has(gradcheck(shape, {variable({2})}, quiet),
            "backward threw: cube: backward made a gradient of shape [1] for an input of shape [2]"));
  const auto number = [](const Tensor& x) { return cube_with(x, [](const Tensor& dy) -> Grads { return {dy, dy}; }); };
  CHECK(has(gradcheck(number, {variable({2})}, quiet), "cube: backward returned 2 gradients for 1 inputs"));
  const auto throws = [](const Tensor& x) {
    return cube_with(x, [](const Tensor&) -> Grads { fail("no derivative"); });
  };
  CHECK(has(gradcheck(throws, {variable({2})}, quiet), "backward threw: no derivative"));
}

TEST_CASE("gradcheck: an upstream gradient of zeros must give zeros") {
  const auto f = [](const Tensor& x) {
    return cube_with(x, [x](const Tensor& dy) -> Grads { return {add(mul(dy, mul(square(x), 3)), 1e-7)}; });
  };
  CHECK(has(gradcheck(f, {variable({2})}, quiet), "with an upstream gradient of zeros for output 0"));
  GradcheckOptions off = quiet;
  off.check_undefined_grad = false;
  CHECK(gradcheck(f, {variable({2})}, off));
}

TEST_CASE("gradcheck: modifying an input is a failure") {
  const auto f = [](const Tensor& x) {
    Tensor y = x * 2.0;
    NoGrad guard;
    Tensor alias = x.detach();
    alias.copy_(y);
    return y;
  };
  CHECK(has(gradcheck(f, {tensor(std::vector<double>{1, 2}, {2}).requires_grad_()}, quiet),
            "the function modifies input 0 in place: element [0] was 1 and is 2"));
}

TEST_CASE("gradcheck: unfit inputs are refused with a reason") {
  const auto f = [](const Tensor& x) { return x * 2.0; };
  CHECK_THROWS_WITH(gradcheck(f, {zeros({2}, {.requires_grad = true})}),
                    "gradcheck: input 0 is float32; finite differences need float64 (use x.to(float64))");
  CHECK_THROWS_WITH(gradcheck(f, {zeros({2}, {.dtype = float64})}),
                    "gradcheck: no input requires a gradient (call requires_grad_() on those to check)");
  CHECK_THROWS_WITH(gradcheck(f, {zeros({1}, {.dtype = float64}).expand({3}).requires_grad_()}),
                    "gradcheck: input 0 of shape [3] repeats elements along dimension 0; clone it");
  CHECK_THROWS_WITH(gradcheck([](const Tensor& x) { return x.to(float32); }, {variable({2})}),
                    "gradcheck: output 0 is float32; finite differences need float64");
  CHECK_THROWS_WITH(gradcheck([](const Tensor& x, const Tensor& y) { return x + y; }, {variable({2})}),
                    "gradcheck: the function takes 2 tensors, got 1 inputs");
}

TEST_CASE("gradcheck: inputs declared frozen have no gradient") {
  const Tensor a = variable({2}), b = variable({2}, 6);
  GradcheckOptions o = quiet;
  o.frozen = {1};
  const auto stopped = [](const Tensor& x, const Tensor& y) { return x * y.detach(); };
  CHECK(gradcheck(stopped, {a, b}, o));
  CHECK(gradgradcheck(stopped, {a, b}, {}, o));
  CHECK_FALSE(gradcheck(stopped, {a, b}, quiet));
  const auto flows = [](const Tensor& x, const Tensor& y) { return x * y; };
  CHECK(has(gradcheck(flows, {a, b}, o), "input 1 is declared frozen, but output 0 at element [0] has the gradient"));
  o.fast_mode = true;
  CHECK(gradcheck(stopped, {a, b}, o));
  CHECK(has(gradcheck(flows, {a, b}, o), "input 1 is declared frozen"));
}

TEST_CASE("gradcheck: straight-through parts are held to their surrogate") {
  const Tensor x = variable({5});
  const auto round_through = [](const Tensor& x) { return x + (round(x) - x).detach(); };
  const auto f = [&](const Tensor& x) { return square(round_through(x)) * 0.5; };
  CHECK_FALSE(gradcheck(round_through, {x}, quiet));
  GradcheckOptions o = quiet;
  o.surrogate = as_tensor_fn([](const Tensor& x) { return x; });
  CHECK(gradcheck(round_through, {x}, o));
  CHECK_FALSE(gradcheck([](const Tensor& x) { return round(x); }, {x}, o));
  // d/dx ½ round(x)² = round(x), and its own derivative is 1, straight through again: what ½ (x + c)² with the
  // constant c = round(x₀) - x₀ has too.
  const Tensor c = (round(x) - x).detach();
  o.surrogate = as_tensor_fn([c](const Tensor& x) { return square(x + c) * 0.5; });
  CHECK(gradcheck(f, {x}, o));
  CHECK(gradgradcheck(f, {x}, {}, o));
  CHECK(has(gradcheck([&](const Tensor& x) { return square(round_through(x)); }, {x}, o), "is wrong"));
}

TEST_CASE("gradgradcheck: a wrong second derivative, one cut off, and two kernels that disagree are found") {
  const Tensor x = variable({3});
  const auto cut = [](const Tensor& x) {
    return cube_with(x, [x](const Tensor& dy) -> Grads { return {dy * square(x.detach()) * 3.0}; });
  };
  CHECK(gradcheck(cut, {x}, quiet));
  CHECK(has(gradgradcheck(cut, {x}, {}, quiet), "gradgradcheck: the gradient of output 0 by input 0 is wrong"));
  const auto two_minds = [](const Tensor& x) {
    return cube_with(x, [x](const Tensor& dy) -> Grads { return {dy * square(x) * (grad_enabled() ? 2.0 : 3.0)}; });
  };
  CHECK(gradcheck(two_minds, {x}, quiet));
  CHECK(has(gradgradcheck(two_minds, {x}, {}, quiet), "in an ordinary sweep and"));
  const auto once = [](const Tensor& x) { return checkpoint([](const Tensors& x) { return x[0] * x[0]; }, {x}); };
  CHECK(has(gradgradcheck(once, {x}, {}, quiet), "backward threw: checkpoint: has no second derivative"));
}
