// Corners of the elementwise ops, with PyTorch's answers as constants.
#include <doctest/doctest.h>
#include <weft/weft.h>

#include <cmath>

using namespace weft;

namespace {

constexpr double inf = INFINITY;
const double nan_ = NAN;

Tensor t(const std::vector<double>& v) { return tensor(v, {static_cast<int64_t>(v.size())}); }
Tensor ints(const std::vector<int64_t>& v) { return tensor(v, {static_cast<int64_t>(v.size())}); }

void same(const Tensor& got, const std::vector<double>& want) {
  const auto v = got.to_vector<double>();
  REQUIRE(v.size() == want.size());
  for (size_t i = 0; i < v.size(); ++i) {
    CAPTURE(i);
    if (std::isnan(want[i]))
      CHECK(std::isnan(v[i]));
    else
      CHECK(v[i] == want[i]);
  }
}

}  // namespace

TEST_CASE("elementwise: dtypes promote as in PyTorch") {
  const DType all[] = {float64, float32, bfloat16, float16, int64, int32, uint8, boolean};
  // Rows: left operand; columns: right one. d f b h: the floats, l i u ?: the integers and bool.
  const char* tensors[] = {"dddddddd", "dfffffff", "dfbfbbbb", "dffhhhhh",
                           "dfbhllll", "dfbhliii", "dfbhliuu", "dfbhliu?"};
  // The right operand has no dimensions: it counts as a number.
  const char* numbers[] = {"dddddddd", "ffffffff", "bbbbbbbb", "hhhhhhhh",
                           "dfbhllll", "dfbhiiii", "dfbhuuuu", "dfbhliu?"};
  const std::string letters = "dfbhliu?";
  for (size_t i = 0; i < 8; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      const Tensor a = ones({2}, {.dtype = all[i]}), b = ones({2}, {.dtype = all[j]}), c = ones({}, {.dtype = all[j]});
      CAPTURE(name(all[i]));
      CAPTURE(name(all[j]));
      CHECK(letters[static_cast<size_t>(mul(a, b).dtype())] == tensors[i][j]);
      CHECK(letters[static_cast<size_t>(mul(a, c).dtype())] == numbers[i][j]);
      CHECK(letters[static_cast<size_t>(mul(c, a).dtype())] == numbers[i][j]);
      CHECK(letters[static_cast<size_t>(where(ones({2}, {.dtype = boolean}), a, c).dtype())] == numbers[i][j]);
    }
    CHECK(letters[static_cast<size_t>(mul(ones({2}, {.dtype = all[i]}), 2).dtype())] == "dfbhliul"[i]);
    CHECK(letters[static_cast<size_t>(mul(ones({2}, {.dtype = all[i]}), 2.0).dtype())] == "dfbhffff"[i]);
  }
  CHECK(div(ints({1}), t({2})).dtype() == float64);
  CHECK(div(ints({1}), ints({2})).dtype() == float32);
  CHECK(eq(tensor({0.1f}), scalar(0.1, {.dtype = float64})).item<bool>());  // the number becomes float32
}

TEST_CASE("elementwise: a 0-dim operand's gradient comes back in its own dtype") {
  Tensor x = ones({3}), s = full({}, 2, {.dtype = float64, .requires_grad = true});
  (x * s).sum().backward();
  CHECK(s.grad().dtype() == float64);
  CHECK(s.grad().item() == 3);
}

TEST_CASE("elementwise: NaN and infinities go where they belong") {
  same(maximum(t({nan_, 1, nan_, inf}), t({1, nan_, nan_, 2})), {nan_, nan_, nan_, inf});
  same(minimum(t({nan_, 1, nan_, -inf}), t({1, nan_, nan_, 2})), {nan_, nan_, nan_, -inf});
  same(clamp(t({nan_, inf, -inf}), -1, 1), {nan_, 1, -1});
  same(relu(t({nan_, -0.0, -inf, inf})), {nan_, 0, 0, inf});
  same(amax(t({1, nan_, 2})).reshape({1}), {nan_});
  same(amin(t({1, nan_, 2})).reshape({1}), {nan_});
  same(softplus(t({100, -1000, inf, -inf, nan_})), {100, 0, inf, 0, nan_});
  same(log_sigmoid(t({1000, -100, -inf})), {0, -100, -inf});
  same(sigmoid(t({-1000, 1000, inf, -inf})), {0, 1, 1, 0});
  same(tanh(t({-1000, 1000, inf, -inf, nan_})), {-1, 1, 1, -1, nan_});
  same(tanh(tensor({-1000.0f, 1000.0f, INFINITY})), {-1, 1, 1});
  same(exp(tensor({1000.0f, -1000.0f, INFINITY, -INFINITY})), {inf, 0, inf, 0});
  same(log(tensor({0.0f, INFINITY, -1.0f})), {-inf, inf, nan_});
  same(erf(tensor({INFINITY, -INFINITY, 10.0f})), {1, -1, 1});
  same(eq(t({nan_}), t({nan_})), {0});
  same(ne(t({nan_}), t({nan_})), {1});
  same(where(gt(t({1, -1}), 0), t({5, nan_}), t({nan_, 6})), {5, 6});
  same(pow(t({0, 0, -2, inf}), t({0, -1, 3, -1})), {1, inf, -8, 0});
}

