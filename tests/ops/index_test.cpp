#include <doctest/doctest.h>
#include <weft/tensor/parallel.h>
#include <weft/weft.h>

#include <cmath>
#include <limits>

using namespace weft;

namespace {

// The values of f(), computed with 1 and with 3 threads.
template <class F>
void check_same_for_threads(F&& f) {
  set_num_threads(1);
  const auto one = f().template to_vector<double>();
  set_num_threads(3);
  const auto three = f().template to_vector<double>();
  set_num_threads(0);
  CHECK(one == three);
}

bool same(const Tensor& a, const Tensor& b) { return a.shape() == b.shape() && all(eq(a, b)).item<int64_t>() != 0; }

}  // namespace

TEST_CASE("index: gradients that meet in one row have the same bits for any number of threads") {
  Generator g(1);
  const Tensor ids = randint(0, 50, {3000}, {.dtype = int64}, g);
  for (int64_t d : {1, 3, 64, 130}) {
    const Tensor dy = randn({3000, d}, {}, g);
    check_same_for_threads([&] {
      Tensor w = zeros({50, d}, {.requires_grad = true});
      embedding(ids, w).backward(dy);
      return w.grad();
    });
    check_same_for_threads([&] { return index_add(zeros({50, d}), 0, ids, dy); });
  }
  const Tensor flat = randn({200'000}, {}, g), at = randint(0, 1000, {200'000}, {.dtype = int64}, g);
  check_same_for_threads([&] { return scatter_add(zeros({1000}), 0, at, flat); });
  check_same_for_threads([&] { return scatter(zeros({1000}), 0, at, flat); });
}

TEST_CASE("index: a long 1-D scatter_add agrees with the definition") {
  Generator g(2);
  const Tensor v = randn({200'000}, {.dtype = float64}, g), at = randint(0, 700, {200'000}, {.dtype = int64}, g);
  const auto values = v.to_vector<double>();
  const auto places = at.to_vector<int64_t>();
  std::vector<double> want(700, 0.0);
  for (size_t i = 0; i < values.size(); ++i) want[static_cast<size_t>(places[i])] += values[i];
  const auto got = scatter_add(zeros({700}, {.dtype = float64}), 0, at, v).to_vector<double>();
  if (default_device().is_cpu()) CHECK(got == want);  // a GPU adds in another order
  for (size_t i = 0; i < want.size(); ++i) CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-12));
}

TEST_CASE("index: half rows add up in float32") {
  // 1 + 1/512 is no bfloat16: adding one by one in bfloat16 would stay at 1.
  const Tensor ids = zeros({513}, {.dtype = int64});
  Tensor source = full({513, 1}, 1.0 / 512, {.dtype = bfloat16});
  const Tensor y = index_add(ones({1, 1}, {.dtype = bfloat16}), 0, ids, source);
  CHECK(y.item() == doctest::Approx(2.0).epsilon(0.005));
}

TEST_CASE("index: the padding row of an embedding has no gradient, to any order") {
  Tensor w = ones({3, 2}, {.dtype = float64, .requires_grad = true});
  const Tensor y = embedding(tensor(std::vector<int64_t>{0, 2, 2, 1}, {4}), w, 2);
  const Tensor g = grad({square(y).sum()}, {w}, {}, {.create_graph = true})[0];
  CHECK(g.to_vector<double>() == std::vector<double>{2, 2, 2, 2, 0, 0});
  CHECK(grad({g.sum()}, {w})[0].to_vector<double>() == std::vector<double>{2, 2, 2, 2, 0, 0});
}

TEST_CASE("sort: NaN is the largest, both zeros are equal, infinities have their place") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (DType dtype : {float64, float32, bfloat16, float16}) {
    const Tensor x = tensor(std::vector<double>{0.0, nan, -inf, -0.0, inf, nan, -1, 0.0}, {8}).to(dtype);
    using Ids = std::vector<int64_t>;
    CHECK(argsort(x).to_vector<int64_t>() == Ids{2, 6, 0, 3, 7, 4, 1, 5});
    CHECK(argsort(x, -1, true).to_vector<int64_t>() == Ids{1, 5, 4, 0, 3, 7, 6, 2});
    CHECK(topk(x, 4).indices.to_vector<int64_t>() == Ids{1, 5, 4, 0});
    CHECK(topk(x, 4, -1, false).indices.to_vector<int64_t>() == Ids{2, 6, 0, 3});
    CHECK(argmax(x).item<int64_t>() == 1);
    CHECK(argmin(x).item<int64_t>() == 1);
    CHECK(max(stack({x, x}, 1), 0).indices.to_vector<int64_t>() == Ids{1, 1});
    CHECK(searchsorted(sort(x).values, x, false).to_vector<int64_t>() == Ids{2, 6, 0, 2, 5, 6, 1, 2});
    CHECK(searchsorted(sort(x).values, x, true).to_vector<int64_t>() == Ids{5, 8, 1, 5, 6, 8, 2, 5});
  }
}

