// Rearranging by patterns, in the language of einops (Rogozhnikov, "Einops: Clear and Reliable Tensor Manipulations
// with Einstein-like Notation", ICLR 2022; https://einops.rocks).
//
// A pattern names every dimension of the input, then "->", then every dimension of the result, with spaces between:
//   rearrange(x, "b (h w) c -> b c h w", {{"h", 4}})
// - (h w) is one dimension made of two, the last running fastest; sizes that the input does not give are given by
//   name, all but one of a group at most;
// - "..." stands for any number of dimensions;
// - 1 and () stand for a dimension of size 1.
// Names are letters, digits and underscores. Errors say what is wrong with which pattern, shape and sizes.
#pragma once

#include <weft/ops/reduce.h>
#include <weft/tensor/tensor.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft {

/// Sizes by name.
using AxisSizes = std::vector<std::pair<std::string, int64_t>>;

/// Reorders, splits and merges dimensions: each name stands once on either side. A view where strides allow.
Tensor rearrange(const Tensor& x, std::string_view pattern, const AxisSizes& sizes = {});

/// The same, with new names (or numbers) on the right: x is repeated along those. repeat(x, "h w -> (h 2) w c",
/// {{"c", 3}})
Tensor repeat(const Tensor& x, std::string_view pattern, const AxisSizes& sizes = {});

/// What reduce does to the dimensions that disappear: sum, mean, prod, amax, amin, any, all, logsumexp or a function of
/// your own.
using Reducer = Tensor (*)(const Tensor& x, const Dims& dims, bool keep);

/// Dimensions that are not on the right are reduced: reduce(x, "b (h 2) (w 2) c -> b h w c", amax) pools.
Tensor reduce(const Tensor& x, std::string_view pattern, Reducer reducer, const AxisSizes& sizes = {});

namespace detail {

enum class EinopsKind : uint8_t { rearrange, repeat, reduce };

/// A pattern worked out for a shape: the steps to take, in this order.
struct EinopsPlan {
  Shape split;     ///< reshape to this: every group taken apart, dimensions of "1" left out
  Shape reduced;   ///< reduce these dimensions away
  Shape order;     ///< permute what is left
  Shape spaced;    ///< reshape to this: a size of 1 where the input is repeated
  Shape expanded;  ///< expand to this
  Shape result;    ///< reshape to this
};

/// Throws on what the operations would refuse about pattern, shape and sizes. Safe for arbitrary bytes.
EinopsPlan plan_einops(EinopsKind kind, std::string_view pattern, const Shape& shape, const AxisSizes& sizes);

}  // namespace detail

}  // namespace weft
