// The way of a call through the layers.
#include <weft/nn/xt/attention_layers.h>
#include <weft/nn/xt/dropout_tokens.h>
#include <weft/nn/xt/layer.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft::xt {
namespace {

Tensor both(const Tensor& a, const Tensor& b) { return !a.defined() ? b : !b.defined() ? a : logical_and(a, b); }

Tensor all_true(int64_t b, int64_t n, Device device) { return ones({b, n}, {.dtype = boolean, .device = device}); }

Tensor element(const Tensors& list, size_t i) { return i < list.size() ? list[i] : Tensor(); }

}  // namespace

// What is the same for all sublayers of one call.
class AttentionLayers::Pass {
 public:
  Pass(const AttentionLayers& layers, const Tensor& x, const Call& call, LayerIntermediates* kept)
      : m_(layers), call_(call), kept_(kept), b_(x.size(0)), n_(x.size(1)), device_(x.device()) {
    check_call(x);
    seen_ = call.cache ? call.cache->length() : 0;
    if (call.cache && seen_ == 0) {
      call.cache->memories = call.mems.empty() ? 0 : call.mems[0].size(1);
      call.cache->seq_start_pos = call.seq_start_pos;
    }
    memories_ = call.cache ? call.cache->memories : call.mems.empty() ? 0 : call.mems[0].size(1);
    has_mems_ = !call.mems.empty() && seen_ == 0;
    if (call.cache) own_places_ = call.cache->next(n_, device_);
    if (call.cache && call.cache->fixed()) {
      places_.queries = memories_ == 0 ? own_places_ : own_places_ + memories_;
      places_.length = slice(places_.queries, 0, -1) + 1;
    }
    make_condition();
    make_injection(x);
    make_masks(x);
    make_rotations();
    context_ = call.context, context_mask_ = call.context_mask;
  }

  Tensor run(Tensor x);

 private:
  void check_call(const Tensor& x) const;
  void make_condition();
  void make_injection(const Tensor& x);
  void make_masks(const Tensor& x);
  void make_rotations();
  Tensor key_mask(size_t attention) const;
  Tensor position_bias();
  SublayerArguments arguments(char type, const Layer& layer, size_t step);
  Tensor sublayer(const Tensor& x, char type, const Layer& layer, size_t step);
  const std::vector<int64_t>& order() const;
  const Norm* norm_after(size_t step) const;

  const AttentionLayers& m_;
  const Call& call_;
  LayerIntermediates* kept_;
  int64_t b_, n_, seen_ = 0, memories_ = 0;
  Device device_;
  bool has_mems_ = false;
  Tensor own_places_;  // of the tokens of this call: int64 [n], with a cache
  KeyPlaces places_;   // with a fixed cache
  Tensor condition_, inject_, attn_mask_;
  Tensor real_;      // false where call.mask or padding_ is
  Tensor own_keys_;  // of the tokens of this call: which may be seen
  Tensor padding_;   // false at left padding, and where call.padding_mask is
  Tensor context_, context_mask_;
  std::optional<Rotation> rotation_, context_rotation_;
  Tensor bias_;
  const AlibiPositionalBias* alibi_ = nullptr;
  bool has_bias_ = false;

  // What one attention hands to the next.
  size_t attentions_ = 0;
  Tensor prev_attn_, prev_cross_attn_, first_values_, first_cross_values_, outer_;
};

void AttentionLayers::Pass::check_call(const Tensor& x) const {
  const AttentionLayersConfig& c = m_.config_;
  const std::string who = m_.name();
  check(x.dim() == 3 && x.size(2) == c.dim, who, ": expected x [batch, length, ", c.dim, "], got ", x.shape());
  const bool crosses = std::count(m_.order_.types.begin(), m_.order_.types.end(), 'c') > 0;
  check(!crosses || call_.context.defined(), who, ": a context is needed (cross_attend)");
  check(crosses || c.cross_attend || !call_.context.defined(), who, ": takes no context (cross_attend is off)");
  check(m_.needs_condition() == call_.condition.defined(), who,
        m_.needs_condition() ? ": a condition is needed by its adaptive norms or scales" : ": takes no condition");
  check(!call_.cache || m_.can_cache_kv(), who, ": cannot use a cache (", m_.why_no_cache(), ")");
  check(!call_.cache || !call_.attn_mask.defined(), who, ": attn_mask and a cache exclude each other");
  check(!call_.context_pos.defined() || (crosses && m_.rotary_pos_emb_), who,
        ": context_pos is for rotary cross-attention");
  check(!call_.in_attn_cond.defined() || !c.reinject_input, who,
        ": in_attn_cond and reinject_input exclude each other");
  check(!call_.prefix_attn_len.defined() || m_.name() == "PrefixDecoder", who,
        ": prefix_attn_len is for PrefixDecoder");
  for (const Tensor* mask : {&call_.mask, &call_.self_attn_kv_mask, &call_.padding_mask}) {
    if (!mask->defined()) continue;
    check(mask->dtype() == boolean && mask->shape() == Shape{b_, n_}, who, ": expected a bool mask [", b_, ", ", n_,
          "], got ", mask->dtype(), " ", mask->shape());
  }
}

