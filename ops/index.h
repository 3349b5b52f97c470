// Picking elements by index and putting them back. Names, argument order and shape rules are PyTorch's. Indices are
// integer tensors of any integer dtype; one outside its dimension is an error that names the op, the index and the
// size. Everything is deterministic, gradients included: what meets in one place is added (or overwritten) in the order
// of the index, whatever the number of threads.
#pragma once

#include <weft/tensor/tensor.h>

#include <optional>

namespace weft {

// --- reading ---------------------------------------------------------------------------------------------------------
/// y[i][j][k] = x[i][index[i][j][k]][k] for dim 1 of three. index has x's number of dimensions and may be smaller in
/// the others.
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);
/// As gather, with x and index broadcast outside dim; without dim, x counts as flat.
Tensor take_along_dim(const Tensor& x, const Tensor& index, std::optional<int64_t> dim = {});
/// The slices x[..., index[j], ...] along dim, one for each element of the 1-D (or 0-dim) index.
Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index);
/// x[indices[0], indices[1], ...]: index tensors broadcast together, a boolean one stands for the positions where it is
/// true, an undefined one for the whole dimension, and negative indices count from the end. The indexed dimensions
/// become those of the indices, at the place of the first where they are neighbours, else in front. Always a copy.
Tensor index(const Tensor& x, const Tensors& indices);
/// The elements where mask (boolean; broadcasts with x) is true, in row-major order, as one dimension.
Tensor masked_select(const Tensor& x, const Tensor& mask);
/// Rows of weight [n, d] by ids of any shape: [ids..., d]. The row padding_idx (negative: from the end) receives no
/// gradient. The gradient of a row is the sum over its uses, in the order of ids.
Tensor embedding(const Tensor& ids, const Tensor& weight, std::optional<int64_t> padding_idx = {});
/// Every slice along dim repeats times in a row, or repeats[i] times slice i (1-D, as long as dim, or one element).
/// Without dim, x counts as flat.
Tensor repeat_interleave(const Tensor& x, int64_t repeats, std::optional<int64_t> dim = {});
Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, std::optional<int64_t> dim = {});
/// Positions of the elements that are not zero, in row-major order: int64 [count, x.dim()]. non_differentiable
Tensor nonzero(const Tensor& x);
/// 1 at the id, 0 elsewhere, along a new last dimension of num_classes (-1: the largest id + 1): int64.
/// non_differentiable
Tensor one_hot(const Tensor& ids, int64_t num_classes = -1);

// --- writing: the result is x with some elements changed; x itself stays ---------------------------------------------
/// y[i][index[i][j][k]][k] = src[i][j][k] for dim 1 of three; src may be larger than index. Of several values for one
/// place the last stays, and alone gets the gradient.
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src);
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, Scalar value);
/// As scatter, but adds to what is there.
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src);
/// Adds alpha · source's slice j to the slice index[j] along dim.
Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source, Scalar alpha = 1);
/// Sets the slice index[j] along dim to source's slice j; the last one stays.
Tensor index_copy(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
/// The same in x's own memory, not recorded. Where it writes is read when the kernel runs. Throws for a scalar, for
/// read-only memory, and where x requires a gradient.
void index_copy_(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
/// x with x[indices...] = values (see index; values broadcast to its shape), or with values added where accumulate.
Tensor index_put(const Tensor& x, const Tensors& indices, const Tensor& values, bool accumulate = false);

}  // namespace weft
