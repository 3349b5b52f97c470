// What biases by relative position share.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft {

/// One value a diagonal: y[..., q, k] = values[..., k - q + i - 1].  values: [..., i + j - 1] → [..., i, j], a view.
Tensor toeplitz(const Tensor& values, int64_t i, int64_t j);

/// T5's bucket of a key at this distance (positive: after the query). Near distances have a bucket each, farther ones
/// share logarithmically wider ones up to max_distance; without causal, half of the buckets are for keys ahead of the
/// query. Raffel et al., arXiv:1910.10683.
int64_t t5_bucket(int64_t distance, bool causal, int64_t num_buckets, int64_t max_distance);

/// Throws unless the buckets of each side hold at least one near and one far distance.
void check_t5_buckets(const char* owner, bool causal, int64_t num_buckets, int64_t max_distance);

}  // namespace weft
