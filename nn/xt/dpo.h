// DPO: direct preference optimisation (arXiv:2305.18290).
#pragma once

#include <weft/nn/xt/transformer_wrapper.h>

namespace weft::xt {

struct DPOConfig {
  std::shared_ptr<TransformerWrapper> policy_model;  ///< is trained
  std::shared_ptr<TransformerWrapper> ref_model;     ///< gets the policy's weights now, and keeps them
  double beta = 0.1;
  std::optional<int64_t> pad_id = {};  ///< these tokens do not count
};

/// Loss that makes the preferred of two continuations likelier than the other, against how likely the reference holds
/// them: -log sigmoid(β (log-ratio of the preferred - log-ratio of the other)). The original copies its model; a module
/// here is not copied, so a second one of the same configuration is given.
class DPO : public Module {
 public:
  struct Call {
    Tensor prompt_mask;              ///< bool [b, n] (or [b, n - 1]), true at the prompt, which does not count
    Tensor preferred_seq_mask = {};  ///< bool [b, n], true at real tokens
    Tensor unpreferred_seq_mask = {};
  };
  explicit DPO(const DPOConfig& config);
  /// preferred, unpreferred: int64 [b, n] → a scalar.
  Tensor operator()(const Tensor& preferred, const Tensor& unpreferred, const Call& call) const;
  std::string name() const override { return "DPO"; }

 private:
  DPOConfig config_;
};

}  // namespace weft::xt
