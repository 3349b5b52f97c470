// Shape operations. Those that can be views share memory with their input; names and arguments are PyTorch's.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

// --- views -----------------------------------------------------------------------------------------------------------
/// Same elements in row-major order under another shape; one size may be -1. Copies where strides leave no choice.
Tensor reshape(const Tensor& x, const Shape& shape);
/// Joins the dimensions from start_dim to end_dim, both included, to one.
Tensor flatten(const Tensor& x, int64_t start_dim = 0, int64_t end_dim = -1);
/// Splits dim into sizes (one may be -1).
Tensor unflatten(const Tensor& x, int64_t dim, const Shape& sizes);
/// Dimension i of the result is dimension dims[i] of x.
Tensor permute(const Tensor& x, const Shape& dims);
/// Dimensions a and b trade places.
Tensor transpose(const Tensor& x, int64_t a, int64_t b);
/// Dimension from becomes dimension to; the others stay in order.
Tensor movedim(const Tensor& x, int64_t from, int64_t to);
/// A new dimension of size 1 that is dimension dim of the result.
Tensor unsqueeze(const Tensor& x, int64_t dim);
/// Drops dim if its size is 1 (every such dimension without dim).
Tensor squeeze(const Tensor& x, int64_t dim);
Tensor squeeze(const Tensor& x);
/// Repeats dimensions of size 1 without a copy; -1 keeps a size.
Tensor expand(const Tensor& x, const Shape& shape);
/// x[start:end:step] along dim, as in Python, step > 0.
Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t end = INT64_MAX, int64_t step = 1);
/// x[start : start + length] along dim; out of range is an error.
Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length);
/// x[index] along dim, which is dropped; a negative index counts from the end.
Tensor select(const Tensor& x, int64_t dim, int64_t index);
inline Tensor swapaxes(const Tensor& x, int64_t a, int64_t b) { return transpose(x, a, b); }
inline Tensor broadcast_to(const Tensor& x, const Shape& shape) { return expand(x, shape); }
/// All expanded to the one shape they broadcast to.
Tensors broadcast_tensors(const Tensors& xs);
/// Elements x[i, i + offset] of two dimensions as a new last one.
Tensor diagonal(const Tensor& x, int64_t offset = 0, int64_t dim1 = 0, int64_t dim2 = 1);
/// Windows of size elements along dim, one every step elements: dim counts the windows, a new last dimension runs
/// inside them. What does not fill a window at the end is left out.
Tensor unfold(const Tensor& x, int64_t dim, int64_t size, int64_t step);
/// Grids from 1-D tensors (or scalars): result i has element i of the index along its dimension i. With indexing "xy"
/// the first two dimensions trade places.
Tensors meshgrid(const Tensors& xs, const std::string& indexing = "ij");

// --- joining and splitting -------------------------------------------------------------------------------------------
/// One after the other along dim; they have the same sizes in all others and are promoted to one dtype. No tensors at
/// all is an error.
Tensor cat(const Tensors& xs, int64_t dim = 0);
/// Of one shape, along a new dimension that is dimension dim of the result.
Tensor stack(const Tensors& xs, int64_t dim = 0);
/// Views of the given sizes (they must add up), or of size (the last may be smaller).
Tensors split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim = 0);
Tensors split(const Tensor& x, int64_t size, int64_t dim = 0);
/// At most n views of equal size (the last may be smaller).
Tensors chunk(const Tensor& x, int64_t n, int64_t dim = 0);
/// x[0], x[1], ... along dim.
Tensors unbind(const Tensor& x, int64_t dim = 0);
namespace detail {
/// cat(xs, dim), but outside of the graph without a copy where xs lie in one buffer as split() cuts them: gradients
/// that were written beside each other.
Tensor joined(const Tensors& xs, int64_t dim);
}  // namespace detail

// --- reordering and repeating (copies)
/// Reverses the order of elements along dims.
Tensor flip(const Tensor& x, const Shape& dims);
/// Element i moves to i + shift along its dimension, those that fall off the end come back at the start. Without dims
/// x is rolled as if it were flat.
Tensor roll(const Tensor& x, const Shape& shifts, const Shape& dims = {});
inline Tensor roll(const Tensor& x, int64_t shift, int64_t dim) { return roll(x, Shape{shift}, Shape{dim}); }
/// The whole of x, times[d] times along dimension d; more times than dimensions add leading ones, fewer leave the
/// leading ones alone. PyTorch's repeat and tile (weft::repeat is the einops one).
Tensor tile(const Tensor& x, const Shape& times);
/// The lower (upper) triangle of the last two dimensions, with zeros elsewhere; x[i, j] stays where
/// j - i <= diagonal (>= diagonal).
Tensor tril(const Tensor& x, int64_t diagonal = 0);
Tensor triu(const Tensor& x, int64_t diagonal = 0);

// --- padding ---------------------------------------------------------------------------------------------------------
/// Adds (before, after) elements of value, pairs from the last dimension backwards as in F.pad: {1, 2} pads the last
/// dimension, {1, 2, 3, 4} the last two. Negative amounts crop.
Tensor pad(const Tensor& x, const std::vector<int64_t>& amounts, Scalar value = 0);

}  // namespace weft
