// The corners of the sweep: saved outputs, hooks, versions, checkpoints, threads, deep and empty graphs.
#include <doctest/doctest.h>
#include <weft/ops/copy.h>
#include <weft/weft.h>

#include <cmath>
#include <thread>

using namespace weft;

namespace {

Tensor variable(const std::vector<double>& v) { return tensor(v, {static_cast<int64_t>(v.size())}).requires_grad_(); }
std::vector<double> list(const Tensor& x) { return x.to_vector<double>(); }
using Numbers = std::vector<double>;

}  // namespace

TEST_CASE("engine: third derivatives through a saved output") {
  Tensor x = variable({0.3, -0.7});
  Tensor y = tanh(x), g = y;
  for (int order = 0; order < 3; ++order) g = grad({g.sum()}, {x}, {}, {.create_graph = true})[0];
  const Tensor t = tanh(x.detach()), want = mul(sub(1, square(t)), sub(mul(square(t), 6), 2));
  CHECK(amax(abs(g - want)).item() < 1e-12);
}

TEST_CASE("engine: gradients of two leaves never share memory") {
  Tensor a = variable({1, 2}), b = variable({3, 4});
  ((a + b) * 2.0).sum().backward();
  CHECK(a.grad().raw_data() != b.grad().raw_data());
  {
    NoGrad guard;
    Tensor g = a.grad();
    g.fill_(7);
  }
  CHECK(list(b.grad()) == Numbers{2, 2});
  Tensor up = tensor(Numbers{1, 1}, {2});
  Tensor c = variable({1, 2});
  (c + 0.0).backward(up);
  up.fill_(9);
  CHECK(list(c.grad()) == Numbers{1, 1});
}

TEST_CASE("engine: a backward that returns what it captured does not leak its history") {
  Tensor x = variable({1, 2}), w = variable({3, 4});
  Tensor y = record("takes_w", x.detach() * 1.0, {x}, [w](const Tensor&) -> Grads { return {w}; });
  const Tensor g = grad({y.sum()}, {x})[0];
  CHECK_FALSE(g.requires_grad());
  CHECK(list(g) == Numbers{3, 4});
}

TEST_CASE("engine: record gives a result of its own, even for an input handed through") {
  Tensor x = tensor(Numbers{1, 2}, {2}), w = variable({3, 4});
  const Tensor y = record("pass", x, {x, w}, [](const Tensor& dy) -> Grads { return {Tensor(), dy}; });
  CHECK(y.requires_grad());
  CHECK_FALSE(x.requires_grad());
}

TEST_CASE("engine: hooks on leaves and intermediates") {
  Tensor x = variable({1, 2});
  int leaf_calls = 0;
  const int id = x.register_hook([&](const Tensor& g) {
    ++leaf_calls;
    return g * 10.0;
  });
  Tensor y;
  {
    Tensor h = x * 3.0;  // gone before the sweep: its hook runs all the same
    h.register_hook([](const Tensor& g) { return g + 1.0; });
    y = h + x;
  }
  y.sum().backward();
  CHECK(list(x.grad()) == Numbers{70, 70});  // ((1 + 1)·3 + 1)·10, once for the sum of both paths
  CHECK(leaf_calls == 1);
  x.remove_hook(id);
  x.set_grad({});
  (x * 2.0).sum().backward();
  CHECK(list(x.grad()) == Numbers{2, 2});
  Tensor z = x * 2.0;
  z.register_hook([](const Tensor& g) { return g.sum(); });
  CHECK_THROWS_WITH(z.sum().backward(), "hook of mul: returned float64 [] as the gradient of float64 [2]");
  CHECK_THROWS_WITH(x.detach().register_hook([](const Tensor& g) { return g; }),
                    "register_hook: the tensor does not require a gradient");
}

TEST_CASE("engine: a hook registered before a parameter's data is replaced still runs") {
  Tensor x = variable({1, 2});
  x.register_hook([](const Tensor& g) { return g * 2.0; });
  x.sum().backward();
  x.set_data(tensor({1.0f, 2.0f, 3.0f}));
  x.sum().backward();
  CHECK(x.grad().dtype() == float32);
  CHECK(list(x.grad()) == Numbers{2, 2, 2});
}

TEST_CASE("engine: retained gradients and graphs") {
  Tensor x = variable({2});
  Tensor h = x * 3.0;
  h.retain_grad();
  Tensor y = h * h;
  backward({y}, {}, true);
  CHECK(list(h.grad()) == Numbers{12});
  CHECK(list(x.grad()) == Numbers{36});
  backward({y}, {}, true);
  CHECK(list(x.grad()) == Numbers{72});
  y.backward();
  CHECK(list(x.grad()) == Numbers{108});
  CHECK_THROWS_WITH(y.backward(),
                    "mul: backward has been here before and freed what it needs; pass retain_graph the first time");
}

