// What samples do not see of the losses over classes: memory that is given up, several chunks, several sweeps.
#include <doctest/doctest.h>
#include <weft/weft.h>

#include "support/walker.h"

using namespace weft;
using namespace weft::test;

namespace {

Tensor target_classes() { return tensor(std::vector<int64_t>{2, 0, -100, 4, 1, 3}); }

Tensor leaf(const Shape& shape, uint64_t seed, DType dtype = float32) {
  return values(shape, seed).to(dtype).to(default_device()).requires_grad_();
}

void check_close(const Tensor& a, const Tensor& b) { CHECK(relative_error(a, b) <= tolerance(a.dtype())); }

}  // namespace

TEST_CASE("cross_entropy_: the gradient takes the place of logits that nobody else holds") {
  const Tensor x = leaf({6, 4}, 1), w = leaf({5, 4}, 2), rate = scalar(0.5);
  for (Reduction r : {Reduction::mean, Reduction::sum}) {
    const CrossEntropyOptions o{.label_smoothing = 0.1, .reduction = r};
    const Tensors want = grad({mul(cross_entropy(linear(x, w), target_classes(), o), rate)}, {x, w});

    Tensor logits = linear(x, w);
    const Tensor before = logits.detach().clone();
    const Tensor loss = cross_entropy_(std::move(logits), target_classes(), o);
    CHECK(loss.item() == doctest::Approx(cross_entropy(before, target_classes(), o).item()));
    const Tensors got = grad({mul(loss, rate)}, {x, w});
    check_close(got[0], want[0]);
    check_close(got[1], want[1]);
  }
}

TEST_CASE("cross_entropy_: logits that someone holds stay as they are") {
  const Tensor x = leaf({6, 5}, 3);
  const Tensor before = x.detach().clone();
  Tensor given = x;
  cross_entropy_(std::move(given), target_classes()).backward();
  CHECK(relative_error(x.detach(), before) == 0);

  Tensor held = mul(x, 2.0);
  const Tensor mine = held, copy = held.detach().clone();
  cross_entropy_(std::move(held), target_classes()).backward();
  CHECK(relative_error(mine.detach(), copy) == 0);

  // An operation that keeps its result for its own backward.
  x.set_grad({});
  cross_entropy_(softmax(x, -1), target_classes()).backward();
  const Tensor got = x.grad();
  x.set_grad({});
  cross_entropy(softmax(x, -1), target_classes()).backward();
  check_close(got, x.grad());
}

TEST_CASE("cross_entropy_: a second sweep and a second order say what to do") {
  const Tensor x = leaf({6, 5}, 4);
  const Tensor loss = cross_entropy_(mul(x, 2.0), target_classes());
  grad({loss}, {x}, {}, {.retain_graph = true});
  CHECK_THROWS_WITH(grad({loss}, {x}), "cross_entropy_: an earlier sweep has taken the gradient; use cross_entropy");
  CHECK_THROWS_WITH(grad({cross_entropy_(mul(x, 2.0), target_classes())}, {x}, {}, {.create_graph = true}),
                    "cross_entropy_: the logits have given their place to the gradient, so that there is no second "
                    "order; use cross_entropy");
}

TEST_CASE("linear_cross_entropy: several sweeps, upstream gradients, Autocast") {
  const Tensor x = leaf({6, 4}, 5), w = leaf({5, 4}, 6), b = leaf({5}, 7), rate = scalar(-3.0);
  const Tensors want = grad({mul(cross_entropy(linear(x, w, b), target_classes()), rate)}, {x, w, b});
  const Tensor loss = mul(linear_cross_entropy(x, w, target_classes(), {}, b), rate);
  for (int sweep = 0; sweep < 3; ++sweep) {
    const Tensors got = grad({loss}, {x, w, b}, {}, {.retain_graph = true});
    for (size_t i = 0; i < 3; ++i) check_close(got[i], want[i]);
  }
  Autocast scope(bfloat16);
  const Tensor low = linear_cross_entropy(x, w, target_classes(), {}, b);
  CHECK(low.dtype() == float32);
  CHECK(low.item() * -3 == doctest::Approx(loss.item()).epsilon(2e-2));
  const Tensors got = grad({low}, {x, w, b});
  for (size_t i = 0; i < 3; ++i) {
    CHECK(got[i].dtype() == float32);
    CHECK(relative_error(got[i] * -3.0, want[i]) < 2e-2);
  }
}

TEST_CASE("linear_cross_entropy: chunks of any size give the same") {
  const Tensor x = leaf({70, 3}, 8), w = leaf({133, 3}, 9);
  Generator g(1);
  const Tensor target = randint(0, 133, {70}, {.dtype = int64}, g);
  const Tensors want = grad({cross_entropy(linear(x, w), target)}, {x, w});
  for (int64_t chunk : {1, 7, 64, 70, 1000}) {
    const Tensors got = grad({linear_cross_entropy(x, w, target, {}, {}, chunk)}, {x, w});
    check_close(got[0], want[0]);
    check_close(got[1], want[1]);
  }
}
