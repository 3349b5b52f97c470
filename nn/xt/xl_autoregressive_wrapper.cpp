#include <weft/autograd/autograd.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/xt/xl_autoregressive_wrapper.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/loss.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft::xt {

Fields fields(XLAutoregressiveWrapperConfig& c) {
  return {{"ignore_index", &c.ignore_index}, {"pad_value", &c.pad_value}};
}

XLAutoregressiveWrapper::XLAutoregressiveWrapper(const XLAutoregressiveWrapperConfig& c) : config_(c) {
  check(c.net != nullptr, "XLAutoregressiveWrapper: no net given");
  check(c.net->max_seq_len() > 0, "XLAutoregressiveWrapper: the net's max_seq_len is the length of a segment, got 0");
  register_module("net", c.net);
}

Tensor XLAutoregressiveWrapper::operator()(const Tensor& x, const Call& given) const {
  check(x.dim() == 2 && x.size(1) >= 2, name(), ": expected tokens [batch, length] of length 2 or more, got ",
        x.shape());
  const int64_t n = x.size(1) - 1, segment = config_.net->max_seq_len();
  Call call = given;
  call.return_mems = true;
  Tensor total;
  for (int64_t from = 0; from < n; from += segment) {
    const int64_t to = std::min(n, from + segment);
    if (given.mask.defined()) call.mask = slice(given.mask, 1, from, to);
    const TransformerOutput out = config_.net->run(slice(x, 1, from, to), call);
    const Tensor logits = flatten(out.logits.at(0), 0, 1), labels = flatten(slice(x, 1, from + 1, to + 1));
    const CrossEntropyOptions options{.ignore_index = config_.ignore_index};
    const Tensor loss = (config_.net->output_is_log_prob() ? nll_loss(logits, labels, options)
                                                           : cross_entropy(logits, labels, options)) *
                        (static_cast<double>(to - from) / static_cast<double>(n));
    total = total.defined() ? total + loss : loss;
    call.mems = out.mems, call.mem_masks.clear();
  }
  return total;
}

Tensor XLAutoregressiveWrapper::generate(const Tensor& given, int64_t seq_len, const GenerateOptions& options) {
  check((given.dim() == 1 || given.dim() == 2) && given.size(-1) > 0 && seq_len >= 0,
        "generate: expected start tokens [batch, length > 0] and seq_len >= 0, got ", given.shape(), " and ", seq_len);
  check(!options.prompt_lens.defined(), "generate: prompt_lens and segments exclude each other");
  check(options.amateurs.empty(), "generate: amateurs and segments exclude each other");
  check_repetition("generate", options.repetition);
  const NoGrad guard;
  const EvalMode mode(*this);
  Generator& generator = options.generator ? *options.generator : default_generator();
  const TransformerWrapper& net = *config_.net;
  const int64_t segment = net.max_seq_len();
  Tensor text = given.dim() == 1 ? unsqueeze(given, 0) : given;
  const int64_t b = text.size(0), t = text.size(1);

  Call call = options.call;
  int64_t start = 0;  // of the segment that is being written
  std::optional<Cache> cache;
  const auto finish_segment = [&] {
    Call reading = call;
    reading.return_mems = true;
    call.mems = net.run(slice(text, 1, start, start + segment), reading).mems;
    call.mem_masks.clear(), cache.reset(), start += segment;
  };
  Tensor ended = zeros({b, 1}, {.dtype = boolean, .device = text.device()});
  for (int64_t i = 0; i < seq_len; ++i) {
    while (text.size(1) - start > segment) finish_segment();
    Call step = call;
    int64_t from = start;
    if (options.cache_kv && net.can_cache_kv()) {
      if (!cache) cache.emplace(segment);
      step.cache = &*cache, from += cache->tokens;
      if (cache->tokens > 0) step.mems.clear(), step.mem_masks.clear();
    }
    Tensor logits = select(net(slice(text, 1, from), step), 1, -1);
    if (options.repetition.any()) {
      const Tensor length = full({1}, text.size(1), {.dtype = int64, .device = text.device()});
      logits = discourage(logits, options.repetition, text, {}, length);
    }
    const Tensor token = sample(logits, options.temperature, options.filter_logits_fn, generator);
    text = cat({text, token}, 1);
    if (options.on_token) options.on_token(squeeze(token, 1));
    if (!options.eos_token) continue;
    ended = logical_or(ended, eq(token, *options.eos_token));
    if (all(ended).item<bool>()) break;
  }
  Tensor made = slice(text, 1, t);
  if (options.eos_token) made = pad_after_eos(made, *options.eos_token, config_.pad_value);
  return given.dim() == 1 ? squeeze(made, 0) : made;
}

}  // namespace weft::xt
