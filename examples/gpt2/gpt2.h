// GPT-2 from weft's parts (Radford et al., 2019: "Language Models are Unsupervised Multitask Learners"). Parameters
// carry the published checkpoints' names and layouts, so that their safetensors files load as they are.
#pragma once

#include <weft/nn/container.h>
#include <weft/nn/embedding.h>
#include <weft/nn/norm.h>
#include <weft/ops/linear.h>
#include <weft/ops/shape.h>
#include <weft/tensor/safetensors.h>

namespace weft::gpt2 {

/// The defaults are the smallest of the four published sizes, 124M parameters.
struct GPT2Config {
  int64_t vocab_size = 50257;
  int64_t n_positions = 1024;  ///< the longest text
  int64_t n_embd = 768;
  int64_t n_layer = 12;
  int64_t n_head = 12;
  double layer_norm_epsilon = 1e-5;
};

/// The published sizes by name: "124M", "350M", "774M", "1558M".
GPT2Config published_size(std::string_view name);

/// x · weight + bias. The checkpoints hold the weight of a linear layer as [in, out]. x: [..., in] → [..., out].
struct Conv1D : Module {
  Tensor weight, bias;
  /// std: of the normal distribution that the weight is drawn from; the bias starts at 0.
  Conv1D(int64_t in, int64_t out, double std = 0.02);
  Tensor operator()(const Tensor& x, Activation activation = Activation::none) const {
    return linear(x, transpose(weight, 0, 1), bias, activation);
  }
  std::string name() const override { return "Conv1D"; }
};

struct Attention : Module {
  int64_t heads;
  Conv1D c_attn, c_proj;
  explicit Attention(const GPT2Config& config);
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "Attention"; }
};

struct MLP : Module {
  Conv1D c_fc, c_proj;
  explicit MLP(const GPT2Config& config);
  Tensor forward(const Tensor& x) const override {
    return weft::mlp(x, transpose(c_fc.weight, 0, 1), c_fc.bias, transpose(c_proj.weight, 0, 1), c_proj.bias,
                     {.activation = Activation::gelu_tanh});
  }
  std::string name() const override { return "MLP"; }
};

/// x + attention(norm(x)), then the same with the feed-forward network, whose output is handed on as the branch.
struct Block : Module {
  LayerNorm ln_1, ln_2;
  Attention attn;
  MLP mlp;
  explicit Block(const GPT2Config& config);
  ResidualStream operator()(const ResidualStream& stream) const;  // [b, n, dim]
  using Module::operator();
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "Block"; }
};

/// Initialised as the original: weights normal with std 0.02, projections into the residual stream divided by
/// √(2·n_layer).
class GPT2 : public Module {
 public:
  explicit GPT2(const GPT2Config& config = {});

  /// ids: int64 [b, n], n <= n_positions → the stream after the last norm, [b, n, n_embd]. Under Autocast the stream is
  /// kept in its dtype.
  Tensor hidden(const Tensor& ids) const;
  /// ids: int64 [b, n] → logits [b, n, vocab_size]; the projection is the token embedding itself.
  Tensor forward(const Tensor& ids) const override;
  /// Mean cross entropy of targets [b, n] after ids [b, n]; targets of -100 do not count. Logits of the whole batch
  /// never exist at once.
  Tensor loss(const Tensor& ids, const Tensor& targets) const;
  /// count more tokens after ids [n], each drawn from the top_k likeliest at this temperature (0: the likeliest).
  std::vector<int64_t> generate(std::vector<int64_t> ids, int64_t count, double temperature = 1,
                                int64_t top_k = 40) const;

  /// Weights of a published file: names with or without the prefix "transformer.", attention's constant mask buffers
  /// and a copy of the embedding under "lm_head.weight" passed over.
  void load(const std::string& safetensors_path);

  std::string name() const override { return "GPT2"; }
  const GPT2Config& config() const { return config_; }

 private:
  GPT2Config config_;
  Embedding wte, wpe;
  ModuleList h;
  LayerNorm ln_f;
};

}  // namespace weft::gpt2
