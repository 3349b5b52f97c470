// x-transformers' layers beyond the recorded cases: gradients by finite differences, structure, wrong uses.
#include <doctest/doctest.h>
#include <weft/autograd/gradcheck.h>
#include <weft/autograd/structure.h>
#include <weft/tensor/safetensors.h>

#include "support/walker.h"
#include "xt_support.h"

using namespace weft;
using namespace weft::xt;
using namespace weft::test;

namespace {

// Options that work on causal and other layers alike.
const char* const kOptions[] = {
    R"({})",
    R"({"attn_flash": true, "attn_num_mem_kv": 2, "attn_kv_heads": 1})",
    R"({"rel_pos_bias": true, "attn_flash": true})",
    R"({"dynamic_pos_bias": true, "attn_flash": true})",
    R"({"alibi_pos_bias": true, "alibi_num_heads": 1})",
    R"({"rotary_pos_emb": true, "rotary_emb_dim": 4, "attn_qk_norm": true, "attn_qk_norm_dim_scale": true})",
    R"({"attn_pre_talking_heads": true, "attn_post_talking_heads": true, "attn_softclamp_logits": true})",
    R"({"attn_sigmoid": true, "attn_head_scale": true, "attn_gate_values": true, "attn_swiglu_values": true})",
    R"({"attn_l2_distance": true, "attn_on_attn": true, "attn_gate_value_heads": true, "attn_add_zero_kv": true})",
    R"({"attn_laser": true, "attn_value_dim_head": 3, "attn_max_attend_past": 2})",
    R"({"attn_data_dependent_alibi": true})",
    R"({"pre_norm": false, "residual_attn": true, "scale_residual": true, "scale_residual_constant": 1.2})",
    R"({"resi_dual": true, "resi_dual_scale": 0.5, "use_rmsnorm": true})",
    R"({"sandwich_norm": true, "use_scalenorm": true, "macaron": true, "gate_residual": true})",
    R"({"num_residual_streams": 2, "qkv_receive_diff_residuals": true, "use_simple_rmsnorm": true})",
    R"({"add_value_residual": true, "attn_kv_heads": 1, "unet_skips": true})",
    R"({"ff_glu": true, "ff_swish": true, "ff_post_act_ln": true, "ff_mult": 1.5, "reinject_input": true})",
    R"({"attn_use_latent_q": true, "attn_dim_latent_q": 5, "attn_use_latent_kv": true, "attn_dim_latent_kv": 4})",
    R"({"weight_tie_layers": true, "use_layerscale": true, "softclamp_output": true, "softclamp_output_value": 2})",
};

const char* const kCausalOptions[] = {
    R"({"attn_selective": true})",
    R"({"attn_use_cope": true, "attn_cope_max_pos": 3})",
    R"({"attn_use_cope": true, "attn_cope_max_pos": 3, "attn_cope_soft_onehot_pos": true})",
    R"({"attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})",
    R"({"rotary_xpos": true, "rotary_xpos_scale_base": 4, "rotary_emb_dim": 4})",
    R"({"shift_tokens": 1, "attn_flash": true})",
};

}  // namespace

TEST_CASE("xt: gradients of the layers") {
  for (const char* options : kOptions) {
    CAPTURE(std::string(options));
    manual_seed(5);
    Encoder encoder(small_layers(options));
    prepare(encoder);
    const Call call{.mask = mask_of(5, {5, 3})};
    check_gradients(encoder, input({2, 5, 12}), [&](const Tensor& x) { return encoder(x, call); });
  }
  for (const char* options : kCausalOptions) {
    CAPTURE(std::string(options));
    manual_seed(6);
    Decoder decoder(small_layers(options));
    prepare(decoder);
    check_gradients(decoder, input({2, 5, 12}), [&](const Tensor& x) { return decoder(x); });
  }
}

