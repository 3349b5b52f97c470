// Which sublayers a stack has, and in which order they run.
#pragma once

#include <weft/tensor/error.h>

#include <optional>
#include <string>
#include <vector>

namespace weft::xt {

struct AttentionLayersConfig;

struct LayerOrder {
  std::vector<char> types;       ///< of each sublayer: 'a' attention, 'c' cross-attention, 'f' feed-forward
  std::vector<int64_t> execute;  ///< which run, in order
  int64_t block = 1;             ///< sublayers a block, where the stack is made of equal ones; else 1
  int64_t depth = 0;             ///< blocks (sublayers that run, where no depth is given)
};

/// From depth, cross_attend, only_cross, macaron, custom_layers, layers_execute_order, weight_tie_layers, par_ratio and
/// sandwich_coef; throws where they contradict each other.
LayerOrder layer_order(const AttentionLayersConfig& config);

}  // namespace weft::xt
