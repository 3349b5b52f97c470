// What the tests of x-transformers share.
#pragma once

#include <weft/nn/xt.h>
#include <weft/ops/shape.h>

#include <cmath>

#include "support/message_of.h"
#include "support/module.h"

namespace weft::test {

/// Options of layers that meet the cache, each in a way of its own.
inline const char* const kCacheableOptions[] = {
    R"({})",
    R"({"attn_flash": true, "attn_num_mem_kv": 2, "attn_kv_heads": 1, "attn_add_zero_kv": true})",
    R"({"rel_pos_bias": true, "attn_flash": true})",
    R"({"dynamic_pos_bias": true})",
    R"({"alibi_pos_bias": true})",
    R"({"rotary_pos_emb": true, "rotary_emb_dim": 4, "attn_qk_norm": true})",
    R"({"rotary_xpos": true, "rotary_xpos_scale_base": 8, "rotary_emb_dim": 4})",
    R"({"attn_pre_talking_heads": true, "residual_attn": true, "attn_max_attend_past": 3})",
    R"({"attn_sparse_topk": 2, "attn_laser": true})",
    R"({"attn_data_dependent_alibi": true})",
    R"({"attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})",
    R"({"attn_use_cope": true, "attn_cope_max_pos": 3})",
    R"({"shift_tokens": [2, 1, 0, 3]})",
    R"({"num_residual_streams": 2, "qkv_receive_diff_residuals": true, "shift_tokens": 1})",
    R"({"add_value_residual": true, "gate_residual": true, "weight_tie_layers": true})",
    R"({"attn_use_latent_kv": true, "attn_dim_latent_kv": 4})",
    R"({"attn_selective": true})",
};

/// Largest difference; NaN counts as infinite.
inline double difference(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) return INFINITY;
  const auto x = a.detach().to_vector<double>(), y = b.detach().to_vector<double>();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(x[i] - y[i]);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
  }
  return worst;
}

/// A config from the defaults of a small one and the options in JSON.
inline xt::AttentionLayersConfig small_layers(const char* json, int64_t dim = 12) {
  auto c = config_from_json<xt::AttentionLayersConfig>(json, "layers");
  c.dim = dim, c.heads = 2, c.attn_dim_head = 6;
  if (!c.depth && c.custom_layers.empty()) c.depth = 2;
  return c;
}

/// A decoder of such layers over eleven tokens and twenty places, unless c says more.
inline std::shared_ptr<xt::TransformerWrapper> small_model(const char* json, xt::TransformerWrapperConfig c = {}) {
  if (c.num_tokens == 0) c.num_tokens = 11;
  if (c.max_seq_len == 0) c.max_seq_len = 20;
  c.attn_layers = make<xt::Decoder>(small_layers(json));
  const auto net = std::make_shared<xt::TransformerWrapper>(c);
  prepare(*net);
  return net;
}

}  // namespace weft::test