TEST_CASE("xt: under Autocast the stream is in its dtype and the results are those of float32, rounded") {
  const auto check_options = [](const char* options, bool causal) {
    CAPTURE(std::string(options));
    manual_seed(8);
    const auto config = small_layers(options);
    const auto layers = causal ? std::shared_ptr<AttentionLayers>(std::make_shared<Decoder>(config))
                               : std::shared_ptr<AttentionLayers>(std::make_shared<Encoder>(config));
    TransformerWrapper net({.num_tokens = 11, .max_seq_len = 8, .attn_layers = layers});
    net.eval();
    const Tensor tokens = randint(0, 11, {2, 5}), exact = net(tokens);
    const Autocast scope(bfloat16);
    const TransformerOutput rounded = net.run(tokens, {});
    CHECK(rounded.intermediates.layer_hiddens.front().dtype() == bfloat16);
    CHECK(relative_error(rounded.logits[0], exact) < 5e-2);
    rounded.logits[0].sum().backward();
    for (const auto& [name, p] : net.named_parameters()) {
      CAPTURE(name);
      if (p.grad().defined()) CHECK(std::isfinite(p.grad().sum().item()));
    }
  };
  for (const char* options : kOptions) check_options(options, false);
  for (const char* options : kCausalOptions) check_options(options, true);
}

// Many rows take queries, keys and values from one product, few from three.
TEST_CASE("xt: a large batch gives the results and gradients of its parts") {
  manual_seed(9);
  for (const char* options : {R"({})", R"({"attn_kv_heads": 1, "attn_flash": true, "attn_value_dim_head": 5})"}) {
    CAPTURE(std::string(options));
    Decoder decoder(small_layers(options));
    prepare(decoder);
    const Tensor x = input({4, 70, 12}), dy = randn(x.shape(), {.dtype = float64});
    const Tensors parameters = decoder.parameters();
    Tensors inputs{x};
    for (const Tensor& p : parameters) inputs.push_back(p);
    const Tensor whole = decoder(x);
    const Tensors of_whole = grad({whole}, inputs, {dy});
    Tensors parts;
    for (int64_t i = 0; i < 4; ++i) parts.push_back(decoder(narrow(x, 0, i, 1)));
    const Tensor joined = cat(parts, 0);
    const Tensors of_parts = grad({joined}, inputs, {dy});
    CHECK(relative_error(whole, joined) < 1e-12);
    for (size_t i = 0; i < inputs.size(); ++i) CHECK(relative_error(of_whole[i], of_parts[i]) < 1e-11);
  }
}

TEST_CASE("xt: decoders see the past only") {
  manual_seed(7);
  const auto causal = [](const char* options) {
    CAPTURE(std::string(options));
    Decoder decoder(small_layers(options));
    prepare(decoder);
    check_causal([&](const Tensor& x) { return decoder(x); }, randn({2, 7, 12}, {.dtype = float64}));
  };
  for (const char* options : kOptions) causal(options);
  for (const char* options : kCausalOptions) causal(options);
  for (const char* options :
       {R"({"attn_hard": true})", R"({"attn_sparse_topk": 2})", R"({"shift_tokens": [2, 1, 0, 1]})"})
    causal(options);
}

TEST_CASE("xt: results do not depend on padding") {
  manual_seed(8);
  const Tensor mask = mask_of(6, {6, 3});
  const auto invariant = [&](const char* options, bool causal) {
    CAPTURE(std::string(options));
    AttentionLayersConfig c = small_layers(options);
    c.causal = causal;
    AttentionLayers layers(c);
    prepare(layers);
    check_padding_invariance([&](const Tensor& x, const Tensor& m) { return layers(x, Call{.mask = m}); },
                             randn({2, 6, 12}, {.dtype = float64}), mask);
  };
  for (const char* options : kOptions) invariant(options, false), invariant(options, true);
  for (const char* options : kCausalOptions) invariant(options, true);
  invariant(R"({"shift_tokens": 1, "padding_invariant": true})", false);
}

TEST_CASE("xt: rows of a batch do not touch each other") {
  manual_seed(9);
  for (const char* options : kOptions) {
    CAPTURE(std::string(options));
    Encoder encoder(small_layers(options));
    prepare(encoder);
    check_batch_independence([&](const Tensor& x) { return encoder(x); }, randn({3, 4, 12}, {.dtype = float64}));
  }
}

