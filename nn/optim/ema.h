// Averages of weights.
#pragma once

#include <weft/nn/module.h>

namespace weft {

/// An exponential moving average of a model's parameters: average ← decay·average + (1-decay)·parameter.
class EMA {
 public:
  /// Starts from the parameters as they are. decay in [0, 1).
  EMA(const Module& model, double decay = 0.999);
  void update();
  /// Exchanges the model's parameters with the averages; call it again to change back.
  void swap();
  /// The averages, under the parameters' names; they share memory with it.
  NamedTensors state_dict() const;
  /// Throws, and changes nothing, unless names and shapes are those of state_dict(), in its order.
  void load_state_dict(const NamedTensors& state);

 private:
  NamedTensors params_;
  Tensors averages_;
  double decay_;
};

}  // namespace weft
