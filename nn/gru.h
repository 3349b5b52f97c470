// GRU: a recurrent layer whose gates say how much of its state a step replaces (arXiv:1406.1078).
#pragma once

#include <weft/nn/module.h>

namespace weft {

/// One step, as torch.nn.GRUCell: gates r, z and candidate n, one below the other in each weight.
///
///   r = σ(W_r x + U_r h),  z = σ(W_z x + U_z h),  n = tanh(W_n x + r ⊙ U_n h),  h ← n + z ⊙ (h - n)
///
/// where W x and U h have a bias each. Parameters weight_ih [3 · hidden, input], weight_hh [3 · hidden, hidden],
/// bias_ih, bias_hh [3 · hidden], drawn uniformly within ± 1/sqrt(hidden).
class GRUCell : public Module {
 public:
  GRUCell(int64_t input_size, int64_t hidden_size);
  /// x: [..., input_size], state: [..., hidden_size] → the next state.
  Tensor step(const Tensor& x, const Tensor& state) const;
  std::string name() const override { return "GRUCell"; }

  Tensor weight_ih, weight_hh, bias_ih, bias_hh;
};

struct GRUConfig {
  int64_t input_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 1;  ///< each reads the one below
  bool bias = true;
  bool bidirectional = false;  ///< beside it another one from the end to the start
};

/// A GRU over a sequence, from a state of zeros: x [b, n, input_size] → the states [b, n, hidden_size], those of both
/// directions one after the other where bidirectional. Names as torch.nn.GRU: weight_ih_l0, ..., bias_hh_l0_reverse.
class GRU : public Module {
 public:
  using Config = GRUConfig;
  explicit GRU(const GRUConfig& config);
  Tensor forward(const Tensor& x) const override;
  std::string name() const override { return "GRU"; }
  std::string extra_repr() const override;

 private:
  struct Direction {
    Tensor weight_ih, weight_hh, bias_ih, bias_hh;
  };
  GRUConfig config_;
  std::vector<std::vector<Direction>> layers_;
};

}  // namespace weft
