// The CUDA runtime as the rest of the library sees it: memory and devices, no CUDA type in sight. Only in builds with
// CUDA. Everything runs on the device's default stream, so work is done in the order it was asked for.
#pragma once

#include <weft/tensor/storage.h>

namespace weft::cuda {

/// How many GPUs this process can use; 0 where there is no driver.
int device_count();
/// Waits until the device has done all that was asked of it; throws the error that something left behind.
void synchronize(Device device = Device::cuda());

/// Stream-ordered memory from the device's pool; throws OutOfMemory, or Error where there is no such device.
void* allocate(Device device, size_t bytes);
void free(Device device, void* data, size_t bytes) noexcept;
MemoryStats memory_stats(Device device);
void reset_peak_memory(Device device);
void empty_cache(Device device);

}  // namespace weft::cuda
