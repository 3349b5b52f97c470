#include <doctest/doctest.h>
#include <weft/nn/activation.h>
#include <weft/nn/container.h>
#include <weft/nn/linear.h>
#include <weft/weft.h>

using namespace weft;

namespace {
struct Net : Module {
  Linear a{2, 3};
  Sequential b{std::make_shared<Linear>(3, 3, false), std::make_shared<ReLU>()};
  Tensor steps;
  Net() {
    register_module("a", a);
    register_module("b", b);
    steps = register_buffer("steps", zeros({1}));
  }
  Tensor forward(const Tensor& x) const override { return b(a(x)); }
  std::string name() const override { return "Net"; }
};
}  // namespace

TEST_CASE("module: names, printing and counts") {
  Net net;
  std::string names;
  for (auto& [n, t] : net.state_dict()) names += n + " ";
  CHECK(names == "steps a.weight a.bias b.0.weight ");
  CHECK(net.num_parameters() == 2 * 3 + 3 + 9);
  CHECK(net.to_string() ==
        "Net(\n  (a): Linear(in_features=2, out_features=3, bias=True)\n  (b): Sequential(\n    (0): "
        "Linear(in_features=3, out_features=3, "
        "bias=False)\n    (1): ReLU()\n  )\n)");
}

TEST_CASE("module: load_state_dict takes all or nothing and says what is wrong") {
  Net net, other;
  net.load_state_dict(other.state_dict());
  Tensor x = randn({4, 2});
  CHECK(net(x).to_vector() == other(x).to_vector());

  NamedTensors bad = other.state_dict();
  bad[1].second = ones({2, 2});
  bad[0].first = "stops";
  CHECK_THROWS_WITH(net.load_state_dict(bad),
                    "Net: load_state_dict; missing: steps; unexpected: stops; of another shape: a.weight ([2, 2] "
                    "given, [3, 2] here)");
  CHECK(net(x).to_vector() == other(x).to_vector());
}

TEST_CASE("module: to(dtype) keeps every handle valid") {
  Net net;
  Tensor w = net.a.weight;
  net.to(float64);
  CHECK(w.dtype() == float64);
  net(randn({1, 2}, {.dtype = float64})).sum().backward();
  CHECK(w.grad().dtype() == float64);
  CHECK(net.a.weight.grad().shape() == Shape{3, 2});
}
