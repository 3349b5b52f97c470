// Sums of products in Einstein's notation.
#pragma once

#include <weft/tensor/tensor.h>

#include <array>
#include <concepts>
#include <string_view>

namespace weft {

/// einsum("b i d, b j d -> b i j", {q, k}): every letter names a dimension; the result has those after "->", each of
/// its elements is the sum over the others of the product of the operands. As in PyTorch:
/// - a letter twice in one operand takes the diagonal;
/// - "..." stands for any number of dimensions, which broadcast from the right; a size of 1 broadcasts for letters too;
/// - without "->" the result has the dimensions of "...", then the letters that occur once, in alphabetical order
///   (capitals first).
/// Spaces do not matter. Any number of operands of one dtype; they are multiplied two at a time, by batched matrix
/// products, in the order that needs the fewest multiplications (up to 8 operands; a greedy order beyond).
Tensor einsum(std::string_view equation, const Tensors& operands);

template <std::same_as<Tensor>... Rest>
Tensor einsum(std::string_view equation, const Tensor& first, const Rest&... rest) {
  return einsum(equation, Tensors{first, rest...});
}

namespace detail {

/// A parsed equation. Labels: 0..51 are A..Z a..z, 52..63 the dimensions of "...", 63 the last.
struct EinsumPlan {
  std::vector<std::vector<int>> operands;  // label of each dimension
  std::vector<int> output;
  std::array<int64_t, 64> sizes;  // of each label in use
};

/// Throws on what einsum would refuse about the equation and the shapes. Safe for arbitrary bytes.
EinsumPlan plan_einsum(std::string_view equation, const std::vector<Shape>& shapes);

}  // namespace detail

}  // namespace weft
