// Rotary position embedding: pairs of features turn by an angle that grows with the position.
#pragma once

#include <weft/nn/config.h>
#include <weft/nn/module.h>

namespace weft::xt {

/// The angles that some places turn queries and keys by, in radians, and for xPos what queries are multiplied by: [n, r
/// / 2], or [b or 1, n, r / 2].
struct Rotation {
  Tensor angles, scale;
};

/// Turns the features (2k, 2k + 1), k < r / 2, of t [b, h, n, d] by the last n places of the rotation and multiplies
/// them by its scale, or (keys) divides by it.
Tensor apply_rotary_pos_emb(const Tensor& t, const Rotation& rotation, bool is_key = false);

struct RotaryEmbeddingConfig {
  int64_t dim = 0;                  ///< features that turn, in pairs: one more where odd
  bool use_xpos = false;            ///< scores also fade with the distance: xPos, arXiv:2212.10554
  double scale_base = 512;          ///< of xPos
  double interpolation_factor = 1;  ///< positions are divided by it; at least 1
  double base = 10000;
  double base_rescale_factor = 1;  ///< base · factor^(dim / (dim - 2))
};
inline Fields fields(RotaryEmbeddingConfig& c) {
  return {{"dim", &c.dim},
          {"use_xpos", &c.use_xpos},
          {"scale_base", &c.scale_base},
          {"interpolation_factor", &c.interpolation_factor},
          {"base", &c.base},
          {"base_rescale_factor", &c.base_rescale_factor}};
}

/// Angles position · base^(-2k / dim). Su et al., arXiv:2104.09864. Buffers inv_freq [⌈dim / 2⌉] and, for xPos, scale.
class RotaryEmbedding : public Module {
 public:
  explicit RotaryEmbedding(const RotaryEmbeddingConfig& config);
  /// positions: [n] or [b, n]. middle: the position where xPos's scale is 1; half of the largest unless given (it
  /// cancels between queries and keys that share it).
  Rotation at(const Tensor& positions, std::optional<double> middle = {}) const;
  /// Each angle twice: [b or 1, n, dim] (dim + 1 where odd).
  Tensor forward(const Tensor& positions) const override;
  std::string name() const override { return "RotaryEmbedding"; }

  Tensor inv_freq, scale;

 private:
  Tensor angles(const Tensor& positions) const;
  RotaryEmbeddingConfig config_;
};

}  // namespace weft::xt
