// How an op reaches its kernel: a kernel is a function of one name and signature in weft::cpu and in weft::cuda.
// Declared once in the op's .cpp, defined in ops/S_cpu.cpp and cuda/S.cu; a missing definition is a link error.
#pragma once

#include <weft/tensor/tensor.h>

#include <initializer_list>
#include <string>
#include <utility>

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
#define WEFT_KERNEL(device, name, ...) \
  ((device).is_cpu() ? cpu::name(__VA_ARGS__) : ::weft::detail::on_device(#name, cuda::name, __VA_ARGS__))
#else
#define WEFT_KERNEL(device, name, ...) (::weft::require_cpu(device, #name), cpu::name(__VA_ARGS__))
#endif

namespace weft {

/// In a build without CUDA: throws for any device but the CPU, naming the kernel and the missing build.
void require_cpu(Device device, const char* kernel);

namespace detail {

/// " float32 [2, 3]" of a tensor, nothing of any other argument of a kernel.
inline void put_given(std::string& s, const Tensor& x) {
  if (x.defined()) s += concat(" ", x.dtype(), " ", x.shape());
}
template <class T>
void put_given(std::string&, const T&) {}

/// Calls a kernel; where the device fails, the message tells the kernel and what it was given.
template <class... Params, class... Args>
void on_device(const char* name, void (*kernel)(Params...), Args&&... args) {
  try {
    kernel(std::forward<Args>(args)...);
  } catch (const DeviceError& e) {
    std::string message = concat(e.what(), "; the kernel ", name, " was given");
    (put_given(message, args), ...);
    throw DeviceError(message);
  }
}

}  // namespace detail

/// Throws "op: tensors are on different devices: cpu and cuda:0" unless all defined ones share a device.
void check_same_device(const char* op, std::initializer_list<const Tensor*> tensors);

}  // namespace weft
