// AutoregressiveWrapper: next-token loss and sampling for a language model.
#pragma once

#include <weft/nn/config.h>
#include <weft/nn/language_model.h>
#include <weft/ops/random.h>

#include <functional>
#include <optional>

namespace weft::flash {

/// logits [b, c] with all but the int((1 - thres) · c) largest of each row, at least one, set to -∞. For sampling.
Tensor top_k(const Tensor& logits, double thres = 0.9);

struct GenerateOptions {
  std::optional<int64_t> eos_token = {};  ///< ends a row; generation stops when every row has ended
  double temperature = 1;                 ///< logits are divided by it; 0 takes the likeliest token
  double filter_thres = 0.9;              ///< share of the vocabulary that top_k leaves out
  Tensor start_lengths = {};  ///< int64 [b]: row i starts from its first start_lengths[i] tokens only (causal nets)
  Generator* generator = nullptr;                                ///< default_generator() if null
  std::function<void(const Tensor& tokens)> on_token = nullptr;  ///< called with each step's tokens [b]
};

struct AutoregressiveWrapperConfig {
  std::shared_ptr<LanguageModel> net;
  int64_t pad_value = 0;  ///< what generate writes after eos_token
};

/// As in flash-pytorch 0.1.9, with generate's end of sequence repaired: there, the first batch whose rows have all
/// ended raises a NameError. Here tokens after a row's first generated eos_token are pad_value, whether or not all rows
/// ended; tokens of the prompt do not end a row. top_k keeps at least one token (there, a small vocabulary gives NaN).
class AutoregressiveWrapper : public Module {
 public:
  explicit AutoregressiveWrapper(const AutoregressiveWrapperConfig& config);
  explicit AutoregressiveWrapper(std::shared_ptr<LanguageModel> net, int64_t pad_value = 0)
      : AutoregressiveWrapper(AutoregressiveWrapperConfig{std::move(net), pad_value}) {}

  /// Mean cross entropy of each token given those before it. x: int64 [b, n + 1] → a scalar.
  Tensor forward(const Tensor& x) const override { return (*this)(x, {}); }
  /// mask: bool [b, n], handed to the model.
  Tensor operator()(const Tensor& x, const Tensor& mask) const;
  using Module::operator();

  /// Samples up to seq_len tokens after start_tokens [b, t], t > 0, in evaluation mode and without a graph: int64 [b,
  /// m], m <= seq_len.
  Tensor generate(const Tensor& start_tokens, int64_t seq_len, const GenerateOptions& options = {});

  std::string name() const override { return "AutoregressiveWrapper"; }
  const LanguageModel& net() const { return *config_.net; }

 private:
  AutoregressiveWrapperConfig config_;
};

}  // namespace weft::flash
