// NonAutoregressiveWrapper: tokens in any order, by filling in masked ones (arXiv:1904.09324, MaskGIT
// arXiv:2202.04200).
#pragma once

#include <weft/nn/xt/transformer_wrapper.h>

namespace weft::xt {

struct NonAutoregressiveWrapperConfig {
  std::shared_ptr<TransformerWrapper> net;  ///< not causal
  int64_t mask_id = 0;                      ///< token that stands for a masked one
  int64_t steps = 18;                       ///< of generate
  bool self_cond = false;                   ///< the net sees its own embeddings of the step before
  double self_cond_train_prob = 0.75;       ///< share of losses in which it does
  double no_replace_prob = 0.15;            ///< share of masked tokens that stay as they are (BERT)
  double random_token_prob = 0.1;           ///< share that become another token
  std::string schedule = "linear";          ///< share of masked tokens at time t: 1 - t, or "cosine": cos(πt/2)
  bool can_mask_prev_unmasked = false;      ///< generate may mask a token again
  std::shared_ptr<TransformerWrapper> token_critic = nullptr;  ///< ids → [b, n, 1]: how wrong a token is
  bool self_token_critic = false;                              ///< the net itself with another output layer
  double critic_loss_weight = 1;
};
Fields fields(NonAutoregressiveWrapperConfig& c);  ///< all but net and token_critic

/// As in x-transformers 2.0.4, but the critic learns which tokens of its input are wrong (there, at places that were
/// not masked, it is told about samples that it does not see).
class NonAutoregressiveWrapper : public Module {
 public:
  using Config = NonAutoregressiveWrapperConfig;
  struct Losses {
    Tensor loss, generator_loss, critic_loss;  ///< scalars; an undefined one was not computed
  };
  struct TrainOptions {
    bool only_train_generator = false, only_train_critic = false;
    std::optional<double> generator_sample_temperature =
        {};  ///< of what the critic is shown; drawn from [0, 1) if none
    Call call = {};
  };
  struct SampleOptions {
    double start_temperature = 1;
    std::optional<double> filter_thres = 0.7;  ///< share of the vocabulary that is left out
    double noise_level_scale = 1;              ///< of the noise on the critic's scores
    Call call = {};
  };
  explicit NonAutoregressiveWrapper(const NonAutoregressiveWrapperConfig& config);
  /// x: int64 [b, max_seq_len]. Draws from the thread's default generator.
  Losses operator()(const Tensor& x, const TrainOptions& options) const;
  Tensor forward(const Tensor& x) const override { return (*this)(x, TrainOptions{}).loss; }
  using Module::operator();
  /// int64 [batch_size, max_seq_len], in evaluation mode and without a graph.
  Tensor generate(int64_t batch_size, const SampleOptions& options);
  Tensor generate(int64_t batch_size = 1) { return generate(batch_size, SampleOptions{}); }
  std::string name() const override { return "NonAutoregressiveWrapper"; }

 private:
  Tensor masked_share(const Tensor& times) const;
  Tensor scores_of(const Tensor& tokens) const;
  NonAutoregressiveWrapperConfig config_;
  std::shared_ptr<Linear> to_self_cond_, critic_head_;
  Tensor null_embed_;
};

}  // namespace weft::xt