TEST_CASE("engine: grad() of an intermediate, of the output itself, of an unused input") {
  Tensor x = variable({2}), other = variable({1});
  Tensor h = x * 3.0, y = h * h;
  const Tensors g = grad({y}, {h, y, x}, {}, {.retain_graph = true});
  CHECK(list(g[0]) == Numbers{12});
  CHECK(list(g[1]) == Numbers{1});
  CHECK(list(g[2]) == Numbers{36});
  CHECK_FALSE(x.grad().defined());
  CHECK_FALSE(grad({y}, {other}, {}, {.retain_graph = true, .allow_unused = true})[0].defined());
  CHECK_THROWS_WITH(grad({y}, {other}),
                    "grad: input 0 of shape [1] was not used by the outputs; pass allow_unused if that is meant");
}

TEST_CASE("engine: changing an output or a view in place is an error") {
  Tensor x = variable({1, 2});
  Tensor y = exp(x);
  Tensor z = y.sum();
  y.detach().fill_(0);
  CHECK_THROWS_WITH(z.backward(),
                    "sum: input 0 of shape [2] was changed in place after the forward pass (version 1, saved at "
                    "version 0): backward would use the wrong values");
  Tensor base = tensor(Numbers{1, 2, 3, 4}, {2, 2}).requires_grad_();
  Tensor view = base.t().slice(0, 1).reshape({2});  // a view of a view of a view
  CHECK(view.raw_data() == static_cast<char*>(base.raw_data()) + sizeof(double));
  Tensor s = (view * view).sum();
  {
    NoGrad guard;
    base.fill_(5);
  }
  CHECK_THROWS_AS(s.backward(), Error);
  CHECK_THROWS_WITH(base.fill_(1), "fill_: the tensor requires a gradient; write to it under NoGrad or detach it");
  (base.t().slice(0, 1).reshape({2}) * 2.0).sum().backward();
  CHECK(list(base.grad()) == Numbers{0, 2, 0, 2});
}

TEST_CASE("engine: checkpoint gives the gradients of what is inside, to backward() and to grad()") {
  Tensor x = variable({0.5, -1}), w = variable({2, 3});
  const auto f = [&](const Tensors& in) { return tanh(in[0] * w) + w; };
  const Tensors plain = grad({square(f({x})).sum()}, {x, w});
  Tensor y = checkpoint(f, {x});
  const Tensors g = grad({square(y).sum()}, {x, w}, {}, {.retain_graph = true});
  CHECK(list(g[0]) == list(plain[0]));
  CHECK(list(g[1]) == list(plain[1]));
  CHECK_FALSE(w.grad().defined());  // grad() leaves every .grad() alone
  CHECK_FALSE(x.grad().defined());
  square(y).sum().backward();
  CHECK(list(w.grad()) == list(plain[1]));
  CHECK(list(x.grad()) == list(plain[0]));
  // Used inside and outside, and one checkpoint inside another.
  const auto nested = [&](const Tensors& in) { return checkpoint(f, {in[0] * w}) * w; };
  const auto loss = [&](const Tensor& y) { return (y * w).sum(); };
  const Tensors want = grad({loss(f({x * w}) * w)}, {x, w});
  const Tensors got = grad({loss(checkpoint(nested, {x}))}, {x, w});
  for (int i = 0; i < 2; ++i) CHECK(amax(abs(got[i] - want[i])).item() < 1e-12);
  CHECK(gradcheck([&](const Tensors& in) { return checkpoint(f, {in[0]}); }, {x, w}));
}

TEST_CASE("engine: checkpoint repeats dropout and mixed precision, and leaves the generator as it was") {
  manual_seed(3);
  Tensor x = ones({64}, {.requires_grad = true});
  Tensor y = checkpoint([](const Tensors& in) { return dropout(in[0], 0.5); }, {x});
  const auto before = default_generator().state();
  y.sum().backward();
  CHECK(default_generator().state() == before);
  CHECK(x.grad().to_vector<float>() == y.to_vector<float>());

  Tensor a = randn({4, 4}, {.requires_grad = true}), out;
  DType seen = float64;
  {
    Autocast scope;
    out = checkpoint(
        [&](const Tensors& in) {
          Tensor p = matmul(in[0], in[0]);
          seen = p.dtype();
          return p;
        },
        {a});
  }
  CHECK(seen == bfloat16);
  seen = float64;
  out.sum().backward();
  CHECK(seen == bfloat16);
  CHECK(a.grad().dtype() == float32);
}

