// Structured dropout: whole tokens are left out of a sequence.
#pragma once

#include <weft/tensor/tensor.h>

namespace weft::xt {

/// Keeps a random 1 - dropout of the tokens of each row of sequence [b, n, d], at least one, and of those that are real
/// where mask (bool [b, n], may be undefined) says so; both are replaced. Draws from the thread's default generator.
void drop_tokens(Tensor& sequence, Tensor& mask, double dropout);

}  // namespace weft::xt
