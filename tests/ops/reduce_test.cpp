#include <doctest/doctest.h>
#include <weft/weft.h>

#include <cmath>

namespace weft {
namespace {

constexpr float inf = INFINITY;

Tensor gradient(const Tensor& x, Tensor (*f)(const Tensor&)) {
  Tensor leaf = x.clone().requires_grad_();
  return grad({sum(f(leaf))}, {leaf})[0];
}

TEST_CASE("reduce: gradients where a formula would divide by zero") {
  const Tensor zero = zeros({2, 3});
  CHECK(gradient(zero, [](const Tensor& x) { return norm(x, 2, 1); }).to_vector() == std::vector<float>(6, 0));
  CHECK(gradient(zero, [](const Tensor& x) { return norm(x, 1.5, 1); }).to_vector() == std::vector<float>(6, 0));
  CHECK(gradient(zero, [](const Tensor& x) { return norm(x, 3, 1); }).to_vector() == std::vector<float>(6, 0));
  CHECK(gradient(ones({2, 3}), [](const Tensor& x) { return std(x, 1); }).to_vector() == std::vector<float>(6, 0));
}

TEST_CASE("reduce: logsumexp of infinities") {
  const Tensor x = tensor({-inf, -inf, -inf, 0, -inf, 1}).reshape({3, 2});
  CHECK(logsumexp(x, 1).to_vector() == std::vector<float>{-inf, 0, 1});
  CHECK(gradient(x, [](const Tensor& t) { return logsumexp(t, 1); }).to_vector() ==
        std::vector<float>{0, 0, 0, 1, 0, 1});
  CHECK(logsumexp(tensor({inf, 1})).item() == inf);
  CHECK(logsumexp(zeros({0})).item() == -inf);
}

TEST_CASE("reduce: too few elements for a variance, and the mean of none") {
  CHECK(std::isnan(var(tensor({1})).item()));
  CHECK(var(tensor({1}), {}, 0).item() == 0);
  CHECK(std::isnan(mean(zeros({0})).item()));
}

TEST_CASE("reduce: halves are summed in float32") {
  const Tensor x = full({1000}, 100, {.dtype = float16});  // the sum passes the largest float16
  CHECK(mean(x).item() == 100);
  CHECK(var(x).item() == 0);
  CHECK(norm(full({100}, 1000, {.dtype = float16})).item() == 10000);  // and so do squares
  const Tensor y = ones({4096}, {.dtype = bfloat16});                  // in bfloat16 256 + 1 is 256
  CHECK(sum(y).item() == 4096);
  CHECK(std::abs(logsumexp(y).item() - (1 + std::log(4096.0))) < 0.04);
}

TEST_CASE("reduce: equal largest elements share the gradient") {
  const Tensor x = tensor({3, 1, 3});
  CHECK(gradient(x, [](const Tensor& t) { return amax(t); }).to_vector() == std::vector<float>{0.5, 0, 0.5});
}

}  // namespace
}  // namespace weft
