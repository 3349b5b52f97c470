#include <doctest/doctest.h>
#include <weft/weft.h>

#include <cmath>

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

TEST_CASE("initialisers: PyTorch's bounds") {
  Tensor w = empty({64, 32});
  init::kaiming_uniform_(w, std::sqrt(5.0));
  CHECK(amax(abs(w)).item() <= 1 / std::sqrt(32.0));
  CHECK(amax(abs(w)).item() > 0.95 / std::sqrt(32.0));
  init::xavier_uniform_(w);
  CHECK(amax(abs(w)).item() <= std::sqrt(6.0 / 96));
  init::trunc_normal_(w, 0, 1, -0.5, 2);
  CHECK(amin(w).item() >= -0.5);
  CHECK(amax(w).item() <= 2);
  CHECK(mean(lt(w, 0).to(float32)).item() == doctest::Approx((0.5 - 0.308538) / (0.977250 - 0.308538)).epsilon(0.15));
}
