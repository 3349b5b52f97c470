// Transforms by cuFFT, on the calling thread's stream.
#pragma once

#include <weft/cuda/common.cuh>

#include <cufft.h>

namespace weft::cuda::fft {

/// Rows of one transform: n numbers (real ones, for CUFFT_R2C and the like; complex ones for CUFFT_C2C) in each of
/// `rows` rows that begin `in_pitch` elements apart on the input side and `out_pitch` on the output side.
struct Rows {
  cufftType type;
  int64_t n, rows, in_pitch, out_pitch;
  auto operator<=>(const Rows&) const = default;
};

/// in -> out, which may be one for complex transforms; inverse matters to complex ones alone and is not divided by n.
/// The plan is kept for the next call of this thread on this device, up to a number of plans. Its work area is a tensor
/// for the time of the call: it counts in the memory statistics, and a captured graph owns it as it owns all scratch.
/// A plan's first use must not be inside a capture, since cuFFT then copies its tables to the device.
void transform(const Rows& rows, void* in, void* out, bool inverse = false);

}  // namespace weft::cuda::fft
