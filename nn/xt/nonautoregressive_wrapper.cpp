#include <weft/autograd/autograd.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/xt/layer.h>
#include <weft/nn/xt/nonautoregressive_wrapper.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/loss.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>
#include <weft/ops/sort.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace weft::xt {
namespace {

double draw() { return rand({1}).item(); }

Tensor gumbel_noise(const Tensor& like) {
  const Tensor u =
      rand(like.shape(), {.dtype = is_half(like.dtype()) ? float32 : like.dtype(), .device = like.device()});
  return neg(log(neg(log(u + 1e-10)) + 1e-10));
}

Tensor gumbel_sample(const Tensor& logits, double temperature) {
  return argmax(logits / std::max(temperature, 1e-10) + gumbel_noise(logits), -1);
}

// A random share of the places where mask (bool [b, n]) is true.
Tensor subset(const Tensor& mask, double share) {
  const Tensor draws = masked_fill(rand(mask.shape(), {.device = mask.device()}), logical_not(mask), -1);
  const Tensor rank = argsort(argsort(draws, -1), -1);  // those that are not in mask come first
  const Tensor hidden = sum(logical_not(mask), -1, keepdim);
  const Tensor wanted = sum(mask, -1, keepdim).to(float32) * share;
  return logical_and(lt((rank - hidden).to(float32), wanted), mask);
}

Tensor keep_likeliest(const Tensor& logits, double thres) {
  const auto k =
      std::max<int64_t>(1, static_cast<int64_t>(std::ceil((1 - thres) * static_cast<double>(logits.size(-1)))));
  const auto [values, indices] = topk(logits, k);
  return scatter(full_like(logits, -std::numeric_limits<double>::infinity()), -1, indices, values);
}

}  // namespace

Fields fields(NonAutoregressiveWrapperConfig& c) {
  return {{"mask_id", &c.mask_id},
          {"steps", &c.steps},
          {"self_cond", &c.self_cond},
          {"self_cond_train_prob", &c.self_cond_train_prob},
          {"no_replace_prob", &c.no_replace_prob},
          {"random_token_prob", &c.random_token_prob},
          {"schedule", &c.schedule},
          {"can_mask_prev_unmasked", &c.can_mask_prev_unmasked},
          {"self_token_critic", &c.self_token_critic},
          {"critic_loss_weight", &c.critic_loss_weight}};
}

NonAutoregressiveWrapper::NonAutoregressiveWrapper(const NonAutoregressiveWrapperConfig& c) : config_(c) {
  check(c.net != nullptr, "NonAutoregressiveWrapper: no net given");
  check(!c.token_critic || !c.self_token_critic,
        "NonAutoregressiveWrapper: token_critic and self_token_critic exclude each other");
  check(c.schedule == "linear" || c.schedule == "cosine",
        "NonAutoregressiveWrapper: schedule must be linear or cosine, got ", c.schedule);
  for (const double share : {c.self_cond_train_prob, c.no_replace_prob, c.random_token_prob})
    check(share >= 0 && share <= 1, "NonAutoregressiveWrapper: probabilities must be in [0, 1], got ", share);
  check(c.steps > 0, "NonAutoregressiveWrapper: steps must be positive, got ", c.steps);
  register_module("net", c.net);
  if (c.self_cond) {
    null_embed_ = register_parameter("null_embed", randn({c.net->emb_dim()}));
    to_self_cond_ =
        register_module("to_self_cond", std::make_shared<Linear>(c.net->emb_dim(), c.net->emb_dim(), false));
  }
  if (c.token_critic) register_module("token_critic", c.token_critic);
  if (c.self_token_critic) {
    critic_head_ = std::make_shared<Linear>(c.net->attn_layers().dim(), 1);
    const auto critic = register_module("token_critic", std::make_shared<Numbered>("SelfCritic"));
    critic->add("net", c.net), critic->add("to_logits", critic_head_);
  }
}

Tensor NonAutoregressiveWrapper::masked_share(const Tensor& times) const {
  return config_.schedule == "linear" ? 1 - times : cos(times * (std::numbers::pi / 2));
}

// How wrong the critic holds each token for: [b, n]; undefined without a critic.
Tensor NonAutoregressiveWrapper::scores_of(const Tensor& tokens) const {
  if (critic_head_) return squeeze(critic_head_->forward((*config_.net)(tokens, Call{.return_embeddings = true})), -1);
  return config_.token_critic ? squeeze((*config_.token_critic)(tokens), -1) : Tensor();
}

