// AutoregressiveWrapper::generate: read the prompt, then choose and read one token after the other.
#include <weft/autograd/autograd.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/xt/autoregressive_wrapper.h>
#include <weft/nn/xt/generation.h>
#include <weft/nn/xt/next_token.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/sort.h>

#include <algorithm>

namespace weft::xt {

Tensor align_right(const Tensor& tokens, const Tensor& lens, int64_t pad_value) {
  const int64_t b = tokens.size(0), t = tokens.size(1);
  check(lens.shape() == Shape{b}, "generate: prompt_lens ", lens.shape(), " do not fit prompts ", tokens.shape());
  for (int64_t length : lens.to_vector<int64_t>())
    check(length >= 1 && length <= t, "generate: a prompt length must be from 1 to ", t, ", got ", length);
  const Tensor from = places(0, t, tokens.device()) - unsqueeze(lens.to(tokens.device()) * -1 + t, 1);  // [b, t]
  return where(lt(from, 0), Scalar(pad_value), gather(tokens, 1, clamp_min(from, 0)));
}

Prompts prepare_prompts(const Tensor& given, int64_t seq_len, const Tensor& lens, const Call& call, int64_t pad_value) {
  check(given.dim() == 1 || given.dim() == 2, "generate: expected prompts [batch, length] or [length], got ",
        given.shape());
  Prompts p{given.dim() == 1 ? unsqueeze(given, 0) : given, {}, {}};
  const int64_t t = p.tokens.size(1);
  check(!given.is_floating() && p.tokens.size(0) > 0, "generate: expected token ids of at least one prompt, got ",
        given.dtype(), " ", given.shape());
  check(t > 0 && seq_len >= 0, "generate: expected prompts of length above 0 and seq_len >= 0, got ", p.tokens.shape(),
        " and ", seq_len);
  p.call = call;
  if (lens.defined()) {
    p.tokens = align_right(p.tokens, lens, pad_value);
    p.start = p.call.seq_start_pos = lens.to(given.device()) * -1 + t;
    for (Tensor* mask : {&p.call.mask, &p.call.self_attn_kv_mask, &p.call.padding_mask})
      if (mask->defined()) *mask = align_right(mask->to(int64), lens, 0).to(boolean);
  }
  if (p.call.mask.defined())
    check(all(select(p.call.mask, 1, -1)).item<bool>(), "generate: a prompt ends in masked tokens",
          lens.defined() ? "" : ": give its prompt_lens");
  for (const auto& [x, name] : {std::pair{&call.condition, "condition"},
                                {&call.in_attn_cond, "in_attn_cond"},
                                {&call.sum_embeds, "sum_embeds"}})
    check(!x->defined() || x->dim() < 3 || x->size(1) == 1, "generate: ", name, " ",
          x->defined() ? x->shape() : Shape(),
          " has a place for each token, and none for those to come; give [batch, 1, features]");
  return p;
}

namespace {

// A generator in the place of the thread's own: a captured step draws from that one.
class DrawsFrom {
 public:
  explicit DrawsFrom(Generator& g) : generator_(g), before_(default_generator().state()) {
    default_generator().set_state(g.state());
  }
  ~DrawsFrom() {
    const Generator::State after = default_generator().state();
    default_generator().set_state(before_);
    generator_.set_state(after);
  }
  DrawsFrom(const DrawsFrom&) = delete;
  DrawsFrom& operator=(const DrawsFrom&) = delete;

 private:
  Generator& generator_;
  Generator::State before_;
};

class Generation {
 public:
  Generation(const TransformerWrapper& net, const Prompts& prompts, int64_t seq_len, int64_t pad_value,
             const GenerateOptions& options);
  Tensor run();  // [b, m]

 private:
  void advance();
  void step();
  void choose(const Tensors& logits);
  void fix();
  bool all_ended() const;
  Tensor made();

