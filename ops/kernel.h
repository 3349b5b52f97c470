// How an op reaches its kernel: a kernel is a function of one name and signature in weft::cpu and in weft::cuda.
// Declared once in the op's .cpp, defined in ops/S_cpu.cpp and cuda/S.cu; a missing definition is a link error.
#pragma once

#include <weft/tensor/tensor.h>

#include <initializer_list>

/// WEFT_DECLARE_KERNEL(softmax, const Tensor& x, Tensor& y) at namespace weft, above the op that calls it.
#define WEFT_DECLARE_KERNEL(name, ...) \
  namespace cpu {                      \
  void name(__VA_ARGS__);              \
  }                                    \
  namespace cuda {                     \
  void name(__VA_ARGS__);              \
  }

/// WEFT_KERNEL(device, softmax, x, y) calls the kernel of that device.
#ifdef WEFT_CUDA
#define WEFT_KERNEL(device, name, ...) ((device).is_cpu() ? cpu::name(__VA_ARGS__) : cuda::name(__VA_ARGS__))
#else
#define WEFT_KERNEL(device, name, ...) (::weft::require_cpu(device, #name), cpu::name(__VA_ARGS__))
#endif

namespace weft {

/// In a build without CUDA: throws for any device but the CPU, naming the kernel and the missing build.
void require_cpu(Device device, const char* kernel);

/// Throws "op: tensors are on different devices: cpu and cuda:0" unless all defined ones share a device.
void check_same_device(const char* op, std::initializer_list<const Tensor*> tensors);

}  // namespace weft
