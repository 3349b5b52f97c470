// x-transformers' options in random company: causality, padding, the fused against the unfused way, a cache against
// none.
#include <doctest/doctest.h>
#include <weft/autograd/structure.h>
#include <weft/nn/gru.h>
#include <weft/ops/reduce.h>

#include <random>

#include "xt_support.h"

using namespace weft;
using namespace weft::xt;
using namespace weft::test;

namespace {

// At most one of each row is drawn.
using Row = std::vector<const char*>;
const std::vector<Row> kRows{
    {R"("use_rmsnorm": true)", R"("use_scalenorm": true)", R"("use_simple_rmsnorm": true)"},
    {R"("alibi_pos_bias": true)", R"("alibi_pos_bias": true, "alibi_num_heads": 3)", R"("rel_pos_bias": true)",
     R"("dynamic_pos_bias": true)", R"("rotary_pos_emb": true, "rotary_emb_dim": 4)",
     R"("rotary_pos_emb": true, "rotary_emb_dim": 3, "alibi_pos_bias": true)", R"("attn_data_dependent_alibi": true)"},
    {R"("pre_norm": false)", R"("sandwich_norm": true)", R"("resi_dual": true, "resi_dual_scale": 0.5)"},
    {R"("gate_residual": true)", R"("scale_residual": true)", R"("scale_residual_constant": 1.3)"},
    {R"("macaron": true)", R"("sandwich_coef": 1)", R"("weight_tie_layers": true)", R"("unet_skips": true)",
     R"("layers_execute_order": [0, 1, 0, 3])"},
    {R"("shift_tokens": 1, "padding_invariant": true)", R"("shift_tokens": [2, 0, 1, 0, 0, 0])"},
    {R"("residual_attn": true)", R"("add_value_residual": true)"},
    {R"("ff_glu": true, "ff_swish": true)", R"("ff_relu_squared": true)", R"("ff_no_bias": true)"},
    {R"("attn_qk_norm": true)", R"("attn_softclamp_logits": true, "attn_logit_softclamp_value": 3)",
     R"("attn_sparse_topk": 3)", R"("attn_sigmoid": true)", R"("attn_hard": true)", R"("attn_laser": true)"},
    {R"("attn_l2_distance": true)"},
    {R"("attn_pre_talking_heads": true)", R"("attn_post_talking_heads": true)", R"("attn_head_scale": true)"},
    {R"("attn_kv_heads": 2)", R"("attn_one_kv_head": true)", R"("attn_use_latent_q": true, "attn_dim_latent_q": 5)",
     R"("attn_use_latent_kv": true, "attn_dim_latent_kv": 5)", R"("attn_value_dim_head": 5)"},
    {R"("attn_num_mem_kv": 2)", R"("attn_add_zero_kv": true)"},
    {R"("attn_gate_values": true)", R"("attn_gate_value_heads": true)", R"("attn_on_attn": true)"},
    {R"("use_layerscale": true, "layerscale_init_value": 0.5)", R"("reinject_input": true)",
     R"("softclamp_output": true, "softclamp_output_value": 2)", R"("attn_max_attend_past": 3)"},
};
const std::vector<Row> kCausalRows{
    {R"("attn_selective": true)", R"("attn_use_cope": true, "attn_cope_max_pos": 4)", R"("rotary_xpos": true)"}};

struct Drawn {
  std::string json;
  bool hybrid;
};

class Draw {
 public:
  explicit Draw(uint32_t seed) : engine_(seed) {}
  Drawn options(bool causal, double chance) {
    std::string text;
    const auto draw_from = [&](const std::vector<Row>& rows) {
      for (const Row& row : rows)
        if (happens(chance)) text += (text.empty() ? "" : ", ") + std::string(row[engine_() % row.size()]);
    };
    draw_from(kRows);
    if (causal) draw_from(kCausalRows);
    return {"{" + text + "}", causal && happens(0.2)};
  }
  bool happens(double chance) { return engine_() < chance * 4294967296.0; }

