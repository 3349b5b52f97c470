// Dense layers: the fused backward against the composition, what Autocast converts and when, products into given
// memory.
#include <doctest/doctest.h>
#include <weft/ops/product_op.h>
#include <weft/weft.h>

#include "support/walker.h"

using namespace weft;
using namespace weft::test;

TEST_CASE(
    "linear, swiglu_linear, mlp, matmul, baddbmm, affine_heads: the fused gradients are those of the composition") {
  for (const Sample& s : all_samples().samples) {
    if (s.op != "linear" && s.op != "swiglu_linear" && s.op != "mlp" && s.op != "matmul" && s.op != "baddbmm" &&
        s.op != "affine_heads")
      continue;
    for (const auto& [dtype, bound] : {std::pair{float64, 1e-12}, {float32, 5e-6}, {bfloat16, 2e-2}, {float16, 4e-3}}) {
      Tensors x;
      for (const Tensor& t : s.inputs) x.push_back(t.to(dtype).to(default_device()).requires_grad_());
      const Tensors y = s.call(x);
      Tensors dy;
      for (const Tensor& t : y) dy.push_back(values(t.shape(), 99 + dy.size()).to(dtype).to(t.device()));
      const Tensors fused = grad(y, x, dy, {.retain_graph = true});
      const Tensors composed = grad(y, x, dy, {.create_graph = true});
      for (size_t i = 0; i < x.size(); ++i) {
        INFO(s.op, ", ", s.variant, ", ", name(dtype), ", input ", i);
        CHECK(fused[i].shape() == composed[i].shape());
        CHECK(relative_error(fused[i], composed[i].detach(), 1e-3) <= bound);
      }
    }
  }
}

TEST_CASE("Autocast: what requires a gradient is converted once, through views too, and again when it has changed") {
  Tensor w = randn({6, 4}).requires_grad_();
  const auto memory = [](const Tensor& x) { return x.impl().storage.get(); };
  std::weak_ptr<Storage> kept;
  {
    const Autocast outer(bfloat16);
    const Tensor first = Autocast::apply(w);
    kept = first.impl().storage;
    CHECK(first.dtype() == bfloat16);
    CHECK(first.requires_grad());
    {
      const Autocast inner(bfloat16);
      CHECK(memory(Autocast::apply(w)) == memory(first));
    }
    const Tensor turned = Autocast::apply(w.t()), slice = Autocast::apply(w.narrow(0, 2, 3));
    CHECK(memory(turned) == memory(first));
    CHECK(turned.strides() == w.t().strides());
    CHECK(slice.to_vector<double>() == w.detach().to(bfloat16).narrow(0, 2, 3).to_vector<double>());
    {
      const Tensor computed = w * 2;
      const Tensor one = Autocast::apply(computed), two = Autocast::apply(computed);
      CHECK(memory(one) == memory(two));
      CHECK(memory(Autocast::apply(w * 2)) != memory(one));
      std::weak_ptr<Storage> gone;
      gone = Autocast::apply(w * 3).impl().storage;
      CHECK(gone.expired());  // nobody holds it
    }
    {
      NoGrad guard;
      w.copy_(randn({6, 4}));
    }
    const Tensor second = Autocast::apply(w);
    CHECK(memory(second) != memory(first));
    CHECK(second.to_vector<double>() == w.detach().to(bfloat16).to_vector<double>());
    Autocast::forget();
    CHECK(memory(Autocast::apply(w)) != memory(second));
    const Autocast other(float16);
    CHECK(Autocast::apply(w).dtype() == float16);
  }
  CHECK(kept.expired());
  {
    NoGrad guard;
    const Autocast scope(bfloat16);
    std::weak_ptr<Storage> held;
    held = Autocast::apply(w).impl().storage;
    CHECK(!held.expired());
    CHECK(Autocast::apply(w).impl().storage == held.lock());
  }
  CHECK(Autocast::apply(w).same_as(w));
}

TEST_CASE("Autocast: parameters of the scope before are converted with the first of them, and held until asked for") {
  const Tensor a = randn({6, 4}).requires_grad_(), b = randn({3}).requires_grad_(), c = randn({5}).requires_grad_();
  const auto rounded = [](const Tensor& x) { return x.detach().to(bfloat16).to_vector<double>(); };
  const auto allocations = [] { return memory_stats(default_device()).allocations; };
  for (int step = 0; step < 3; ++step) {
    const Autocast scope(bfloat16);
    CHECK(Autocast::apply(a).to_vector<double>() == rounded(a));
    if (step == 2) {  // b has changed since
      NoGrad guard;
      Tensor(b).copy_(randn({3}));
    }
    const auto before = allocations();
    const Tensor of_b = Autocast::apply(b);
    if (step == 1) CHECK(allocations() == before);  // it was there
    if (step != 1) CHECK(allocations() > before);
    CHECK(of_b.to_vector<double>() == rounded(b));
    if (step != 1) CHECK(Autocast::apply(c).to_vector<double>() == rounded(c));  // once not asked for
    CHECK(sum(Autocast::apply(a)).dtype() == bfloat16);
  }
}