void AttentionLayers::Pass::make_condition() {
  if (!call_.condition.defined()) return;
  const int64_t features = m_.config_.dim_condition.value_or(m_.config_.dim);
  condition_ = condition_rows(call_.condition, features, "AttentionLayers");
  if (m_.adaptive_mlp_) condition_ = silu(m_.adaptive_mlp_->forward(condition_));
}

void AttentionLayers::Pass::make_injection(const Tensor& x) {
  if (m_.reinject_input_proj_)
    inject_ = m_.reinject_input_proj_->forward(x);
  else if (call_.in_attn_cond.defined())
    inject_ = call_.in_attn_cond.dim() == 3 ? call_.in_attn_cond : unsqueeze(call_.in_attn_cond, 1);
  if (inject_.defined() && m_.learned_reinject_input_gate_)
    inject_ = inject_ * sigmoid(m_.learned_reinject_input_gate_->forward(x));
}

void AttentionLayers::Pass::make_masks(const Tensor& x) {
  attn_mask_ = m_.attention_mask(x, call_);
  const Tensor start = call_.cache ? call_.cache->seq_start_pos : call_.seq_start_pos;
  if (start.defined())
    padding_ = ge(own_places_.defined() ? own_places_ : places(0, n_, device_), unsqueeze(start, -1));
  padding_ = both(padding_, call_.padding_mask);
  real_ = both(call_.mask, padding_);
  own_keys_ = call_.self_attn_kv_mask.defined() ? both(padding_, call_.self_attn_kv_mask) : real_;
  Cache* cache = call_.cache;
  if (!cache || !cache->first_pass() ||
      (!own_keys_.defined() && cache->key_mask.size() == 0 && call_.mem_masks.empty()))
    return;
  check(!cache->fixed() || cache->key_mask.size() > 0, m_.name(), ": a mask of keys after the cache was fixed without");
  if (cache->key_mask.size() == 0 && memories_ + seen_ > 0) {
    const Tensor of_mems = seen_ == 0 ? element(call_.mem_masks, 0) : Tensor();
    cache->key_mask.append(of_mems.defined() ? of_mems : all_true(b_, memories_ + seen_, device_), 1,
                           cache->capacity());
  }
  cache->key_mask.append(own_keys_.defined() ? own_keys_ : all_true(b_, n_, device_), 1, cache->capacity());
}

// Which keys the self-attention may see: memories, the cache's, its own.
Tensor AttentionLayers::Pass::key_mask(size_t attention) const {
  if (call_.cache) return call_.cache->key_mask.get();
  const Tensor of_mems = has_mems_ ? element(call_.mem_masks, attention) : Tensor();
  if (!own_keys_.defined() && !of_mems.defined()) return {};
  const Tensor own = own_keys_.defined() ? own_keys_ : all_true(b_, n_, device_);
  if (!has_mems_) return own;
  const int64_t length = element(call_.mems, attention).defined() ? call_.mems[attention].size(1) : 0;
  return cat({of_mems.defined() ? of_mems : all_true(b_, length, device_), own}, 1);
}

void AttentionLayers::Pass::make_rotations() {
  rotation_ = call_.rotary_pos_emb;
  if (!m_.rotary_pos_emb_) return;
  const RotaryEmbedding& rotary = *m_.rotary_pos_emb_;
  // With a cache the keys of earlier calls are turned already: the middle has to stay where it was.
  const auto middle = call_.cache ? std::optional<double>(0.0) : std::nullopt;
  const int64_t before = has_mems_ ? memories_ : 0;
  Tensor pos = call_.pos;
  if (!pos.defined()) {
    pos = before == 0 && own_places_.defined() ? own_places_ : places(seen_ - before, seen_ + n_, device_);
  } else if (before > 0) {
    const Tensor earlier = places(-before, 0, device_) + slice(pos, -1, 0, 1);
    pos = cat({earlier, pos}, -1);
  }
  if (!rotation_) rotation_ = rotary.at(pos, middle);
  if (call_.context_pos.defined()) context_rotation_ = rotary.at(call_.context_pos);
}