  const GenerateOptions& options_;
  Generator& generator_;
  const int64_t t_, seq_len_, pad_value_;
  Tensor start_;
  std::vector<NextToken> readers_;  // the model and its amateurs
  int64_t made_ = 0, steps_left_ = 0;
  bool may_fix_ = true;
  std::vector<Generator::State> states_;  // after each token
  // On the device, in places that stay:
  Tensor text_;       // [b, t + seq_len]
  Tensor length_;     // [1], tokens of it that are there
  Tensor token_;      // [b, 1], the last one
  Tensor ended_;      // bool [b, 1]
  Tensor none_left_;  // bool [], whether a row had no token to choose from
  CapturedStep captured_;
};

Generation::Generation(const TransformerWrapper& net, const Prompts& prompts, int64_t seq_len, int64_t pad_value,
                       const GenerateOptions& options)
    : options_(options),
      generator_(options.generator ? *options.generator : default_generator()),
      t_(prompts.tokens.size(1)),
      seq_len_(seq_len),
      pad_value_(pad_value),
      start_(prompts.start),
      captured_([this] { step(); }, prompts.tokens.device(), options.capture) {
  NextTokenOptions reading{.call = prompts.call,
                           .cache_kv = options.cache_kv,
                           .restrict_to_max_seq_len = options.restrict_to_max_seq_len,
                           .capacity = t_ + seq_len};
  readers_.emplace_back(net, reading);
  for (const Amateur& a : options.amateurs) readers_.emplace_back(*a.net, reading);
  const int64_t b = prompts.tokens.size(0);
  const Device device = prompts.tokens.device();
  text_ = cat({prompts.tokens.to(int64), full({b, seq_len}, pad_value, {.dtype = int64, .device = device})}, 1);
  length_ = full({1}, t_, {.dtype = int64, .device = device});
  token_ = zeros({b, 1}, {.dtype = int64, .device = device});
  ended_ = zeros({b, 1}, {.dtype = boolean, .device = device});
  none_left_ = zeros({}, {.dtype = boolean, .device = device});
}

// From logits [b, c] of all readers to one more token. Nothing but the device's memory changes.
void Generation::choose(const Tensors& all_logits) {
  Tensor logits = all_logits[0];
  for (size_t i = 1; i < all_logits.size(); ++i) {
    const Amateur& a = options_.amateurs[i - 1];
    logits = contrastive_decode(logits, all_logits[i], a.alpha, a.beta);
  }
  if (options_.repetition.any()) logits = discourage(logits, options_.repetition, text_, start_, length_);
  const FilterLogitsFn& filter = options_.amateurs.empty() ? options_.filter_logits_fn : nullptr;
  if (options_.eos_token) logits = masked_fill(logits, ended_, 0);  // what an ended row draws does not count
  const Tensor chosen = sample(logits, options_.temperature, filter, default_generator());
  none_left_.copy_(logical_or(none_left_, any(ge(chosen, logits.size(1)))));
  token_.copy_(clamp_max(chosen, logits.size(1) - 1));
  index_copy_(text_, 1, length_, token_);
  length_.copy_(length_ + 1);
  if (options_.eos_token) ended_.copy_(logical_or(ended_, eq(token_, *options_.eos_token)));
}

void Generation::step() {
  Tensors logits;
  for (NextToken& reader : readers_) logits.push_back(reader.step(token_));
  choose(logits);
}

// Where all readers can, the next steps have fixed shapes.
void Generation::fix() {
  may_fix_ = false;
  int64_t steps = seq_len_ - made_;
  for (const NextToken& reader : readers_) steps = std::min(steps, reader.steps());
  if (steps == 0) return;
  for (NextToken& reader : readers_) reader.fix(steps);
  steps_left_ = steps;
}

// One more token.
void Generation::advance() {
  const DrawsFrom scope(generator_);
  if (steps_left_ > 0) {
    captured_.run(steps_left_--);
  } else {
    Tensors logits;
    for (NextToken& reader : readers_) logits.push_back(reader(slice(text_, 1, 0, t_ + made_)));
    choose(logits);
  }
}

bool Generation::all_ended() const { return all(ended_).item<bool>(); }

Tensor Generation::run() {
  const bool watched = options_.on_token || text_.device().is_cpu() || !options_.capture.value_or(true);
  while (made_ < seq_len_) {
    const Tensor ended = options_.on_token ? ended_.clone() : Tensor();  // before this step
    advance();
    ++made_;
    if (may_fix_) fix();
    if (options_.on_token) options_.on_token(squeeze(where(ended, Scalar(pad_value_), token_), 1));
    if (!options_.eos_token) continue;
    states_.push_back(generator_.state());
    if ((watched || made_ % kStepsACheck == 0 || steps_left_ == 0) && all_ended()) break;
  }
  return made();
}

// What was made, up to the step with which the last row ended.
Tensor Generation::made() {
  Tensor tokens = slice(text_, 1, t_, t_ + made_);
  if (made_ == 0) return tokens;
  check(!none_left_.item<bool>(), "generate: the logits are not numbers, or no token is left");
  if (!options_.eos_token) return tokens.clone();
  if (all_ended()) {
    const Tensor ends = argmax(eq(tokens, *options_.eos_token).to(int64), 1);  // the first of each row
    const int64_t n = amax(ends).item<int64_t>() + 1;
    tokens = slice(tokens, 1, 0, n);
    generator_.set_state(states_[static_cast<size_t>(n - 1)]);
  }
  return pad_after_eos(tokens, *options_.eos_token, pad_value_);
}

}  // namespace

Tensor AutoregressiveWrapper::generate(const Tensor& given, int64_t seq_len, const GenerateOptions& options) {
  check(options.temperature >= 0, "generate: temperature must not be negative, got ", options.temperature);
  check_repetition("generate", options.repetition);
  const NoGrad guard;
  const EvalMode mode(*this);
  std::vector<std::unique_ptr<EvalMode>> amateurs;
  for (const Amateur& a : options.amateurs) {
    check(a.net != nullptr, "generate: an amateur has no net");
    amateurs.push_back(std::make_unique<EvalMode>(*a.net));
  }
  const Prompts prompts = prepare_prompts(given, seq_len, options.prompt_lens, options.call, config_.pad_value);
  const Tensor made = Generation(*config_.net, prompts, seq_len, config_.pad_value, options).run();
  return given.dim() == 1 ? squeeze(made, 0) : made;
}

}  // namespace weft::xt
