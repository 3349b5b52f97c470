#include <doctest/doctest.h>
#include <weft/weft.h>

#include <cmath>

#include "support/message_of.h"

using namespace weft;

TEST_CASE("layers: start as in PyTorch and print as there") {
  LayerNorm norm(8);
  CHECK(norm.to_string() == "LayerNorm((8,), eps=1e-05, elementwise_affine=True)");
  CHECK(RMSNorm(8).to_string() == "RMSNorm((8,), eps=None, elementwise_affine=True)");
  CHECK(GroupNorm(2, 8).to_string() == "GroupNorm(2, 8, eps=1e-05, affine=True)");
  CHECK_THROWS_WITH(GroupNorm(3, 8), "GroupNorm: 8 channels do not make 3 groups");
  Tensor y = norm(randn({4, 8}));
  CHECK(amax(abs(mean(y, -1))).item() < 1e-6);
  CHECK(mean(square(y)).item() == doctest::Approx(1).epsilon(1e-3));

  Embedding table(5, 3, -1);
  CHECK(table.to_string() == "Embedding(5, 3, padding_idx=4)");
  CHECK(table.weight.select(0, 4).to_vector() == std::vector<float>{0, 0, 0});
  table(tensor(std::vector<int64_t>{4, 1, 1})).sum().backward();
  CHECK(table.weight.grad().to_vector() == std::vector<float>{0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK_THROWS_AS(Embedding(5, 3, 5), Error);
}

TEST_CASE("layers: a norm joined with the addition before it") {
  manual_seed(6);
  const Tensor x = randn({2, 3, 8}), branch = randn({2, 3, 8});
  std::vector<std::shared_ptr<Norm>> norms{std::make_shared<LayerNorm>(8),    std::make_shared<RMSNorm>(8),
                                           std::make_shared<GroupNorm>(1, 3), std::make_shared<xt::LayerNorm>(8, true),
                                           std::make_shared<xt::RMSNorm>(8),  std::make_shared<xt::SimpleRMSNorm>(8)};
  for (const char* klass : {"LayerNorm", "ScaleNorm", "RMSNorm", "Identity"})
    norms.push_back(flash::make_norm(klass, 8));
  for (const auto& norm : norms) {
    CAPTURE(norm->name());
    for (auto& [name, p] : norm->named_parameters()) p.detach().copy_(randn(p.shape()));
    const auto close = [](const Tensor& a, const Tensor& b) { return amax(abs(a - b)).item() < 1e-5; };
    const auto [sum, normed] = ResidualStream{x, branch}.add_norm(*norm);
    CHECK(close(sum, x + branch));
    CHECK(close(normed, norm->forward(x + branch)));
    const auto [same, alone] = ResidualStream{x}.add_norm(*norm);
    CHECK(close(same, x));
    CHECK(close(alone, norm->forward(x)));
    const std::string message = test::message_of([&] { norm->add(x, slice(branch, 1, 0, 1)); });
    CHECK(message.substr(message.find(':') + 1) == " input [2, 3, 8] and residual [2, 1, 8] differ in shape");
  }
  CHECK(test::message_of([&] {
          ResidualStream{x, branch[0]}.sum();
        }) == "ResidualStream: input [2, 3, 8] and residual [3, 8] differ in shape");
}

TEST_CASE("layers: several that read one tensor give what each gives") {
  const Linear q(6, 8, false), k(6, 4, false), v(6, 5, false);
  for (int64_t rows : {3, 300}) {  // on a GPU the second is one product
    const Tensor x = randn({2, rows, 6}).requires_grad_();
    const Tensors each{q.forward(x), k.forward(x), v.forward(x)}, together = forward_together(x, {&q, &k, &v});
    REQUIRE(together.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      CHECK(together[i].shape() == each[i].shape());
      CHECK(amax(abs(together[i] - each[i])).item() < 1e-5);
    }
    Tensor a = zeros({}, {.device = x.device()}), b = a;
    for (size_t i = 0; i < 3; ++i) a = a + sum(sin(each[i])), b = b + sum(sin(together[i]));
    const Tensors da = grad({a}, {x, q.weight, k.weight, v.weight}), db = grad({b}, {x, q.weight, k.weight, v.weight});
    for (size_t i = 0; i < da.size(); ++i) CHECK(amax(abs(da[i] - db[i])).item() < 1e-4 * amax(abs(da[i])).item());
  }
  CHECK_THROWS_WITH(forward_together(randn({2, 6}), {&q, std::make_shared<Linear>(6, 2).get()}),
                    "forward_together: the layers must have no bias");
}

TEST_CASE("initialisers: PyTorch's bounds") {
  Tensor w = empty({64, 32});
  init::kaiming_uniform_(w, std::sqrt(5.0));
  CHECK(amax(abs(w)).item() <= 1 / std::sqrt(32.0));
  CHECK(amax(abs(w)).item() > 0.95 / std::sqrt(32.0));
  init::xavier_uniform_(w);
  CHECK(amax(abs(w)).item() <= std::sqrt(6.0 / 96));
  init::xavier_normal_(w, 2);
  CHECK(square(w).mean().item() == doctest::Approx(4 * 2.0 / 96).epsilon(0.1));
  init::ones_(w);
  CHECK(amin(w).item() == 1);
  CHECK(amax(w).item() == 1);
  init::trunc_normal_(w, 0, 1, -0.5, 2);
  CHECK(amin(w).item() >= -0.5);
  CHECK(amax(w).item() <= 2);
  CHECK(mean(lt(w, 0).to(float32)).item() == doctest::Approx((0.5 - 0.308538) / (0.977250 - 0.308538)).epsilon(0.15));
}

TEST_CASE("layers: convolutions have PyTorch's shapes, start and print") {
  Conv1d a(4, 6, 3, {.padding = 1, .groups = 2});
  CHECK(a.to_string() == "Conv1d(4, 6, kernel_size=(3,), stride=(1,), padding=(1,), groups=2)");
  CHECK(a.weight.shape() == Shape{6, 2, 3});
  CHECK(amax(abs(a.weight)).item() <= 1 / std::sqrt(6.0));
  CHECK(a(randn({2, 4, 9})).shape() == Shape{2, 6, 9});
  Conv2d b(3, 5, {2, 3}, {.stride = {2, 1}}, false);
  CHECK(b.to_string() == "Conv2d(3, 5, kernel_size=(2, 3), stride=(2, 1), bias=False)");
  CHECK(b(randn({1, 3, 8, 7})).shape() == Shape{1, 5, 4, 5});
  CHECK_THROWS_WITH(Conv1d(4, 6, 3, {.groups = 4}), "Conv1d: 4 and 6 channels cannot be divided into 4 groups");
}

TEST_CASE("mixed precision: products run in bfloat16, parameters and their gradients stay float32") {
  Linear layer(8, 4);
  const Tensor x = randn({3, 8});
  const Tensor full = layer(x);
  Tensor half;
  {
    Autocast scope(bfloat16);
    half = layer(x);
  }
  CHECK(half.dtype() == bfloat16);
  CHECK(sum(square(half.to(float32) - full)).item() < 1e-3 * sum(square(full)).item());
  CHECK(sum(square(half.to(float32) - full)).item() > 0);
  sum(half).backward();
  CHECK(layer.weight.grad().dtype() == float32);
  CHECK(layer(x).dtype() == float32);  // the scope is over
}