TEST_CASE("sort: long rows of every kind are in order, and topk is their beginning") {
  Generator g(3);
  const Tensor x = randn({3, 5000}, {}, g);
  for (const Tensor& v : {x, x.to(float64), x.to(bfloat16), mul(x, 1e4).to(int64), mul(x, 1e15).to(float64).to(int64),
                          mul(x, 40).to(int32), gt(x, 0)}) {
    for (bool falling : {false, true}) {
      const auto [sorted, from] = sort(v, -1, falling);
      const Tensor a = slice(sorted, 1, 0, -1), b = slice(sorted, 1, 1);
      const Tensor ia = slice(from, 1, 0, -1), ib = slice(from, 1, 1);
      CHECK(all(logical_or(falling ? gt(a, b) : lt(a, b), logical_and(eq(a, b), lt(ia, ib)))).item<int64_t>() == 1);
      for (int64_t k : {1, 7, 300, 4999}) CHECK(same(topk(v, k, -1, falling).indices, slice(from, 1, 0, k)));
    }
  }
  const Unique u = unique(mul(x, 3).to(int32));
  CHECK(same(index_select(u.values, 0, flatten(u.inverse)), flatten(mul(x, 3).to(int32))));
  CHECK(u.counts.sum().item<int64_t>() == x.numel());
}

TEST_CASE("multinomial: draws follow the weights, without replacement never twice, the same for a seed") {
  Generator g(5);
  const Tensor weights = tensor({1.0f, 0.0f, 3.0f, 4.0f, 2.0f});
  const int64_t n = 100'000;
  const Tensor counts = sum(one_hot(multinomial(weights, n, true, g), 5), 0);
  const auto c = counts.to_vector<double>();
  for (int64_t i = 0; i < 5; ++i) {
    const double p = weights[i].item() / 10, sigma = std::sqrt(n * p * (1 - p));
    CHECK(std::abs(c[static_cast<size_t>(i)] - n * p) <= 5 * sigma);
  }
  // Without replacement: the first draw follows the weights too, and the second those of what is left.
  const Tensor rows = multinomial(weights.expand({20'000, 5}), 2, false, g);
  const auto first = sum(one_hot(rows.select(1, 0), 5), 0).to_vector<double>();
  const auto second = sum(one_hot(rows.select(1, 1), 5), 0).to_vector<double>();
  CHECK(any(eq(rows.select(1, 0), rows.select(1, 1))).item<int64_t>() == 0);
  for (size_t i = 0; i < 5; ++i) {
    const double w[] = {1, 0, 3, 4, 2};
    double p2 = 0;  // Σ over the first draw j of p(j)·w[i] / (10 - w[j])
    for (size_t j = 0; j < 5; ++j) p2 += i == j ? 0 : w[j] / 10 * w[i] / (10 - w[j]);
    CHECK(std::abs(first[i] - 20'000 * w[i] / 10) <= 5 * std::sqrt(20'000 * 0.25));
    CHECK(std::abs(second[i] - 20'000 * p2) <= 5 * std::sqrt(20'000 * 0.25));
  }
  Generator a(9), b(9);
  CHECK(same(multinomial(weights, 50, true, a), multinomial(weights, 50, true, b)));
  CHECK(same(randperm(50, a), randperm(50, b)));
  CHECK(!same(randperm(50, a), arange(50)));
}

TEST_CASE("index_copy_ writes what index_copy returns, into the memory itself") {
  Generator g(3);
  for (int64_t dim : {0, 1, -1}) {
    Tensor x = randn({4, 5, 6}, {}, g);
    const Tensor index = tensor(std::vector<int64_t>{3, 0, 3});
    Shape shape = x.shape();
    shape[dim < 0 ? dim + 3 : dim] = 3;
    const Tensor source = randn(shape, {}, g), want = index_copy(x, dim, index, source);
    const void* memory = x.raw_data();
    index_copy_(x, dim, index, source);
    CHECK(same(x, want));
    CHECK(x.raw_data() == memory);
    Tensor whole = zeros({4, 9, 6});
    index_copy_(whole.slice(1, 2, 7), 1, tensor(std::vector<int64_t>{4}), ones({4, 1, 6}));  // a view
    CHECK(same(whole.slice(1, 6, 7), ones({4, 1, 6})));
    CHECK(whole.sum().item() == 24);
  }
  const auto error = [](auto&& f) {
    try {
      f();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const Tensor one = tensor(std::vector<int64_t>{1});
  Tensor x = zeros({3, 2});
  CHECK(error([&] {
          index_copy_(x, 0, tensor(std::vector<int64_t>{3}), ones({1, 2}));
          x.sum().item();  // a GPU reports it to who waits
        }) == "index_copy_: index 3 is out of range for dim 0 of size 3");
  CHECK(error([&] {
          index_copy_(x, 0, one, ones({2, 2}));
        }) == "index_copy_: expected a source of shape [1, 2], got [2, 2]");
  Tensor w = zeros({3, 2}, {.requires_grad = true});
  CHECK(error([&] { index_copy_(w, 0, one, ones({1, 2})); }).find("requires a gradient") != std::string::npos);
  const Tensor y = sum(square(mul(w, x)));  // has kept x
  index_copy_(x, 0, one, ones({1, 2}));
  CHECK(error([&] { y.backward(); }).find("changed") != std::string::npos);
}
