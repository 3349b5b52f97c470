#include <doctest/doctest.h>
#include <weft/weft.h>

#include "support/sample.h"

using namespace weft;

// The fused backward against the composition that create_graph takes.
TEST_CASE("attention: the fused backward agrees with the composition") {
  for (const auto& s : test::all_samples().samples) {
    if (s.op != "scaled_dot_product_attention" && s.op != "attention_with_lse" && s.op != "attention_varlen") continue;
    CAPTURE(s.variant);
    Tensors x;
    for (const Tensor& t : s.inputs) x.push_back(t.clone().to(default_device()).requires_grad_());
    Tensors y = s.call(x);
    Tensor loss = zeros({}, {.dtype = float64});
    for (size_t i = 0; i < y.size(); ++i)
      loss = loss + sum(where(isfinite(y[i]), y[i], 0.0) * test::values(y[i].shape(), 20 + i).to(default_device()));
    const Tensors fused = grad({loss}, x, {}, {.retain_graph = true}),
                  composed = grad({loss}, x, {}, {.create_graph = true});
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = sum(square(fused[i] - composed[i])).item(), size = sum(square(composed[i])).item();
      CHECK(error <= 1e-22 * (size + 1e-6));
    }
    const DefaultDevice host(Device::cpu());  // where references compute
    const Tensors want = s.reference(s.inputs);
    for (size_t i = 0; i < y.size(); ++i) {
      const Tensor got = y[i].detach().cpu();
      const Tensor a = where(isfinite(got), got, 0.0), b = where(isfinite(want[i]), want[i], 0.0);
      CHECK(sum(square(a - b)).item() <= 1e-24 * (sum(square(b)).item() + 1e-6));
      CHECK(all(eq(isfinite(got), isfinite(want[i]))).item<int64_t>() == 1);
    }
  }
}

TEST_CASE("attention: the result is kept for a softmax alone") {
  for (const AttentionFn fn : {AttentionFn::softmax, AttentionFn::relu_squared, AttentionFn::laplace}) {
    const Tensor q = randn({1, 2, 5, 4}).requires_grad_();
    std::weak_ptr<Storage> result;
    Tensor y;
    {
      const Tensor out = scaled_dot_product_attention(q, q, q, {.scale = 0.1, .fn = fn});
      result = out.impl().storage;
      y = out + 1.0;
    }
    CHECK(result.expired() == (fn != AttentionFn::softmax));
    y.backward(ones_like(y));
    CHECK(q.grad().shape() == q.shape());
  }
}

TEST_CASE("attention: dropout repeats in backward and keeps the mean") {
  Tensor q = randn({1, 1, 64, 8}), k = randn({1, 1, 64, 8}), v = ones({1, 1, 64, 1}).requires_grad_();
  Generator g(3);
  Tensor y = scaled_dot_product_attention(q, k, v, {.dropout = 0.5}, g);
  CHECK(y.mean().item() == doctest::Approx(1).epsilon(0.1));
  y.sum().backward();
  // Linear in v: the gradient times v is the output again, if and only if the same weights were dropped.
  CHECK((v.grad() * v).sum().item() == doctest::Approx(y.sum().item()).epsilon(1e-5));
}

TEST_CASE("attention: gradients of the thirds of one projection lie in one buffer and are those of separate tensors") {
  const int64_t b = 2, n = 5, h = 3, d = 4;
  const Tensor x = randn({b, n, 3 * h * d}, {.dtype = float64, .requires_grad = true});
  const Tensor dy = randn({b, h, n, d}, {.dtype = float64});
  const auto heads = [&](const Tensor& t) { return transpose(unflatten(t, -1, {h, d}), 1, 2); };
  const auto attend = [](const Tensors& t) { return scaled_dot_product_attention(t[0], t[1], t[2], {.causal = true}); };
  Tensors thirds, apart;
  for (const Tensor& t : chunk(x, 3, -1)) thirds.push_back(heads(t)), apart.push_back(heads(t.contiguous()));
  const Tensors beside = grad({attend(thirds)}, thirds, {dy}, {.retain_graph = true});
  CHECK(beside[0].impl().storage == beside[2].impl().storage);
  const Tensor got = grad({attend(thirds)}, {x}, {dy}, {.retain_graph = true})[0],
               want = grad({attend(apart)}, {x}, {dy})[0];
  CHECK(got.to_vector<double>() == want.to_vector<double>());
  const NoGrad guard;
  const Tensor joined = detail::joined({beside[0], beside[1], beside[2]}, 1);  // heads of all three, one after another
  CHECK(joined.impl().storage == beside[0].impl().storage);
  CHECK(joined.to_vector<double>() == cat({beside[0], beside[1], beside[2]}, 1).to_vector<double>());
  CHECK(detail::joined({beside[1], beside[0]}, 1).impl().storage != beside[0].impl().storage);
}
