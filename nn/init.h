// Initialisers, with PyTorch's names, bounds and defaults. Each refills x in place, unrecorded, from generator.
#pragma once

#include <weft/ops/random.h>

namespace weft::init {

/// From [low, high).
void uniform_(const Tensor& x, double low = 0, double high = 1, Generator& generator = default_generator());
/// With this mean and standard deviation.
void normal_(const Tensor& x, double mean = 0, double std = 1, Generator& generator = default_generator());
/// Normal, redrawn by inverting the distribution function between low and high (in units of x, not of std).
void trunc_normal_(const Tensor& x, double mean = 0, double std = 1, double low = -2, double high = 2,
                   Generator& generator = default_generator());
/// Every element value, 0 or 1.
void constant_(const Tensor& x, double value);
void zeros_(const Tensor& x);
void ones_(const Tensor& x);

/// fan_in = size(1) · (product of the further sizes), fan_out = size(0) · (the same); x needs two dimensions.
struct Fans {
  int64_t in, out;
};
Fans fans(const Tensor& x);

/// Uniform within ± gain·sqrt(3 / fan_in), gain = sqrt(2 / (1 + a²)). With a = √5 this is what Linear and Conv use:
/// ± 1/sqrt(fan_in). Source: He et al., arXiv:1502.01852.
void kaiming_uniform_(const Tensor& x, double a = 0, Generator& generator = default_generator());
/// Normal with mean 0 and standard deviation gain / sqrt(fan_in), with the gain of kaiming_uniform_.
void kaiming_normal_(const Tensor& x, double a = 0, Generator& generator = default_generator());
/// Uniform within ± gain·sqrt(6 / (fan_in + fan_out)). Source: Glorot & Bengio, AISTATS 2010.
void xavier_uniform_(const Tensor& x, double gain = 1, Generator& generator = default_generator());
/// Normal with mean 0 and standard deviation gain·sqrt(2 / (fan_in + fan_out)).
void xavier_normal_(const Tensor& x, double gain = 1, Generator& generator = default_generator());

}  // namespace weft::init
