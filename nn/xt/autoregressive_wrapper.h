// AutoregressiveWrapper: next-token loss and sampling.
#pragma once

#include <weft/nn/xt/sampling.h>
#include <weft/nn/xt/transformer_wrapper.h>

namespace weft::xt {

/// A weaker model that the logits are to differ from (contrastive decoding, arXiv:2309.09117).
struct Amateur {
  std::shared_ptr<TransformerWrapper> net;  ///< same tokens; given the same call
  double alpha = 0.1;                       ///< tokens less likely than this share of the likeliest are out
  double beta = 0.5;                        ///< how much of its logits is taken off
};

struct GenerateOptions {
  std::optional<int64_t> eos_token = {};  ///< ends a row; generation stops when every row has ended
  double temperature = 1;                 ///< logits are divided by it; 0 takes the likeliest token
  Tensor prompt_lens = {};                ///< int64 [b]: row i's prompt is its first prompt_lens[i] tokens
  FilterLogitsFn filter_logits_fn = [](const Tensor& logits) { return top_k(logits); };
  bool restrict_to_max_seq_len = true;  ///< tokens further back than max_seq_len are forgotten
  bool cache_kv = true;                 ///< keep keys and values between steps; changes nothing but the speed
  Call call = {};                       ///< context, mask of the prompts, ...
  std::vector<Amateur> amateurs = {};   ///< with any, filter_logits_fn is not asked, as in the original
  Repetition repetition = {};           ///< comes before the filter; may change the greedy choice too
  Generator* generator = nullptr;       ///< default_generator() if null
  /// Called with each step's tokens [b], on the text's device. With it, or capture off, eos is looked for at each step.
  std::function<void(const Tensor& tokens)> on_token = nullptr;
  /// On a GPU, whether a step that reads one token by a fixed cache is recorded once and replayed (cuda/graph.h): true
  /// throws where something in it waits for the device, unset goes on without. The filter, and functions of the model's
  /// that were given to it, are then called while recording only.
  std::optional<bool> capture = {};
};

struct BeamSearchOptions {
  int64_t beams = 4;                      ///< texts that are kept of each row
  std::optional<int64_t> eos_token = {};  ///< ends a text; without it all have seq_len tokens
  double length_penalty = 1;              ///< a text's score is Σ log p / length^this, its end token counted
  Tensor prompt_lens = {};                ///< as in GenerateOptions, and so are these:
  bool restrict_to_max_seq_len = true;
  bool cache_kv = true;
  Call call = {};
  Repetition repetition = {};
  std::optional<bool> capture = {};
};

struct Beams {
  Tensor tokens;  ///< int64 [b, beams, m], the best first; pad_value after the end token
  Tensor scores;  ///< float64 [b, beams]; -∞ where a row has fewer texts
};

struct AutoregressiveWrapperConfig {
  std::shared_ptr<TransformerWrapper> net;
  int64_t ignore_index = -100;  ///< targets that do not count
  int64_t pad_value = 0;        ///< what generate writes after eos_token, and the net reads where x is ignore_index
  double mask_prob = 0;         ///< share of tokens that none sees in a loss (forgetful causal masks, arXiv:2210.13432)
  bool add_attn_z_loss = false;  ///< adds TransformerOutput::attn_z_loss
};
Fields fields(AutoregressiveWrapperConfig& c);  ///< all but net

/// As in x-transformers 2.0.4, except: a padding mask and mask_prob both count; a cache works with masks, ragged
/// prompts, memory tokens and shifted tokens, and beyond max_seq_len the text that is left is read anew (there, old
/// keys that have seen more stay, or an error is raised); tokens of the prompt do not end a row.
class AutoregressiveWrapper : public Module {
 public:
  using Config = AutoregressiveWrapperConfig;
  struct Loss {
    Tensor loss;  ///< a scalar
    TransformerOutput outputs;
  };
  explicit AutoregressiveWrapper(const AutoregressiveWrapperConfig& config);
  explicit AutoregressiveWrapper(std::shared_ptr<TransformerWrapper> net)
      : AutoregressiveWrapper(AutoregressiveWrapperConfig{.net = std::move(net)}) {}

  /// Mean cross entropy of each token given those before it. x: int64 [b, n + 1]; masks: [b, n] or [b, n + 1].
  Tensor forward(const Tensor& x) const override { return (*this)(x, Call{}); }
  Tensor operator()(const Tensor& x, const Call& call) const;
  using Module::operator();
  /// The same, with what the net gave (the loss alone is computed without all logits at once where it can be).
  Loss loss(const Tensor& x, const Call& call = {}) const;

  /// Up to seq_len tokens after prompts [b, t] (or [t]), t > 0, in evaluation mode and without a graph: int64 [b, m],
  /// m <= seq_len (or [m]).
  Tensor generate(const Tensor& prompts, int64_t seq_len, const GenerateOptions& options = {});

  /// The likeliest texts of up to seq_len tokens, as far as a search that goes on with the likeliest `beams` unfinished
  /// ones finds them. Finished texts are kept apart by score; the search ends when no unfinished one can come among
  /// them. With as many beams as there are texts it finds the best of all.
  Beams beam_search(const Tensor& prompts, int64_t seq_len, const BeamSearchOptions& options = {});

  std::string name() const override { return "AutoregressiveWrapper"; }
  TransformerWrapper& net() const { return *config_.net; }
  const AutoregressiveWrapperConfig& config() const { return config_; }

 private:
  Call prepared(const Tensor& x, const Call& call) const;
  Tensor input(const Tensor& x) const;
  AutoregressiveWrapperConfig config_;
};

/// Moves each row's first lens[i] tokens to the right end and fills the left with pad_value. tokens: int64 [b, t]
Tensor align_right(const Tensor& tokens, const Tensor& lens, int64_t pad_value);

}  // namespace weft::xt