TEST_CASE("Autocast: gradients of float32 operands are float32 from the product on") {
  // Sums that bfloat16 cannot hold: 257 ones.
  for (const bool by_linear : {true, false}) {
    Tensor x = ones({257, 3}).requires_grad_(), w = ones({2, 3}).requires_grad_(), b = zeros({2}).requires_grad_();
    Tensor y;
    {
      const Autocast scope(bfloat16);
      y = by_linear ? linear(x, w, b) : matmul(x, w.t());
    }
    CHECK(y.dtype() == bfloat16);
    y.backward(ones(y.shape(), {.dtype = bfloat16}));
    CHECK(w.grad().dtype() == float32);
    CHECK(w.grad().to_vector<double>() == std::vector<double>(6, 257));
    if (by_linear) CHECK(b.grad().to_vector<double>() == std::vector<double>(2, 257));
  }
}

TEST_CASE("Autocast: sums of a product and gated layers convert every operand") {
  const Tensor c = randn({5, 4}).requires_grad_(), a = randn({5, 3}).requires_grad_(),
               b = randn({3, 4}).requires_grad_(), w = randn({2, 4}).requires_grad_();
  Tensor y, z;
  {
    const Autocast scope(bfloat16);
    y = baddbmm(c, a, b), z = swiglu_linear(c, baddbmm(c, a, b), w);
  }
  CHECK(y.dtype() == bfloat16);
  CHECK(z.dtype() == bfloat16);
  CHECK(relative_error(y, matmul(a, b) + c) < 1e-2);
  for (const Tensor& g : grad({y, z}, {c, a, b, w}, {ones_like(y), ones_like(z)})) CHECK(g.dtype() == float32);
}

TEST_CASE("matmul: the gradient of a transposed matrix lies as that does") {
  const Tensor a = randn({3, 4, 5}).requires_grad_(), b = randn({3, 4, 6}).requires_grad_();
  const Tensor left = transpose(a, 1, 2), right = transpose(transpose(b, 1, 2).contiguous(), 1, 2);
  const Tensors g = grad({matmul(left, right)}, {left, right}, {randn({3, 5, 6})});
  CHECK(g[0].strides() == left.strides());
  CHECK(g[1].strides() == right.strides());
}

TEST_CASE("gated units: gradients of both parts are written where they are joined") {
  const Tensor x = randn({6, 16}).requires_grad_(), w = randn({5, 8}).requires_grad_();
  Tensor joined;
  const Tensor hidden = record("probe", x * 1, {x}, [&](const Tensor& dy) -> Grads {
    joined = dy;
    return {dy};
  });
  const Tensors parts = chunk(hidden, 2, -1);
  std::vector<const Storage*> of_parts;
  for (Tensor part : parts)
    part.register_hook([&](const Tensor& g) {
      of_parts.push_back(g.impl().storage.get());
      return g;
    });
  sum(swiglu_linear(silu(parts[0]), parts[1], w)).backward();
  REQUIRE(of_parts.size() == 2);
  for (const Storage* storage : of_parts) CHECK(storage == joined.impl().storage.get());
}

TEST_CASE("gated units: the weight's gradient where the inputs need none") {
  const Tensor value = randn({6, 8}), gate = randn({6, 8}), w = randn({5, 8}).requires_grad_();
  const Tensor dy = randn({6, 5});
  const Tensor got = grad({swiglu_linear(value, gate, w)}, {w}, {dy})[0];
  CHECK(relative_error(got, matmul(dy.t(), value * silu(gate))) < 1e-6);
}

TEST_CASE("products into given memory: added up, on rows further apart than they are long") {
  const Tensor x = values({9, 5}, 1).to(bfloat16).to(default_device()),
               w = values({7, 5}, 2).to(bfloat16).to(x.device());
  Tensor logits = detail::empty_rows(9, 7, bfloat16, x.device());
  CHECK(logits.strides() == Shape{8, 1});
  detail::multiply_into(x, w.t(), logits);
  CHECK(relative_error(logits, matmul(x, w.t())) == 0);
  Tensor sum = ones({7, 5});
  detail::multiply_into(logits.narrow(0, 0, 4).t(), x.narrow(0, 0, 4), sum, true);
  detail::multiply_into(logits.narrow(0, 4, 5).t(), x.narrow(0, 4, 5), sum, true);
  CHECK(relative_error(sum, matmul(logits.to(float64).t(), x.to(float64)) + 1.0) < 1e-6);
}
