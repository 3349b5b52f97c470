// XLAutoregressiveWrapper: long texts, a segment at a time, with memories (Transformer-XL, arXiv:1901.02860).
#pragma once

#include <weft/nn/xt/autoregressive_wrapper.h>

namespace weft::xt {

struct XLAutoregressiveWrapperConfig {
  std::shared_ptr<TransformerWrapper> net;
  int64_t ignore_index = -100;
  int64_t pad_value = 0;
};
Fields fields(XLAutoregressiveWrapperConfig& c);  ///< all but net

/// Cuts texts into segments of max_seq_len; each is read with the memories of those before it. As in x-transformers
/// 2.0.4, but generate remembers all of a finished segment (there, only its last token).
class XLAutoregressiveWrapper : public Module {
 public:
  using Config = XLAutoregressiveWrapperConfig;
  explicit XLAutoregressiveWrapper(const XLAutoregressiveWrapperConfig& config);
  explicit XLAutoregressiveWrapper(std::shared_ptr<TransformerWrapper> net)
      : XLAutoregressiveWrapper(XLAutoregressiveWrapperConfig{.net = std::move(net)}) {}
  /// x: int64 [b, n + 1] → the mean over segments of their mean losses, weighted by their lengths. call.mems: of a text
  /// before.
  Tensor forward(const Tensor& x) const override { return (*this)(x, Call{}); }
  Tensor operator()(const Tensor& x, const Call& call) const;
  using Module::operator();
  /// As AutoregressiveWrapper::generate; options.prompt_lens cannot be given.
  Tensor generate(const Tensor& start_tokens, int64_t seq_len, const GenerateOptions& options = {});
  std::string name() const override { return "XLAutoregressiveWrapper"; }

 private:
  XLAutoregressiveWrapperConfig config_;
};

}  // namespace weft::xt
