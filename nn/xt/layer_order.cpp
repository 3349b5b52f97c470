#include <weft/nn/xt/attention_layers.h>
#include <weft/nn/xt/layer_order.h>

#include <algorithm>
#include <numeric>

namespace weft::xt {
namespace {

using Types = std::vector<char>;

void append(Types& to, const Types& types, int64_t times = 1) {
  for (int64_t i = 0; i < times; ++i) to.insert(to.end(), types.begin(), types.end());
}

void check_order(const AttentionLayersConfig& c) {
  const bool custom = !c.custom_layers.empty(), ordered = !c.layers_execute_order.empty();
  check(c.depth || custom, "AttentionLayers: depth is missing");
  check(c.depth.value_or(1) > 0, "AttentionLayers: depth must be positive, got ", c.depth.value_or(1));
  check(!(custom && ordered && c.depth),
        "AttentionLayers: depth says nothing beside custom_layers and layers_execute_order");
  check(custom + c.par_ratio.has_value() + c.sandwich_coef.has_value() <= 1,
        "AttentionLayers: custom_layers, par_ratio and sandwich_coef exclude each other");
  check(!c.weight_tie_layers || (!custom && !c.par_ratio && !c.sandwich_coef && !ordered),
        "AttentionLayers: weight_tie_layers excludes custom_layers, par_ratio, sandwich_coef and layers_execute_order");
}

Types from_names(const std::vector<std::string>& names) {
  Types types;
  for (const std::string& name : names) {
    check(name == "a" || name == "c" || name == "f", "AttentionLayers: custom_layers are a, c and f, not ", name);
    types.push_back(name[0]);
  }
  return types;
}

// Attention thins out towards the back: pay attention when required, arXiv:2009.04534.
Types par_types(const Types& block, int64_t depth, int64_t ratio) {
  const int64_t total = depth * static_cast<int64_t>(block.size());
  check(ratio > 1 && ratio <= total, "AttentionLayers: par_ratio must be above 1 and at most ", total, ", got ", ratio);
  Types head = block;
  head.erase(std::remove(head.begin(), head.end(), 'f'), head.end());
  const int64_t attentions = total / ratio, cut = total * 2 / 3;
  const int64_t width = (cut + cut / attentions) / attentions;
  check(static_cast<int64_t>(head.size()) <= width, "AttentionLayers: a block of ", block.size(),
        " sublayers is too large for par_ratio ", ratio);
  head.resize(static_cast<size_t>(width), 'f');
  Types types;
  append(types, head, attentions);
  types.resize(static_cast<size_t>(std::max<int64_t>(total, static_cast<int64_t>(types.size()))), 'f');
  return types;
}

}  // namespace

LayerOrder layer_order(const AttentionLayersConfig& c) {
  check_order(c);
  Types block;
  if (c.macaron) block.push_back('f');
  if (!c.only_cross || !c.cross_attend) block.push_back('a');
  if (c.cross_attend) block.push_back('c');
  block.push_back('f');

  LayerOrder order;
  order.execute = c.layers_execute_order;
  int64_t depth = c.depth.value_or(0);
  if (c.weight_tie_layers) {
    for (int64_t i = 0; i < depth; ++i)
      for (size_t j = 0; j < block.size(); ++j) order.execute.push_back(static_cast<int64_t>(j));
    depth = 1;
  }
  if (!c.custom_layers.empty()) {
    order.types = from_names(c.custom_layers);
  } else if (c.par_ratio) {
    order.types = par_types(block, depth, *c.par_ratio);
  } else if (c.sandwich_coef) {
    check(*c.sandwich_coef > 0 && *c.sandwich_coef <= depth, "AttentionLayers: sandwich_coef must be from 1 to depth ",
          depth, ", got ", *c.sandwich_coef);
    append(order.types, {'a'}, *c.sandwich_coef);
    append(order.types, block, depth - *c.sandwich_coef);
    append(order.types, {'f'}, *c.sandwich_coef);
  } else {
    append(order.types, block, depth);
    order.block = static_cast<int64_t>(block.size());
  }
  if (order.execute.empty()) {
    order.execute.resize(order.types.size());
    std::iota(order.execute.begin(), order.execute.end(), 0);
  }
  for (int64_t i : order.execute)
    check(i >= 0 && i < static_cast<int64_t>(order.types.size()), "AttentionLayers: layers_execute_order has ", i,
          " of ", order.types.size(), " sublayers");
  order.depth = c.weight_tie_layers ? 1 : c.depth.value_or(static_cast<int64_t>(order.execute.size()));
  return order;
}

}  // namespace weft::xt
