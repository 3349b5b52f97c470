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

TEST_CASE("module: what applies to a whole tree") {
  Net net;
  std::string walked;
  const auto see = [&](const std::string& name, const Module& m) { walked += "'" + name + "' " + m.name() + ", "; };
  const Net& unchanging = net;
  unchanging.apply(see);
  const std::string tree = "'' Net, 'a' Linear, 'b' Sequential, 'b.0' Linear, 'b.1' ReLU, ";
  CHECK(walked == tree);
  net.apply([&](const std::string& name, Module& m) {
    see(name, m);
    if (name == "b.1") m.eval();
  });
  CHECK(walked == tree + tree);
  CHECK(net.is_training());
  CHECK_FALSE(net.b.at<ReLU>(1).is_training());

  CHECK(net.named_buffers().size() == 1);
  CHECK(net.named_buffers()[0].first == "steps");
  CHECK(net.named_buffers()[0].second.same_as(net.steps));

  net(ones({1, 2})).sum().backward();
  CHECK(net.a.weight.grad().defined());
  net.zero_grad();
  for (const Tensor& p : net.parameters()) CHECK_FALSE(p.grad().defined());
  net.requires_grad_(false);
  CHECK_FALSE(net(ones({1, 2})).requires_grad());
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
