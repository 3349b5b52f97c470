// NeoMLP: a multilayer perceptron whose nodes are tokens that attend to each other (openreview A8Vuf2e8y6).
#pragma once

#include <weft/nn/xt/attention_layers.h>

namespace weft::xt {

struct NeoMLPConfig {
  int64_t dim_in = 0, dim_hidden = 0, dim_out = 0;  ///< nodes
  int64_t dim_model = 0;                            ///< features of a node
  int64_t depth = 0;
  AttentionLayersConfig encoder_kwargs = {.heads = 4, .attn_dim_head = 16};  ///< further options of the encoder
};
Fields fields(NeoMLPConfig& c);  ///< all but encoder_kwargs

/// x: [b, dim_in] (or [dim_in]) → [b, dim_out] (or [dim_out]).
class NeoMLP : public Module {
 public:
  using Config = NeoMLPConfig;
  struct Output {
    Tensor out, input_embed, hidden_embed, output_embed;  ///< embeddings of the nodes: [b, nodes, dim_model]
  };
  explicit NeoMLP(const NeoMLPConfig& config);
  Tensor forward(const Tensor& x) const override { return run(x).out; }
  Output run(const Tensor& x) const;
  std::string name() const override { return "NeoMLP"; }

 private:
  NeoMLPConfig config_;
  std::shared_ptr<Linear> fourier_, after_fourier_;
  std::shared_ptr<Encoder> transformer_;
  Tensor input_embed_, hidden_embed_, output_embed_, to_output_weights_, to_output_bias_;
};

}  // namespace weft::xt
