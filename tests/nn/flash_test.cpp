// FLASH's modules beyond the recorded cases: gradients by finite differences, structure, weights, wrong uses.
#include <doctest/doctest.h>
#include <weft/autograd/structure.h>
#include <weft/nn/flash/attention_fn.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/flash/gau.h>
#include <weft/nn/flash/scale_norm.h>
#include <weft/nn/flash/token_shift.h>
#include <weft/nn/init.h>
#include <weft/ops/create.h>
#include <weft/ops/matmul.h>
#include <weft/ops/random.h>
#include <weft/ops/shape.h>
#include <weft/tensor/safetensors.h>

#include "support/message_of.h"
#include "support/module.h"
#include "support/temporary_folder.h"
#include "support/walker.h"

using namespace weft;
using namespace weft::flash;
using namespace weft::test;

TEST_CASE("flash: gradients of the parts") {
  manual_seed(1);
  const auto unary = [](Module& m, const Tensor& x) {
    prepare(m);
    check_gradients(m, x, [&m](const Tensor& t) { return m.forward(t); });
  };
  ScaleNorm norm({.dim = 5});
  unary(norm, input({2, 3, 5}));
  OffsetScale offset({.dim = 4, .heads = 3});
  unary(offset, input({2, 3, 4}));
  ReLUSquared relu2;
  unary(relu2, input({7}));
  LaplacianAttnFn laplace;
  unary(laplace, input({7}));
  RotaryEmbedding rotary({.dim = 4, .learned_freq = true});
  prepare(rotary);
  check_gradients(rotary, input({2, 5, 6}), [&](const Tensor& t) { return rotary.rotate_queries_or_keys(t); });
  gradcheck([](const Tensor& x) { return shift_tokens(x); }, {input({2, 4, 5})});

  // These look at the length of their input only.
  ScaledSinuEmbedding sinu({.dim = 6});
  prepare(sinu);
  gradcheck([&](const Tensors&) { return Tensors{sinu.forward(zeros({1, 5}))}; }, sinu.parameters());
  for (bool causal : {false, true}) {
    T5RelativePositionBias bias({.scale = 2, .causal = causal, .num_buckets = 8, .max_distance = 16});
    prepare(bias);
    gradcheck([&](const Tensors&) { return Tensors{bias.bias(5, 9)}; }, bias.parameters());
  }
}

TEST_CASE("flash: gradients of GAU") {
  manual_seed(2);
  for (bool causal : {false, true})
    for (bool laplace : {false, true})
      for (bool invariant : {false, true}) {
        GAU gau({.dim = 6,
                 .query_key_dim = 4,
                 .causal = causal,
                 .laplace_attn_fn = laplace,
                 .norm_klass = causal ? "ScaleNorm" : "LayerNorm",
                 .padding_invariant = invariant});
        prepare(gau);
        const Tensor mask = mask_of(5, {5, 3});
        check_gradients(gau, input({2, 5, 6}), [&](const Tensor& x) { return gau(x, mask); });
      }
}

TEST_CASE("flash: gradients of FLASH") {
  manual_seed(3);
  for (bool causal : {false, true})
    for (bool laplace : {false, true})
      for (bool shift : {false, true})
        for (bool reduce : {false, true}) {
          const auto rotary = std::make_shared<RotaryEmbedding>(RotaryEmbeddingConfig{.dim = 2});
          FLASH flash({.dim = 6,
                       .group_size = 3,
                       .causal = causal,
                       .query_key_dim = 4,
                       .laplace_attn_fn = laplace,
                       .rotary_pos_emb = rotary,
                       .shift_tokens = shift,
                       .reduce_group_non_causal_attn = reduce,
                       .padding_invariant = shift && laplace});
          prepare(flash);
          const Tensor mask = reduce ? mask_of(7, {7, 4}) : Tensor();
          check_gradients(flash, input({2, 7, 6}), [&](const Tensor& x) { return flash(x, mask); });
        }
}

TEST_CASE("flash: gradients of FLASHTransformer") {
  manual_seed(4);
  FLASHTransformer model({.num_tokens = 7, .dim = 6, .depth = 2, .causal = true, .group_size = 3, .query_key_dim = 4});
  prepare(model);
  const Tensor tokens = randint(0, 7, {2, 5});
  gradcheck([&](const Tensors&) { return Tensors{model(tokens)}; }, model.parameters(), {.fast_mode = true});
}

