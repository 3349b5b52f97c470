// EvalMode: evaluation mode for a scope.
#pragma once

#include <weft/nn/module.h>

namespace weft {

/// Puts a module in evaluation mode, and back where it was at the end of the scope.
class EvalMode {
 public:
  explicit EvalMode(Module& m) : module_(m), before_(m.is_training()) { m.eval(); }
  ~EvalMode() { module_.train(before_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  Module& module_;
  bool before_;
};

}  // namespace weft
