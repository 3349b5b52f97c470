// Each structure check passes a function that keeps to its structure and names the place in one that does not.
#include <doctest/doctest.h>
#include <weft/weft.h>

#include <cmath>

using namespace weft;

namespace {

StructureOptions quiet() { return {.raise_exception = false}; }

Tensor input(const Shape& shape) {
  Generator g(5);
  return randn(shape, {.dtype = float64}, g);
}

bool has(const StructureResult& r, const char* part) {
  const bool found = !r.ok && r.message.find(part) != std::string::npos;
  if (!found) MESSAGE(r.message);
  return found;
}

// Attention of one head without projections; mask [b, n] over keys.
Tensor attend(const Tensor& x, bool causal, const Tensor& mask = {}) {
  AttentionOptions o;
  o.causal = causal;
  if (mask.defined()) o.mask = unsqueeze(unsqueeze(mask, 1), 1);
  const Tensor q = unsqueeze(x, 1);
  return squeeze(scaled_dot_product_attention(q, q, q, o), 1);
}

}  // namespace

TEST_CASE("check_causal: a causal function passes, a look at the future is named") {
  const Tensor x = input({2, 6, 4});
  CHECK(check_causal([](const Tensor& x) { return attend(x, true); }, x));
  CHECK(check_causal([](const Tensor& x) { return x * 2.0; }, x.to(float32)));
  const auto shifted = [](const Tensor& x) { return cat({x.slice(1, 1), x.slice(1, 0, 1)}, 1); };  // y[t] = x[t + 1]
  const StructureResult r = check_causal(shifted, x, quiet());
  CHECK(has(r, "check_causal: the output at time 0 has a gradient of "));
  CHECK(r.offending.front() == std::pair<int64_t, int64_t>{0, 1});
  CHECK(r.offending.size() >= 5);
  CHECK_THROWS_AS(check_causal(shifted, x), Error);
  CHECK_FALSE(check_causal([](const Tensor& x) { return attend(x, false); }, x, quiet()));
  const auto hidden = [](const Tensor& x) { return x + amax(x, 1, keepdim).detach(); };
  CHECK(has(check_causal(hidden, x, quiet()), "(a path without a gradient)"));
  StructureOptions gradients_only = quiet();
  gradients_only.values = false;
  CHECK(check_causal(hidden, x, gradients_only));
  const auto bug = [](const Tensor& x) { return x + sum(x, 1, keepdim) * 1e-14; };
  CHECK_FALSE(check_causal(bug, x, quiet()));
  StructureOptions loose = quiet();
  loose.tolerance = 1e-12;
  CHECK(check_causal(bug, x, loose));
  CHECK_FALSE(check_causal([](const Tensor& x) { return x * NAN; }, x, quiet()));
  CHECK_THROWS_WITH(check_causal([](const Tensor& x) { return sum(x, 1); }, x),
                    "check_causal: expected an output [2, 6, ...] for an input [2, 6, 4], got [2, 4]");
}

TEST_CASE("check_padding_invariance: masked inputs are unseen, a leak is named") {
  const Tensor x = input({2, 5, 4});
  const Tensor mask = tensor(std::vector<bool>{true, true, true, false, false, true, true, true, true, true}, {2, 5});
  const auto masked = [](const Tensor& x, const Tensor& m) { return attend(x, false, m); };
  CHECK(check_padding_invariance(masked, x, mask));
  CHECK(check_padding_invariance(masked, x.to(float32), mask));
  const auto ignores = [](const Tensor& x, const Tensor&) { return attend(x, false); };
  const StructureResult r = check_padding_invariance(ignores, x, mask, quiet());
  CHECK(has(r, "the output at the kept time 0 (batch row 0) has a gradient of "));
  CHECK(r.offending.front() == std::pair<int64_t, int64_t>{0, 3});
  CHECK_THROWS_AS(check_padding_invariance(ignores, x, mask), Error);
  // The mean over the padded length: no gradient by padding, but more of it changes the result.
  const auto by_length = [](const Tensor& x, const Tensor& m) {
    return x + sum(where(unsqueeze(m, -1), x, 0.0), 1, keepdim) / static_cast<double>(x.size(1));
  };
  CHECK(has(check_padding_invariance(by_length, x, mask, quiet()), "when more padding follows"));
  const auto hidden = [](const Tensor& x, const Tensor&) { return x + amax(x, 1, keepdim).detach(); };
  CHECK(has(check_padding_invariance(hidden, x, mask, quiet()), "when masked inputs change"));
  const Tensor none = zeros({2, 5}, {.dtype = boolean});
  CHECK(check_padding_invariance(masked, x, none));  // nothing kept, nothing to see
  CHECK(has(check_padding_invariance([](const Tensor& x, const Tensor&) { return x * NAN; }, x, mask, quiet()),
            "is not finite"));
  CHECK_THROWS_WITH(check_padding_invariance(masked, x, zeros({2, 5})),
                    "check_padding_invariance: expected a bool mask [2, 5], got float32 [2, 5]");
}

TEST_CASE("check_batch_independence: rows keep to themselves, a mixture is named") {
  const Tensor x = input({3, 5, 4});
  CHECK(check_batch_independence([](const Tensor& x) { return attend(x, false); }, x));
  const auto batch_norm = [](const Tensor& x) { return x - mean(x, 0, keepdim); };
  const StructureResult r = check_batch_independence(batch_norm, x, quiet());
  CHECK(has(r, "row 0 of the output has a gradient of "));
  CHECK(r.offending.size() >= 6);
  CHECK_THROWS_AS(check_batch_independence(batch_norm, x), Error);
  const auto hidden = [](const Tensor& x) { return x + amax(x.detach()); };
  CHECK(has(check_batch_independence(hidden, x, quiet()), "(a path without a gradient)"));
  const auto by_size = [](const Tensor& x) { return x * (1.0 / static_cast<double>(x.size(0))); };
  CHECK(has(check_batch_independence(by_size, x, quiet()), "row 0 alone gives another result than within the batch"));
  CHECK_THROWS_WITH(check_batch_independence(batch_norm, input({1, 4})),
                    "check_batch_independence: expected a floating input [b >= 2, ...], got float64 [1, 4]");
}