TEST_CASE("flash: under Autocast the stream is in its dtype and the results are those of float32, rounded") {
  manual_seed(5);
  FLASHTransformer model(
      {.num_tokens = 11, .dim = 16, .depth = 3, .causal = true, .group_size = 8, .query_key_dim = 8});
  const Tensors parameters = model.parameters();
  for (const int64_t n : {7, 16, 20}) {  // one group, whole groups, some tokens left over
    CAPTURE(n);
    const Tensor tokens = randint(0, 11, {2, n}), upstream = randn({2, n, 11});
    const Tensor exact = model(tokens);
    const Tensors exact_grads = grad({exact}, parameters, {upstream}, {.allow_unused = true});
    const Autocast scope(bfloat16);
    const Tensor rounded = model(tokens);
    CHECK(rounded.dtype() == bfloat16);
    CHECK(relative_error(rounded, exact) < 3e-2);
    const Tensors grads = grad({rounded}, parameters, {upstream.to(bfloat16)}, {.allow_unused = true});
    Tensors all, exact_all;
    for (size_t i = 0; i < grads.size(); ++i) {
      CAPTURE(model.named_parameters()[i].first);
      REQUIRE(grads[i].defined() == exact_grads[i].defined());
      if (!grads[i].defined()) continue;
      CHECK(grads[i].dtype() == float32);
      all.push_back(flatten(grads[i])), exact_all.push_back(flatten(exact_grads[i]));
      // One number may be a sum in which much cancels; it counts among all.
      if (grads[i].numel() > 1) CHECK(relative_error(grads[i], exact_grads[i], 1e-2) < 0.1);
    }
    CHECK(relative_error(cat(all, 0), cat(exact_all, 0)) < 0.03);
  }
}

TEST_CASE("flash: causal layers do not look ahead, and rows of a batch do not meet") {
  manual_seed(5);
  const Tensor x = randn({2, 11, 6}, {.dtype = float64});
  for (bool laplace : {false, true}) {
    GAU gau({.dim = 6, .query_key_dim = 4, .causal = true, .laplace_attn_fn = laplace});
    FLASH flash({.dim = 6,
                 .group_size = 4,
                 .causal = true,
                 .query_key_dim = 4,
                 .laplace_attn_fn = laplace,
                 .rotary_pos_emb = std::make_shared<RotaryEmbedding>(RotaryEmbeddingConfig{.dim = 4}),
                 .shift_tokens = true});
    prepare(gau), prepare(flash);
    check_causal([&](const Tensor& t) { return gau(t); }, x);
    check_causal([&](const Tensor& t) { return flash(t); }, x);
    check_batch_independence([&](const Tensor& t) { return gau(t); }, x);
    check_batch_independence([&](const Tensor& t) { return flash(t); }, x);
  }
  FLASH both({.dim = 6, .group_size = 4, .query_key_dim = 4});
  prepare(both);
  check_batch_independence([&](const Tensor& t) { return both(t); }, x);
  CHECK_FALSE(check_causal([&](const Tensor& t) { return both(t); }, x, {.raise_exception = false}));
}

TEST_CASE("flash: results depend on padding as in the original, unless padding_invariant") {
  manual_seed(6);
  const Tensor x = randn({2, 9, 6}, {.dtype = float64}), mask = mask_of(9, {9, 5});
  for (bool causal : {false, true})
    for (bool reduce : {false, true})
      for (bool invariant : {false, true}) {
        GAU gau(
            {.dim = 6, .query_key_dim = 4, .causal = causal, .laplace_attn_fn = true, .padding_invariant = invariant});
        FLASH flash({.dim = 6,
                     .group_size = 4,
                     .causal = causal,
                     .query_key_dim = 4,
                     .laplace_attn_fn = true,
                     .shift_tokens = true,
                     .reduce_group_non_causal_attn = reduce,
                     .padding_invariant = invariant});
        prepare(gau), prepare(flash);
        const StructureOptions quiet{.raise_exception = false};
        CHECK(bool(check_padding_invariance([&](const Tensor& t, const Tensor& m) { return gau(t, m); }, x, mask,
                                            quiet)) == invariant);
        // Causal FLASH divides by the group alone.
        CHECK(bool(check_padding_invariance([&](const Tensor& t, const Tensor& m) { return flash(t, m); }, x, mask,
                                            quiet)) == (invariant || causal));
      }
}

TEST_CASE("flash: GAU honours rel_pos_bias") {
  GAU with({.dim = 6, .query_key_dim = 4}), without({.dim = 6, .query_key_dim = 4, .rel_pos_bias = false});
  CHECK(with.num_parameters() == without.num_parameters() + 32);
  prepare(with), prepare(without);
  without.load_state_dict(with.state_dict(), false);
  const Tensor x = randn({1, 5, 6}, {.dtype = float64});
  CHECK(with(x).to_vector<double>() != without(x).to_vector<double>());
}

