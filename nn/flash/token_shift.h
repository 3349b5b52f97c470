// Token shift: half of the features come from the token before.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft::flash {

/// x: [b, n, d] → the same: the first ⌈d/2⌉ features of place i are those of place i - 1 (zeros at place 0), the others
/// stay. Peng, RWKV-LM, doi:10.5281/zenodo.5196578.
Tensor shift_tokens(const Tensor& x);

}  // namespace weft::flash