 private:
  std::mt19937 engine_;
};

AttentionLayersConfig config_of(const Drawn& drawn, bool causal) {
  auto c = config_from_json<AttentionLayersConfig>(drawn.json, "layers");
  c.dim = 12, c.depth = 2, c.heads = 4, c.attn_dim_head = 6, c.ff_mult = 2, c.causal = causal;
  // One value a sublayer: two blocks have four, or six with macaron.
  if (c.shift_tokens.values.size() > 1 && !c.macaron) c.shift_tokens.values.resize(c.weight_tie_layers ? 2 : 4);
  if (c.macaron) c.layers_execute_order.clear();
  if (drawn.hybrid)
    c.attn_hybrid_module = [hidden = 4 * c.attn_value_dim_head.value_or(6)] {
      return std::make_shared<GRU>(GRUConfig{.input_size = 12, .hidden_size = hidden});
    };
  return c;
}

// Whether attn_flash is refused, and then why.
std::string against_flash(AttentionLayersConfig c) {
  c.attn_flash = true;
  return message_of([&] { AttentionLayers layers(c); });
}

}  // namespace

TEST_CASE("xt options: whatever comes together is causal, ignores padding, and is the same fused, unfused and cached") {
  int fused = 0, cached = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    Draw draw(seed);
    const bool causal = draw.happens(0.6);
    const Drawn drawn = draw.options(causal, 0.3);
    CAPTURE(seed);
    CAPTURE(drawn.json);
    manual_seed(seed);
    AttentionLayersConfig c = config_of(drawn, causal);
    AttentionLayers layers(c);
    prepare(layers);
    const Tensor x = randn({2, 7, 12}, {.dtype = float64}), mask = mask_of(7, {7, 4});

    if (causal) check_causal([&](const Tensor& t) { return layers(t); }, x);
    if (c.shift_tokens.values[0] == 0 || c.padding_invariant)
      check_padding_invariance([&](const Tensor& t, const Tensor& m) { return layers(t, Call{.mask = m}); }, x, mask);

    // Every attention that can be fused is, unless the weights are asked for.
    const Tensor y = layers(x, Call{.mask = mask});
    const double largest = amax(abs(y)).item();
    LayerIntermediates kept;
    CHECK(difference(y, layers(x, Call{.mask = mask, .return_attn = true}, &kept)) < 1e-11 * largest);
    CHECK(kept.attn_intermediates.at(0).post_softmax_attn.defined());

    // attn_flash changes no number; where it is refused, the message names an option that is on.
    if (const std::string why = against_flash(c); why.empty()) {
      ++fused, c.attn_flash = true;
      AttentionLayers flash(c);
      flash.to(float64), flash.eval(), flash.load_state_dict(layers.state_dict());
      CHECK(difference(y, flash(x, Call{.mask = mask})) == 0);
    } else {
      const size_t name = why.find(": ") + 2;
      const std::string word = why.rfind("AttentionLayers: attn_flash and ", 0) == 0
                                   ? why.substr(32, why.find(' ', 32) - 32)
                                   : "attn_" + why.substr(name, why.find(' ', name) - name);
      CHECK_MESSAGE(drawn.json.find(word) != std::string::npos, why);
    }

    if (layers.can_cache_kv()) {
      ++cached;
      const NoGrad guard;
      Cache cache;
      const Tensor first = layers(slice(x, 1, 0, 4), Call{.cache = &cache});
      const Tensor second = layers(slice(x, 1, 4, 5), Call{.cache = &cache});
      const Tensor third = layers(slice(x, 1, 5), Call{.cache = &cache});
      CHECK(difference(cat({first, second, third}, 1), layers(x)) < 1e-11 * largest);
    }
  }
  CHECK(fused > 15);
  CHECK(cached > 15);
}

TEST_CASE("xt options: cross-attention in random company is the same fused and unfused, and ignores padding") {
  for (uint32_t seed = 100; seed < 130; ++seed) {
    Draw draw(seed);
    const bool causal = draw.happens(0.5);
    Drawn drawn = draw.options(causal, 0.25);
    CAPTURE(seed);
    CAPTURE(drawn.json);
    manual_seed(seed);
    AttentionLayersConfig c = config_of(drawn, causal);
    c.cross_attend = true, c.layers_execute_order.clear(), c.shift_tokens = 0;
    AttentionLayers layers(c);
    prepare(layers);
    const Tensor x = randn({2, 5, 12}, {.dtype = float64}), context = randn({2, 6, 12}, {.dtype = float64});
    const Tensor context_mask = mask_of(6, {6, 3});
    const Tensor y = layers(x, Call{.context = context, .context_mask = context_mask});
    const Tensor scores = layers(x, Call{.context = context, .context_mask = context_mask, .return_attn = true});
    CHECK(difference(y, scores) < 1e-11 * amax(abs(y)).item());
    const Tensor other = where(unsqueeze(context_mask, -1), context, 9.0);
    CHECK(difference(y, layers(x, Call{.context = other, .context_mask = context_mask})) == 0);
  }
}

