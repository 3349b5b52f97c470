// Positions added to token embeddings.
#pragma once

#include <weft/nn/embedding.h>
#include <weft/nn/module.h>

namespace weft::xt {

/// A vector a position: (positions, int64 [n] or [b, n]) → [..., dim].
class PositionEmbedding : public Module {
 public:
  /// Positions below 0 (left padding) count as 0.
  Tensor forward(const Tensor& positions) const override = 0;
  /// Throws where a text of n tokens is too long.
  virtual void check_length(int64_t) const {}
};

/// Learned, times dim^-½, or of length 1 if l2norm_embed.
class AbsolutePositionalEmbedding : public PositionEmbedding {
 public:
  AbsolutePositionalEmbedding(int64_t dim, int64_t max_seq_len, bool l2norm_embed = false);
  Tensor forward(const Tensor& positions) const override;
  void check_length(int64_t n) const override;
  std::string name() const override { return "AbsolutePositionalEmbedding"; }

  Embedding emb;

 private:
  double scale_;
  bool l2norm_embed_;
};

/// Sines and cosines of position · theta^(-2k/dim), times one learned number.
class ScaledSinusoidalEmbedding : public PositionEmbedding {
 public:
  explicit ScaledSinusoidalEmbedding(int64_t dim, double theta = 10000);
  Tensor forward(const Tensor& positions) const override;
  std::string name() const override { return "ScaledSinusoidalEmbedding"; }

  Tensor scale, inv_freq;

 private:
  int64_t half_dim_;
  double theta_;
};

}  // namespace weft::xt