TEST_CASE("xt: flash and its alternatives give the same numbers") {
  manual_seed(10);
  const Tensor x = randn({2, 7, 12}, {.dtype = float64}), mask = mask_of(7, {7, 4});
  for (const char* options : {R"({})", R"({"rel_pos_bias": true})", R"({"dynamic_pos_bias": true})",
                              R"({"alibi_pos_bias": true, "attn_kv_heads": 1})", R"({"attn_num_mem_kv": 2})",
                              R"({"attn_l2_distance": true})", R"({"attn_data_dependent_alibi": true})"})
    for (bool causal : {false, true}) {
      CAPTURE(std::string(options));
      AttentionLayersConfig c = small_layers(options);
      c.causal = causal, c.attn_flash = true;
      AttentionLayers layers(c);
      prepare(layers);
      LayerIntermediates kept;
      const Tensor fused = layers(x, Call{.mask = mask});
      const Tensor scores = layers(x, Call{.mask = mask, .return_attn = true}, &kept);
      CHECK(difference(fused, scores) < 1e-12);
      CHECK(kept.attn_intermediates.at(0).post_softmax_attn.size(2) == 7);
    }
}

TEST_CASE("xt: a bias as wide as the tokens counts at their keys, one of width 1 at memories too") {
  manual_seed(12);
  const auto random = [](const Shape& shape) { return randn(shape, {.dtype = float64}); };
  for (const char* options :
       {R"({})", R"({"rel_pos_bias": true})", R"({"dynamic_pos_bias": true})", R"({"alibi_pos_bias": true})"}) {
    CAPTURE(std::string(options));
    Encoder encoder(small_layers(options));
    prepare(encoder);
    const Tensor memories = random({2, 4, 12});
    const auto added = [&](const Tensor& x, const Tensor& bias) {  // to the scores of the first layer
      const auto scores = [&](const Tensor& given) {
        LayerIntermediates kept;
        encoder(x, {.mems = {memories, memories}, .attn_bias = given, .return_attn = true}, &kept);
        return kept.attn_intermediates.at(0).pre_softmax_attn;
      };
      return scores(bias) - scores({});
    };
    const Tensor wide = random({2, 2, 3, 3});
    CHECK(difference(added(random({2, 3, 12}), wide), cat({zeros({2, 2, 3, 4}, {.dtype = float64}), wide}, 3)) < 1e-12);
    for (const int64_t n : {1, 3}) {
      const Tensor narrow = random({2, 2, n, 1});
      CHECK(difference(added(random({2, n, 12}), narrow), expand(narrow, {2, 2, n, 4 + n}).contiguous()) < 1e-12);
    }
  }
}

TEST_CASE("xt: a query that may see nothing gives 0") {
  manual_seed(11);
  for (const char* options :
       {R"({})", R"({"attn_sparse_topk": 2})", R"({"attn_hard": true})", R"({"attn_softclamp_logits": true})",
        R"({"alibi_pos_bias": true, "attn_flash": true})"}) {
    CAPTURE(std::string(options));
    auto c = small_layers(options);
    Attention attention({.dim = 12,
                         .heads = 2,
                         .causal = true,
                         .dim_head = 6,
                         .sparse_topk = c.attn_sparse_topk,
                         .hard = c.attn_hard,
                         .softclamp_logits = c.attn_softclamp_logits});
    prepare(attention);
    Tensor x = randn({1, 4, 12}, {.dtype = float64, .requires_grad = true});
    SublayerArguments args;
    args.key_mask =
        tensor(std::vector<bool>{false, false, true, true}, {1, 4});  // with causality rows 0 and 1 see none
    const Tensor y = attention(x, args, nullptr);
    CHECK(difference(slice(y, 1, 0, 2), zeros({1, 2, 12}, {.dtype = float64})) == 0);
    y.sum().backward();
    CHECK(difference(x.grad(), x.grad()) == 0);  // no NaN
  }
}