TEST_CASE("xt options: a GRU is the recurrence that it says, in both directions") {
  manual_seed(3);
  GRU gru({.input_size = 3, .hidden_size = 2, .bidirectional = true});
  gru.to(float64);
  const Tensor x = randn({1, 4, 3}, {.dtype = float64});
  const auto value = [](const Tensor& t) { return t.to_vector<double>(); };
  std::map<std::string, std::vector<double>> w;
  for (const auto& [name, p] : gru.named_parameters()) w[name] = value(p.detach());
  const auto at = value(x), got = value(gru.forward(x).detach());
  const auto sigma = [](double v) { return 1 / (1 + std::exp(-v)); };
  for (const std::string suffix : {"", "_reverse"}) {
    std::vector<double> h(2, 0.0);
    for (size_t step = 0; step < 4; ++step) {
      const size_t t = suffix.empty() ? step : 3 - step;
      std::vector<double> next(2);
      for (size_t j = 0; j < 2; ++j) {
        const auto of_input = [&](size_t gate) {
          double s = w["bias_ih_l0" + suffix][2 * gate + j];
          for (size_t k = 0; k < 3; ++k) s += w["weight_ih_l0" + suffix][(2 * gate + j) * 3 + k] * at[t * 3 + k];
          return s;
        };
        const auto of_state = [&](size_t gate) {
          double s = w["bias_hh_l0" + suffix][2 * gate + j];
          for (size_t k = 0; k < 2; ++k) s += w["weight_hh_l0" + suffix][(2 * gate + j) * 2 + k] * h[k];
          return s;
        };
        const double r = sigma(of_input(0) + of_state(0)), z = sigma(of_input(1) + of_state(1));
        next[j] = (1 - z) * std::tanh(of_input(2) + r * of_state(2)) + z * h[j];
        CHECK(got[t * 4 + (suffix.empty() ? 0 : 2) + j] == doctest::Approx(next[j]).epsilon(1e-12));
      }
      h = next;
    }
  }
}

TEST_CASE("xt options: what stands beside attention is mixed in by heads, and cannot be cached") {
  manual_seed(4);
  auto c = small_layers(R"({"attn_hybrid_learned_mix": true, "attn_hybrid_fold_axial_dim": 2})");
  c.attn_hybrid_module = [] { return std::make_shared<GRU>(GRUConfig{.input_size = 12, .hidden_size = 12}); };
  Decoder decoder(c);
  prepare(decoder);
  gradcheck([&](const Tensors& all) { return Tensors{decoder(all[0])}; },
            {randn({2, 5, 12}, {.dtype = float64, .requires_grad = true})}, {.fast_mode = true});
  CHECK_FALSE(decoder.can_cache_kv());
  Cache cache;
  CHECK(message_of([&] {
          decoder(zeros({1, 2, 12}, {.dtype = float64}), Call{.cache = &cache});
        }) == "Decoder: cannot use a cache (attn_hybrid_module has a state of its own)");
  c.attn_hybrid_module = [] { return std::make_shared<GRU>(GRUConfig{.input_size = 12, .hidden_size = 5}); };
  CHECK(message_of([&] {
          Decoder{c}(zeros({1, 2, 12}));
        }) == "Attention: hybrid_module must give [1, 2, 12], not [1, 2, 5]");
  c.attn_hybrid_module = [] { return std::make_shared<GRU>(GRUConfig{.input_size = 12, .hidden_size = 12}); };
  c.attn_hybrid_mask_kwarg = "mask";
  CHECK(message_of([&] {
          Encoder{c}(zeros({1, 2, 12}), Call{.mask = mask_of(2, {1})});
        }) == "FoldAxially: a GRU takes no mask");
}
