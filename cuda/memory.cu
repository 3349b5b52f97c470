// Device memory: the driver's stream-ordered pool, and freed small blocks kept by stream.
#include <weft/cuda/state.cuh>

#include <bit>

namespace weft::cuda {

cudaMemPool_t pool_of(Device device) {
  cudaMemPool_t pool;
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, device.index), "cuda memory");
  return pool;
}

namespace {

bool too_large(size_t bytes) {
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess && bytes > total;
}

size_t small_size(size_t bytes) { return std::bit_ceil(std::max(bytes, kSmallest)); }

// Everything that is kept goes back to the driver. The caller holds the lock.
void release_small(DeviceState& s) {
  for (auto& [stream, blocks] : s.small) {
    for (auto& list : blocks.of_size) {
      for (void* data : list) cudaFreeAsync(data, stream);
      list.clear();
    }
  }
}

}  // namespace

void* take_from_pool(Device device, size_t bytes, cudaStream_t stream) {
  DeviceState& s = state_of(device);
  std::unique_lock lock(s.mutex);
  const bool small = bytes <= kLargestSmall;
  void* data = nullptr;
  cudaError_t status = cudaSuccess;
  if (auto* list = small ? &s.small[stream].list(small_size(bytes)) : nullptr; list && !list->empty()) {
    data = list->back();
    list->pop_back();
  } else {
    const size_t size = small ? small_size(bytes) : bytes;
    status = cudaMallocAsync(&data, size, stream);
    if (status != cudaSuccess) {  // what was freed counts once the streams have come to it
      cudaGetLastError();
      release_small(s);
      cudaStreamSynchronize(s.stream);
      cudaStreamSynchronize(stream);
      cudaMemPoolTrimTo(pool_of(device), 0);
      status = cudaMallocAsync(&data, size, stream);
    }
  }
  if (status == cudaErrorMemoryAllocation || (status != cudaSuccess && too_large(bytes))) {
    cudaGetLastError();
    throw OutOfMemory(concat(device, ": out of memory: wanted ", bytes, " bytes with ", s.stats.in_use, " in use"));
  }
  check_cuda(status, "cuda memory");
  s.stats.in_use += bytes;
  s.stats.peak = std::max(s.stats.peak, s.stats.in_use);
  return data;
}

void give_to_pool(Device device, void* data, size_t bytes, cudaStream_t stream) noexcept {
  DeviceState& s = state_of(device);
  std::unique_lock lock(s.mutex);
  s.stats.in_use -= bytes;
  if (bytes <= kLargestSmall)
    s.small[stream].list(small_size(bytes)).push_back(data);
  else
    cudaFreeAsync(data, stream);
}

Block allocate(Device device, size_t bytes) {
  require(device);
  DeviceScope scope(device);
  DeviceState& s = state_of(device);
  {
    std::unique_lock lock(s.mutex);
    ++s.stats.allocations;
  }
  if (Capture* c = capturing(); c && c->device == device) return c->arena->take(bytes, stream());
  const cudaStream_t here = stream();
  return {take_from_pool(device, bytes, here), here, nullptr};
}

void free(Device device, void* data, size_t bytes, void* taken_on) noexcept {
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(device.index);
  try {
    const cudaStream_t home = static_cast<cudaStream_t>(taken_on), here = stream();
    if (Capture* c = capturing(); c && c->device == device) {
      c->arena->adopt(data, bytes, here);
    } else {
      order(here, home);
      give_to_pool(device, data, bytes, home);
    }
  } catch (...) {  // the device is lost, and its memory with it
  }
  cudaSetDevice(before);
}

MemoryStats memory_stats(Device device) {
  require(device);
  DeviceScope scope(device);
  DeviceState& s = state_of(device);
  std::unique_lock lock(s.mutex);
  MemoryStats stats = s.stats;
  uint64_t reserved = 0;
  check_cuda(cudaMemPoolGetAttribute(pool_of(device), cudaMemPoolAttrReservedMemCurrent, &reserved), "cuda memory");
  stats.cached = reserved > stats.in_use ? reserved - stats.in_use : 0;
  return stats;
}

void reset_peak_memory(Device device) {
  require(device);
  DeviceState& s = state_of(device);
  std::unique_lock lock(s.mutex);
  s.stats.peak = s.stats.in_use;
}

void empty_cache(Device device) {
  require(device);
  {
    DeviceState& s = state_of(device);
    std::unique_lock lock(s.mutex);
    release_small(s);
  }
  synchronize(device);
  check_cuda(cudaMemPoolTrimTo(pool_of(device), 0), "cuda memory");
}

}  // namespace weft::cuda
