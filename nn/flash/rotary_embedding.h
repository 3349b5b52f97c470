// Rotary position embedding: pairs of features turn by an angle that grows with the position.
#pragma once

#include <weft/nn/config.h>
#include <weft/nn/module.h>

namespace weft::flash {

struct RotaryEmbeddingConfig {
  int64_t dim = 0;                 ///< features that turn, from the first one; even
  std::string freqs_for = "lang";  ///< "lang": theta^(-2k/dim); "pixel": π·(1 … max_freq/2); "constant": ones
  double theta = 10000;
  double max_freq = 10;             ///< of "pixel"
  int64_t num_freqs = 1;            ///< of "constant"
  bool learned_freq = false;        ///< the frequencies are trained
  double interpolate_factor = 1;    ///< positions are divided by it; at least 1
  double theta_rescale_factor = 1;  ///< stretches theta for longer texts: theta · factor^(dim / (dim - 2))
};
inline Fields fields(RotaryEmbeddingConfig& c) {
  return {{"dim", &c.dim},
          {"freqs_for", &c.freqs_for},
          {"theta", &c.theta},
          {"max_freq", &c.max_freq},
          {"num_freqs", &c.num_freqs},
          {"learned_freq", &c.learned_freq},
          {"interpolate_factor", &c.interpolate_factor},
          {"theta_rescale_factor", &c.theta_rescale_factor}};
}

/// Turns features (2k, 2k+1) at position p by the angle p·freqs[k] and leaves those beyond 2·freqs.size() alone.
/// Su et al., arXiv:2104.09864. freqs [dim / 2] is in the state dict: a parameter if learned_freq, else a buffer.
class RotaryEmbedding : public Module {
 public:
  explicit RotaryEmbedding(const RotaryEmbeddingConfig& config);

  /// Angles of the given positions, each twice: [...] → [..., 2·freqs.size()].
  Tensor forward(const Tensor& positions) const override;
  /// What pair k turns by at the positions offset … offset + n - 1, in radians: [n, freqs.size()].
  Tensor angles(int64_t n, int64_t offset = 0) const;
  /// t: [..., n, ..., d] with the positions offset … offset + n - 1 along seq_dim (negative) → the same shape.
  Tensor rotate_queries_or_keys(const Tensor& t, int64_t seq_dim = -2, int64_t offset = 0) const;
  std::string name() const override { return "RotaryEmbedding"; }

  Tensor freqs;

 private:
  Tensor frequencies() const;
  RotaryEmbeddingConfig config_;
};

/// Turns the pairs of features start_index … start_index + r - 1 of t [..., n, d] by angles freqs [m, r], of which the
/// last n rows count, and multiplies them by scale. Both angles of a pair are equal unless more than a turn is wanted.
Tensor apply_rotary_emb(const Tensor& freqs, const Tensor& t, int64_t start_index = 0, double scale = 1);

}  // namespace weft::flash