TEST_CASE("engine: checkpoint refuses a result from outside that is not among its inputs") {
  Tensor x = variable({1, 2});
  const Tensor h = exp(x);
  Tensor y = checkpoint([&](const Tensors& in) { return in[0] * h; }, {x});
  CHECK_THROWS_WITH(y.sum().backward(),
                    "checkpoint: the function uses the result of exp from outside; pass it as an input");
}

TEST_CASE("engine: anomaly mode names who made a NaN, forward and backward") {
  AnomalyMode guard;
  CHECK_THROWS_WITH(log(variable({-1})), "log: made a NaN in its forward pass");
  CHECK_THROWS_WITH(log(tensor(Numbers{-1}, {1})), "log: made a NaN in its forward pass");
  Tensor x = variable({0});
  Tensor y = (sqrt(x) * 0.0).sum();  // 0 · ∞ on the way back
  CHECK_THROWS_WITH(y.backward(), "sqrt: made a NaN in its backward pass, in the gradient of input 0");
}

TEST_CASE("engine: modes belong to their thread, and threads may share leaves") {
  Tensor w = variable({1, 2, 3});
  NoGrad guard;
  bool elsewhere = false;
  std::thread([&] { elsewhere = grad_enabled(); }).join();
  CHECK(elsewhere);
  CHECK_FALSE(grad_enabled());
  std::vector<Tensor> g(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < g.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 50; ++k) g[i] = grad({(exp(w) * w).sum()}, {w})[0];
    });
  }
  for (auto& t : threads) t.join();
  for (const Tensor& t : g) CHECK(list(t) == list(g[0]));
}

TEST_CASE("engine: deep graphs are taken apart without recursion, swept or not") {
  Tensor x = variable({1});
  Tensor y = x;
  for (int i = 0; i < 300'000; ++i) y = y * y;  // closures own their inputs, inputs own their nodes
  y = Tensor();
  Tensor z = x;
  for (int i = 0; i < 100'000; ++i) z = exp(z * 1e-3);  // saved outputs
  grad({z}, {x}, {}, {.create_graph = true});
  CHECK(graph_size(z) == 200'000);
}

TEST_CASE("engine: gradients of parts are written beside each other, each part once in a sweep") {
  const Tensor x = randn({3, 8}).requires_grad_();
  const Tensors parts = chunk(x, 2, -1);
  Tensors given;
  // Asks for two places, uses one; the other user of parts[0] brings a gradient of its own.
  const Tensor y = record("asks", parts[0] + parts[1], {parts[0], parts[1]}, [&](const Tensor& dy) -> Grads {
    given = {detail::gradient_like(parts[0]), detail::gradient_like(parts[1]), detail::gradient_like(parts[0])};
    copy_into(dy, given[0]), copy_into(dy * 2, given[1]);
    return {given[0], given[1]};
  });
  const auto beside = [&] {
    return given[0].impl().storage == given[1].impl().storage && given[0].strides() == Shape{8, 1} &&
           given[1].impl().offset == given[0].impl().offset + 4 && given[2].impl().storage != given[0].impl().storage;
  };
  const Tensor dy = reshape(arange(12).to(float32), {3, 4});
  const auto expected = cat({dy, dy * 2}, -1).to_vector<float>();
  const Tensor first = grad({y}, {x}, {dy}, {.retain_graph = true})[0];
  CHECK(beside());
  CHECK(first.impl().storage == given[0].impl().storage);  // nothing was copied
  CHECK(first.to_vector<float>() == expected);
  const Tensors before = given;
  CHECK(grad({y}, {x}, {dy}, {.retain_graph = true})[0].to_vector<float>() == expected);
  CHECK(beside());
  CHECK(given[0].impl().storage != before[0].impl().storage);
  CHECK(first.to_vector<float>() == expected);
  const Tensor both = grad({y, parts[0] * 3}, {x}, {dy, dy})[0];
  CHECK(both.to_vector<float>() == cat({dy * 4, dy * 2}, -1).to_vector<float>());
  CHECK(detail::gradient_like(parts[0]).is_contiguous());  // outside of a sweep
  // Where nobody asks for the whole, a part's gradient has a place of its own.
  const Tensor alone = chunk(x, 2, -1)[0];
  CHECK(grad({silu(alone)}, {alone}, {dy})[0].is_contiguous());
}

TEST_CASE("engine: empty tensors have empty gradients") {
  Tensor x = zeros({0, 3}, {.requires_grad = true}), w = ones({3, 2}, {.requires_grad = true});
  Tensor y = matmul(exp(x), w);
  y.sum().backward();
  CHECK(x.grad().shape() == Shape{0, 3});
  CHECK(w.grad().to_vector<float>() == std::vector<float>(6, 0.0f));
  CHECK_THROWS_WITH(y.backward(),
                    "backward: a gradient can be left out only for a scalar; the output has shape [0, 2]");
}