Tensor AttentionLayers::Pass::position_bias() {
  if (has_bias_) return bias_;
  has_bias_ = true;
  bias_ = call_.attn_bias;
  if (!m_.rel_pos_) return bias_;
  Tensor own;
  const auto* alibi = dynamic_cast<const AlibiPositionalBias*>(m_.rel_pos_.get());
  if (places_.defined()) {
    check(!call_.attn_bias.defined(), m_.name(), ": attn_bias and a fixed cache exclude each other");
    own = m_.rel_pos_->of_queries(places_.queries, memories_ + call_.cache->room());
  } else if (call_.pos.defined()) {
    check(alibi != nullptr, m_.name(), ": positions of its own work with alibi_pos_bias, not with a ",
          m_.rel_pos_->name());
    check(seen_ == 0 && !has_mems_, m_.name(), ": pos with alibi_pos_bias excludes a cache and memories");
    own = alibi->at(call_.pos);
  } else if (alibi) {
    alibi_ = alibi;
    return bias_;
  } else {
    own = (*m_.rel_pos_)(n_, memories_ + seen_ + n_, device_);
  }
  if (bias_.defined() && bias_.size(-1) == n_ && n_ > 1 && own.size(-1) > n_)
    bias_ = pad(bias_, {own.size(-1) - n_, 0});
  return bias_ = bias_.defined() ? bias_ + own : own;
}

SublayerArguments AttentionLayers::Pass::arguments(char type, const Layer& layer, size_t step) {
  const AttentionLayersConfig& c = m_.config_;
  SublayerArguments a;
  a.condition = condition_;
  if (call_.cache) a.cache = &call_.cache->layer(step);
  if (type == 'f') {
    a.shift_mask = c.padding_invariant ? real_ : padding_;
    return a;
  }
  a.mask = call_.mask, a.shift_mask = real_;
  if (type == 'c') {
    a.context = context_, a.key_mask = context_mask_, a.prev_attn = prev_cross_attn_;
    if (context_rotation_) a.rotation = &*rotation_, a.context_rotation = &*context_rotation_;
    if (c.add_value_residual) a.value_residual = first_cross_values_;
    return a;
  }
  if (has_mems_) a.mem = element(call_.mems, attentions_);
  if (a.mem.defined() && layer.norms.before) a.mem = (*layer.norms.before)(a.mem, condition_);
  a.places = places_, a.memories = memories_;
  a.key_mask = key_mask(attentions_), a.attn_mask = attn_mask_, a.attn_bias = position_bias();
  a.alibi = alibi_, a.prev_attn = prev_attn_;
  if (rotation_) a.rotation = &*rotation_;
  if (c.add_value_residual) a.value_residual = first_values_;
  ++attentions_;
  return a;
}

// The sublayer, and what it leaves for the next ones.
Tensor AttentionLayers::Pass::sublayer(const Tensor& x, char type, const Layer& layer, size_t step) {
  const SublayerArguments args = arguments(type, layer, step);
  if (type == 'f') return (*layer.sublayer)(x, args, nullptr);
  const bool chained = type == 'a' ? m_.config_.residual_attn : m_.config_.cross_residual_attn;
  Intermediates left{.wants_scores = call_.return_attn || chained, .layer_type = type};
  const Tensor out = (*layer.sublayer)(x, args, &left);
  if (chained) (type == 'a' ? prev_attn_ : prev_cross_attn_) = left.pre_softmax_attn;
  Tensor& first = type == 'a' ? first_values_ : first_cross_values_;
  if (!first.defined()) first = left.values;
  if (kept_) kept_->attn_intermediates.push_back(std::move(left));
  return out;
}

const std::vector<int64_t>& AttentionLayers::Pass::order() const {
  return call_.layers_execute_order.empty() ? m_.order_.execute : call_.layers_execute_order;
}

// The norm that the stream goes into right after the addition of this step's sublayer, which may join it; null where
// something stands between the two, or where the norm may want the call's condition too.
const Norm* AttentionLayers::Pass::norm_after(size_t step) const {
  const AttentionLayersConfig& c = m_.config_;
  const Layer& layer = *m_.layers_[static_cast<size_t>(order()[step])];
  if (!layer.residual->is_addition() || layer.norms.after_residual || c.num_residual_streams > 1) return nullptr;
  if (condition_.defined()) return nullptr;
  if (step + 1 == order().size()) return c.softclamp_output || c.resi_dual ? nullptr : m_.final_norm_.get();
  const int64_t next = order()[step + 1], layers = static_cast<int64_t>(m_.layers_.size());
  if (next < 0 || next >= layers || inject_.defined() || c.unet_skips) return nullptr;
  if (m_.is_training() && c.layer_dropout.at(next, layers, "layer_dropout") > 0) return nullptr;
  return m_.layers_[static_cast<size_t>(next)]->norms.before.get();
}