TEST_CASE("xt: options that contradict each other are errors that name them") {
  const auto fails = [](const char* options) { return message_of([&] { Decoder decoder(small_layers(options)); }); };
  CHECK(fails(R"({"use_rmsnorm": true, "use_scalenorm": true})") ==
        "AttentionLayers: use_scalenorm and use_rmsnorm exclude each other");
  CHECK(fails(R"({"attn_flash": true, "attn_sparse_topk": 2})") ==
        "Attention: sparse_topk works on the matrix of scores, which flash attention never makes: use one of the two");
  CHECK(fails(R"({"attn_flash": true, "residual_attn": true})") ==
        "AttentionLayers: attn_flash and residual_attn exclude each other");
  CHECK(fails(R"({"attn_kv_heads": 3})") == "Attention: 2 heads cannot share 3 key-value heads");
  CHECK(fails(R"({"attn_hard": true, "attn_sigmoid": true})") == "Attention: sigmoid and hard exclude each other");
  CHECK(fails(R"({"shift_tokens": [1, 2, 3]})") == "option shift_tokens: expected 1 or 4 values, got 3");
  CHECK(fails(R"({"custom_layers": ["a", "x"]})") == "AttentionLayers: custom_layers are a, c and f, not x");
  CHECK(fails(R"({"sandwich_coef": 3})") == "AttentionLayers: sandwich_coef must be from 1 to depth 2, got 3");
  CHECK(fails(R"({"causal": true})") == "Decoder: causal cannot be set");
  CHECK(message_of([] { Encoder e(small_layers(R"({"rotary_xpos": true})")); }) ==
        "AttentionLayers: rotary_xpos needs causal attention");
  CHECK(message_of([] { Encoder e(small_layers(R"({"attn_selective": true})")); }) ==
        "Attention: selective needs causal attention");
  const std::string unknown =
      message_of([] { config_from_json<AttentionLayersConfig>(R"({"attn_flush": true})", "Decoder"); });
  CHECK(unknown.substr(0, 41) == "Decoder: no option called attn_flush; it ");

  Decoder decoder(small_layers("{}"));
  CHECK(message_of([&] { decoder(zeros({1, 2, 5})); }) == "Decoder: expected x [batch, length, 12], got [1, 2, 5]");
  CHECK(message_of([&] {
          decoder(zeros({1, 2, 12}), Call{.context = zeros({1, 2, 12})});
        }) == "Decoder: takes no context (cross_attend is off)");
  CHECK(message_of([&] {
          decoder(zeros({1, 2, 12}), Call{.mask = zeros({1, 2})});
        }) == "Decoder: expected a bool mask [1, 2], got float32 [1, 2]");
}

TEST_CASE("xt: masks and biases of another length are errors") {
  const Tensor x = zeros({2, 4, 12}), context = zeros({2, 6, 12});
  const auto mask = [](const Shape& shape) { return ones(shape, {.dtype = boolean}); };
  Decoder decoder(small_layers(R"({"cross_attend": true, "attn_num_mem_kv": 2})"));
  const auto fails = [&](Call call) {
    call.context = context;
    return message_of([&] { decoder(x, call); });
  };
  CHECK(fails({.context_mask = mask({2, 6})}).empty());
  for (const int64_t wrong : {3, 4, 5, 7})
    CHECK(fails({.context_mask = mask({2, wrong})}) ==
          concat("Attention: the mask [2, ", wrong, "] is not for 6 keys"));
  CHECK(fails({.attn_mask = mask({4, 4}), .attn_bias = zeros({4, 4})}).empty());
  CHECK(fails({.attn_mask = mask({4, 3})}) == "Attention: attn_mask [4, 3] is not for 4 keys");
  CHECK(fails({.attn_bias = zeros({2, 4, 3})}) == "Attention: attn_bias [2, 4, 3] is not for 4 keys");

  const TransformerWrapper lm(
      {.num_tokens = 9, .max_seq_len = 8, .num_memory_tokens = 2, .attn_layers = make<Encoder>(small_layers("{}"))});
  CHECK(message_of([&] {
          lm(zeros({2, 4}, {.dtype = int64}), Call{.mask = mask({2, 12})});
        }) == "expected a mask [2, 4], got [2, 12]");
}

TEST_CASE("xt: configs go through JSON, and every option has its row") {
  const std::string json = config_to_json(small_layers(R"({"shift_tokens": [1, 0, 1, 0], "rotary_xpos": true})"));
  CHECK(config_to_json(config_from_json<AttentionLayersConfig>(json, "layers")) == json);
  const auto rows = attention_layers_options();
  CHECK(rows.size() > 60);
  CHECK(rows[0].name == "cross_attend");
  CHECK(rows[0].default_value == "false");
}
