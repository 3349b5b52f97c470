// Benchmark cases of the GPU: a name (the contract with torch/gpu.py), a function that builds the case and returns one
// step, and what a step must compute and move at the least. A case is timed over many steps between two
// synchronisations, launched one by one and again as one captured graph.
#pragma once

#include "step.h"

#include <string>
#include <vector>

namespace weft::bench::gpu {

struct Case {
  std::string name;
  std::function<Step()> prepare;
  double flops = 0, bytes = 0;
  bool capturable = true;  ///< false: the step waits for the device, or captures by itself; it has no second time
};

/// In the order in which they were added.
std::vector<Case>& cases();

/// flops, bytes: of one step, where a rate says something; 0 prints none. Tensors are made on the device by default.
inline void add(const std::string& name, std::function<Step()> prepare, double flops = 0, double bytes = 0,
                bool capturable = true) {
  cases().push_back({name, std::move(prepare), flops, bytes, capturable});
}

}  // namespace weft::bench::gpu