Tensor AttentionLayers::Pass::run(Tensor x) {
  const AttentionLayersConfig& c = m_.config_;
  const int64_t streams = c.num_residual_streams;
  if (streams > 1) x = flatten(unsqueeze(x, 1) + unsqueeze(m_.stream_emb_, 1), 0, 1);  // [(b s), n, d]
  if (c.resi_dual) outer_ = x * c.resi_dual_scale;
  const auto layers = static_cast<int64_t>(m_.layers_.size());
  Tensors inputs;  // of the sublayers so far, for skips
  Tensor normed;   // x as the next norm leaves it, where the addition has done that too

  for (size_t step = 0; step < order().size(); ++step) {
    const int64_t i = order()[step];
    check(i >= 0 && i < layers, m_.name(), ": layers_execute_order has ", i, " of ", layers, " sublayers");
    const Layer& layer = *m_.layers_[static_cast<size_t>(i)];
    const char type = m_.order_.types[static_cast<size_t>(i)];
    if (c.unet_skips) {
      inputs.push_back(x);
      if (const auto& combine = m_.skip_combines_[static_cast<size_t>(i)]; combine) {
        const int64_t from = m_.skip_from_[static_cast<size_t>(i)];
        check(from < static_cast<int64_t>(inputs.size()), m_.name(), ": unet_skips need the first half to run first");
        x = combine->forward(cat({inputs[static_cast<size_t>(from)], x}, -1));
      }
    }
    const double drop = c.layer_dropout.at(i, layers, "layer_dropout");
    if (m_.is_training() && drop > 0 && rand({1}).item() < drop) {
      if (type == 'a') ++attentions_;
      continue;
    }
    if (kept_ && type == 'a') kept_->hiddens.push_back(x);
    if (type == 'c' && m_.is_training()) drop_tokens(context_, context_mask_, c.cross_attn_tokens_dropout);

    const Stream stream = layer.residual->prepare(x);
    if (kept_) kept_->layer_hiddens.push_back(stream.input);
    Tensor in = inject_.defined() ? stream.input + inject_ : stream.input;
    if (layer.norms.before) in = normed.defined() ? normed : (*layer.norms.before)(in, condition_);
    Tensor out = sublayer(in, type, layer, step);
    if (c.resi_dual) outer_ = outer_ + out * c.resi_dual_scale;
    if (layer.norms.after) out = (*layer.norms.after)(out, condition_);
    normed = {};
    if (const Norm* next = norm_after(step); next)
      std::tie(x, normed) = next->add(out, stream.residual);
    else
      x = layer.residual->combine(out, stream);
    if (layer.norms.after_residual) x = (*layer.norms.after_residual)(x, condition_);
  }
  if (kept_) kept_->layer_hiddens.push_back(x);
  if (c.softclamp_output) x = tanh(x / c.softclamp_output_value) * c.softclamp_output_value;
  if (streams > 1) x = sum(unflatten(x, 0, {-1, streams}), 1);
  if (c.resi_dual)
    x = x + (*m_.final_norm_)(outer_, condition_);
  else if (m_.final_norm_)
    x = normed.defined() ? normed : (*m_.final_norm_)(x, condition_);
  if (call_.cache) call_.cache->advance(n_);
  if (kept_) kept_->last_hidden = x;
  return x;
}

Tensor AttentionLayers::operator()(const Tensor& x, const Call& call, LayerIntermediates* kept) const {
  return Pass(*this, x, call, kept).run(x);
}

// Who may see whom: [b or 1, 1, n, n].
Tensor PrefixDecoder::attention_mask(const Tensor& x, const Call& call) const {
  const int64_t n = x.size(1);
  if (call.cache && call.cache->length() > 0) {
    const Cache& cache = *call.cache;
    const int64_t m = cache.fixed() ? cache.room() : cache.length() + n;
    return le(places(0, m, x.device()), unsqueeze(cache.next(n, x.device()), 1));
  }
  if (call.cache && call.prefix_attn_len.defined()) {
    const int64_t longest = amax(call.prefix_attn_len).item<int64_t>();
    check(longest <= n, name(), ": with a cache the first call must bring the whole prefix, not ", n, " of ", longest);
  }
  const Tensor j = places(0, n, x.device());
  Tensor mask = le(j, reshape(j, {n, 1}));
  if (call.prefix_attn_len.defined()) {
    const Tensor prefix = reshape(call.prefix_attn_len, {-1, 1, 1, 1});
    mask = logical_or(mask, lt(j, prefix));
  }
  return call.attn_mask.defined() ? logical_and(mask, call.attn_mask) : mask;
}

}  // namespace weft::xt