NonAutoregressiveWrapper::Losses NonAutoregressiveWrapper::operator()(const Tensor& x, const TrainOptions& o) const {
  const TransformerWrapper& net = *config_.net;
  check(x.dim() == 2 && x.size(1) == net.max_seq_len(), name(), ": expected tokens [batch, ", net.max_seq_len(),
        "], got ", x.shape());
  const int64_t b = x.size(0), n = x.size(1);
  const Device device = x.device();
  const Tensor count = clamp_min(masked_share(rand({b, 1}, {.device = device})) * static_cast<double>(n), 1);
  const Tensor mask = lt(argsort(rand({b, n}, {.device = device}), -1).to(float32), count);

  // Some masked tokens are shown as they are, or as others: so that the net has something to say about every place.
  Tensor hidden = mask, shown = x;
  double left = 1;
  if (config_.no_replace_prob > 0 && draw() < 0.5) {
    left -= config_.no_replace_prob;
    hidden = logical_and(hidden, logical_not(subset(mask, config_.no_replace_prob)));
  }
  if (config_.random_token_prob > 0 && draw() < 0.5) {
    const Tensor other = subset(hidden, config_.random_token_prob * left);
    shown = where(other, randint(0, net.num_tokens(), {b, n}, {.dtype = int64, .device = device}), shown);
    hidden = logical_and(hidden, logical_not(other));
  }
  shown = masked_fill(shown, hidden, config_.mask_id);

  Call call = o.call;
  if (config_.self_cond) {
    Tensor condition = null_embed_;
    if (draw() < config_.self_cond_train_prob) {
      const NoGrad guard;
      Call first = call;
      first.return_embeddings = true;
      condition = net(shown, first);
    }
    call.sum_embeds = to_self_cond_->forward(condition);
  }
  Tensor logits;
  {
    const GradMode mode(grad_enabled() && !o.only_train_critic);
    logits = net(shown, call);
  }
  const Tensor targets = flatten(masked_fill(x, logical_not(mask), -100)), rows = flatten(logits, 0, 1);
  Losses losses;
  losses.generator_loss = net.output_is_log_prob() ? nll_loss(rows, targets) : cross_entropy(rows, targets);
  losses.loss = losses.generator_loss;
  if ((!config_.token_critic && !critic_head_) || o.only_train_generator) return losses;

  const double temperature = o.generator_sample_temperature ? *o.generator_sample_temperature : draw();
  const Tensor generated = where(mask, gumbel_sample(logits.detach(), temperature), x);
  const Tensor scores = scores_of(generated);
  losses.critic_loss = binary_cross_entropy_with_logits(scores, ne(generated, x).to(scores.dtype()));
  if (o.only_train_critic)
    losses.loss = losses.critic_loss, losses.generator_loss = {};
  else
    losses.loss = losses.generator_loss + losses.critic_loss * config_.critic_loss_weight;
  return losses;
}

Tensor NonAutoregressiveWrapper::generate(int64_t batch_size, const SampleOptions& o) {
  check(batch_size > 0, "generate: batch_size must be positive, got ", batch_size);
  const NoGrad guard;
  const EvalMode mode(*this);
  const TransformerWrapper& net = *config_.net;
  const int64_t n = net.max_seq_len();
  const Device device = net.parameters().at(0).device();
  Tensor tokens = full({batch_size, n}, config_.mask_id, {.dtype = int64, .device = device});
  Tensor mask = ones({batch_size, n}, {.dtype = boolean, .device = device});
  Tensor last = null_embed_;
  for (int64_t step = 0; step < config_.steps; ++step) {
    const double time = static_cast<double>(step + 1) / static_cast<double>(config_.steps);
    const double share = config_.schedule == "linear" ? 1 - time : std::cos(time * std::numbers::pi / 2);
    const auto still_masked = static_cast<int64_t>(std::max(0.0, share) * static_cast<double>(n));
    const double annealing = static_cast<double>(config_.steps - 1 - step) / static_cast<double>(config_.steps);

    Call call = o.call;
    if (config_.self_cond) call.sum_embeds = to_self_cond_->forward(last);
    const TransformerOutput out = net.run(tokens, call);
    last = out.embeddings;
    Tensor logits = out.logits.at(0);
    if (o.filter_thres) logits = keep_likeliest(logits, *o.filter_thres);
    const Tensor sampled = gumbel_sample(logits, std::max(o.start_temperature * annealing, 1e-3));
    tokens = where(mask, sampled, tokens);

    Tensor scores = scores_of(tokens);  // the higher, the sooner masked again
    if (scores.defined())
      scores = scores + gumbel_noise(scores) * (o.noise_level_scale * annealing);
    else
      scores = 1 - squeeze(gather(softmax(logits, -1), 2, unsqueeze(sampled, -1)), -1);
    if (!config_.can_mask_prev_unmasked)
      scores = masked_fill(scores, logical_not(mask), -std::numeric_limits<double>::infinity());
    mask = zeros({batch_size, n}, {.dtype = boolean, .device = device});
    if (still_masked > 0) mask = scatter(mask, 1, topk(scores, still_masked).indices, 1);
    tokens = masked_fill(tokens, mask, config_.mask_id);
  }
  return tokens;
}

}  // namespace weft::xt