TEST_CASE("elementwise: quotients and remainders, floating") {
  same(floor_divide(t({1, -1, 5, 1, 0, inf, 1, nan_}), t({0.1, 0.1, -2, 0, 1, 2, inf, 1})),
       {9, -10, -3, inf, 0, nan_, 0, nan_});
  same(remainder(t({5, -5, 5, -5, -1, 1}), t({3, 3, -3, -3, inf, -inf})), {2, 1, -1, -2, inf, -inf});
  same(fmod(t({5, -5, 5, -5, -1}), t({3, 3, -3, -3, inf})), {2, -2, 2, -2, -1});
  same(round(t({0.5, 1.5, 2.5, -0.5, -1.5})), {0, 2, 2, 0, -2});
}

TEST_CASE("elementwise: integers of every sign, by zero, and at the ends of their range") {
  const Tensor a = ints({7, -7, 7, -7}), b = ints({2, 2, -2, -2});
  same(floor_divide(a, b), {3, -4, -4, 3});
  same(remainder(a, b), {1, 1, -1, -1});
  same(fmod(a, b), {1, -1, 1, -1});
  const Tensor zero = ints({0, 0}), low = ints({INT64_MIN, INT64_MIN}), minus = ints({-1, -1});
  same(floor_divide(ints({5, -5}), zero), {0, 0});
  same(remainder(ints({5, -5}), zero), {0, 0});
  CHECK(floor_divide(low, minus).to_vector<int64_t>() == std::vector<int64_t>{INT64_MIN, INT64_MIN});
  same(fmod(low, minus), {0, 0});
  same(remainder(low, minus), {0, 0});
  CHECK(neg(low).to_vector<int64_t>()[0] == INT64_MIN);
  CHECK(abs(low).to_vector<int64_t>()[0] == INT64_MIN);
  CHECK(add(ints({INT64_MAX}), 1).item<int64_t>() == INT64_MIN);
  CHECK(mul(ints({INT64_MAX}), 2).item<int64_t>() == -2);
  same(pow(ints({2, 1, -1, -1, 0}), ints({-1, -2, -3, -2, 1})), {0, 1, -1, 1, 0});
  same(add(full({1}, 250, {.dtype = uint8}), 10), {4});
}

TEST_CASE("elementwise: gradients at kinks are PyTorch's") {
  const auto at = [](auto f, std::vector<double> v) {
    Tensor x = t(v).requires_grad_();
    return grad({f(x).sum()}, {x})[0];
  };
  same(at([](const Tensor& x) { return relu(x); }, {-1, 0, 1}), {0, 0, 1});
  same(at([](const Tensor& x) { return abs(x); }, {-1, 0, 1}), {-1, 0, 1});
  same(at([](const Tensor& x) { return clamp(x, -1, 1); }, {nan_, -1, 1, 0, 2, -2}), {0, 1, 1, 1, 0, 0});
  same(at([](const Tensor& x) { return maximum(x, t({1, 1, 1})); }, {0, 1, 2}), {0, 0.5, 1});
  same(at([](const Tensor& x) { return pow(x, 2); }, {0}), {0});
  same(at([](const Tensor& x) { return pow(x, 0); }, {0}), {0});
  same(at([](const Tensor& x) { return pow(0, x); }, {0, -1, 2}), {0, -inf, 0});
  same(at([](const Tensor& x) { return pow(x, t({0, -1, 2})); }, {0, 0, 0}), {0, -inf, 0});
  same(at([](const Tensor& x) { return pow(t({0, 0, 0}), x); }, {0, -1, 2}), {0, -inf, 0});
}

TEST_CASE("random: uniform draws stay below their upper end in every dtype") {
  Generator g(2);
  for (const DType d : {float64, float32, bfloat16, float16}) {
    CAPTURE(name(d));
    const Tensor x = rand({100'000}, {.dtype = d}, g);
    CHECK(amax(x).item() < 1);
    CHECK(amin(x).item() >= 0);
    CHECK(std::abs(mean(x.to(float64)).item() - 0.5) < 0.01);
    Tensor y = empty({100'000}, d);
    uniform_(y, 1, 1 + 0x1p-6, g);  // two steps of bfloat16: rounding would reach the end
    CHECK(amax(y).item() < 1 + 0x1p-6);
    CHECK(amin(y).item() >= 1);
  }
}