TEST_CASE("flash: a half-precision model keeps its angles exact") {
  ScaledSinuEmbedding sinu({.dim = 16});
  const auto exact = sinu(zeros({1, 4000, 1})).to_vector();
  sinu.to(bfloat16);
  const auto half = sinu(zeros({1, 4000, 1})).to_vector();
  float worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) worst = std::max(worst, std::abs(exact[i] - half[i]));
  CHECK(worst < 0.005f);  // rounding of the result, not of the angle
}

TEST_CASE("flash: weights written and read give the same bits, and the names are the original's") {
  const FLASHTransformerConfig config{
      .num_tokens = 11, .dim = 8, .depth = 2, .causal = true, .group_size = 4, .query_key_dim = 4};
  FLASHTransformer a(config), b(config);
  std::string names;
  for (auto& [name, t] : a.state_dict()) names += name + "\n";
  const auto layer = [](const std::string& i) {
    std::string s;
    for (const char* n : {"rotary_pos_emb.freqs", "rel_pos_bias.relative_attention_bias.weight", "norm.g",
                          "to_hidden.0.weight", "to_hidden.0.bias", "to_qk.0.weight", "to_qk.0.bias",
                          "qk_offset_scale.gamma", "qk_offset_scale.beta", "to_out.weight", "to_out.bias"})
      s += "layers." + i + "." + n + "\n";
    return s;
  };
  CHECK(names == "token_emb.weight\nabs_pos_emb.scale\nabs_pos_emb.inv_freq\n" + layer("0") + layer("1") +
                     "to_logits.0.weight\nto_logits.0.bias\nto_logits.1.weight\nto_logits.1.bias\n");

  const TemporaryFolder folder;
  const std::string path = folder / "weights.safetensors";
  save_safetensors(path, a.state_dict());
  b.load_state_dict(load_safetensors(path));
  const Tensor tokens = randint(0, 11, {2, 9});
  CHECK(a(tokens).to_vector() == b(tokens).to_vector());
}

TEST_CASE("flash: configs go through JSON") {
  const FLASHTransformerConfig config{.num_tokens = 11, .dim = 8, .depth = 2, .causal = true, .norm_type = "layernorm"};
  const std::string json = config_to_json(config);
  CHECK(config_to_json(config_from_json<FLASHTransformerConfig>(json, "FLASHTransformer")) == json);
}

TEST_CASE("flash: wrong uses are errors that say what was wrong") {
  CHECK(message_of([] { GAU gau({}); }) == "GAU: dim and query_key_dim must be positive, got 0 and 128");
  CHECK(message_of([] { GAU gau({.dim = 4, .expansion_factor = 0.1}); }) ==
        "GAU: expansion_factor 0.1 gives 0.4 hidden features");
  CHECK(message_of([] { FLASH flash({.dim = 4, .expansion_factor = 1e300}); }) ==
        "FLASH: expansion_factor 1e+300 gives 4e+300 hidden features");
  CHECK(message_of([] { GAU gau({.dim = 4, .norm_klass = "BatchNorm"}); }) ==
        "norm_klass must be LayerNorm, ScaleNorm, RMSNorm or Identity, got BatchNorm");
  CHECK(message_of([] { GAU gau({.dim = 4, .dropout = 2}); }) == "Dropout: p must be in [0, 1], got 2");
  CHECK(message_of([] { FLASH flash({.dim = 4, .group_size = 0}); }) == "FLASH: group_size must be positive, got 0");
  CHECK(message_of([] { FLASHTransformer t({.num_tokens = 3, .dim = 5, .depth = 1}); }) ==
        "FLASHTransformer: dim must be positive and even, got 5");
  CHECK(message_of([] { FLASHTransformer t({.num_tokens = 3, .dim = 4, .depth = 1, .norm_type = "rms"}); }) ==
        "FLASHTransformer: norm_type must be scalenorm or layernorm, got rms");
  CHECK(message_of([] { RotaryEmbedding r({.dim = 3}); }) == "RotaryEmbedding: dim must be positive and even, got 3");
  FLASH flash({.dim = 4, .query_key_dim = 4});
  CHECK(message_of([&] { flash(zeros({2, 3, 5})); }) == "FLASH: expected x [batch, length, 4], got [2, 3, 5]");
  CHECK(message_of([&] { flash(zeros({2, 3, 4}), zeros({2, 3})); }) == "FLASH: expected a bool mask, got float32");
  CHECK(message_of([&] {
          flash(zeros({2, 3, 4}), zeros({2, 4}, {.dtype = boolean}));
        }) == "FLASH: mask [2, 4] does not fit x [2, 3, 4]");
  CHECK(message_of([&] { flash(zeros({2, 0, 4})); }) == "FLASH: expected at least one token, got [2, 0, 4]");
}
