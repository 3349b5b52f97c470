// Attend: from queries, keys and values to the weighted sums of values.
#pragma once

#include <weft/nn/xt/cope.h>
#include <weft/nn/xt/options.h>
#include <weft/nn/xt/sublayer.h>

#include <functional>

namespace weft::xt {

/// scores [b, h, n, m], may (bool, broadcasts to scores: keys that may be seen) → weights of the same shape.
using AttentionWeightsFn = std::function<Tensor(const Tensor& scores, const Tensor& may)>;

struct AttendConfig {
  int64_t heads = 0;
  bool causal = false;
  double scale = 1;
  double dropout = 0;
  bool flash = false;
  bool add_zero_kv = false;
  std::optional<int64_t> sparse_topk = {};
  bool sparse_topk_straight_through = false;
  bool hard = false, sigmoid = false, l2_distance = false, selective = false;
  bool pre_talking_heads = false, post_talking_heads = false, pre_scale_post_talking_heads = false;
  bool softclamp_logits = false;
  double logit_softclamp_value = 50;
  AttentionWeightsFn custom_attn_fn = nullptr;
  std::shared_ptr<CoPE> cope = nullptr;
};

/// What a call of Attend is given besides queries, keys and values; any may be left out.
struct AttendArguments {
  Tensor mask = {};             ///< bool, true: may be seen; broadcasts to [b, h, n, m]
  Tensor bias = {};             ///< added to the scores; broadcasts to [b, h, n, m]
  Tensor alibi_slopes = {};     ///< [h], where is_fused(): adds -slope · |distance|, counted from the last key
  Tensor prev_attn = {};        ///< [b, h, n, m], added to the scores
  KeyPlaces places = {};        ///< of the queries among the keys, the last ones unless given
  int64_t first = 0;            ///< keys before the first token (learned ones, memories)
  LayerCache* cache = nullptr;  ///< where selective attention keeps what earlier queries have masked
};

/// One fused call (ops/attention.h) where the options are made of masks, biases and a softmax; else over the matrix of
/// scores. With flash the second is refused: the constructor names the option that needs it.
///
/// A row that may see nothing gives 0, also where the causal mask and another one leave nothing only together (the
/// original attends to everything there, the future too). Causal is aligned bottom-right.
class Attend : public Module {
 public:
  explicit Attend(const AttendConfig& config);
  /// q: [b, h, n, d], k: [b, h_kv, m, d], v: [b, h_kv, m, e] → [b, h, n, e]; query head i uses key-value head i modulo
  /// h_kv. out may be null.
  Tensor operator()(const Tensor& q, const Tensor& k, const Tensor& v, const AttendArguments& args,
                    Intermediates* out) const;
  /// Whether such a call never makes the matrix of scores.
  bool is_fused(const Tensor& prev_attn, const Intermediates* out) const {
    return !needs_scores_ && (!softmax_ || config_.flash) && !prev_attn.defined() && !(out && out->wants_scores);
  }
  using Module::operator();
  /// Has f make the weights wherever a plain softmax does: to compare with other arithmetic. With flash it is not
  /// asked.
  void set_softmax(AttentionWeightsFn f) { softmax_ = std::move(f); }
  std::string name() const override { return "Attend"; }

 private:
  Tensor fused(Tensor q, Tensor k, const Tensor& v, const AttendArguments& args) const;
  Tensor over_scores(const Tensor& q, const Tensor& k, const Tensor& v, const AttendArguments& args,
                     Intermediates* out) const;
  Tensor weights(const Tensor& scores, const Tensor& may) const;

  AttendConfig config_;
  AttentionWeightsFn softmax_;
  const char* needs_scores_;  // an option that does, or null
  std::shared_ptr<Module> pre_softmax_heads_, post_softmax_heads_, pre_scale_post_heads_;
};

}  // namespace weft::xt
