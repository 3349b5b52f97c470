#include <weft/cuda/runtime.h>
#include <weft/cuda/common.cuh>

#include <mutex>

namespace weft::cuda {

void check_cuda(cudaError_t status, const char* op) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that can be recovered from is not to be met again
  fail(op, ": CUDA error: ", cudaGetErrorString(status));
}

int device_count() {
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return n;
}

namespace {

constexpr int kMaxDevices = 16;

struct Counters {
  std::mutex mutex;
  MemoryStats stats;
  bool ready = false;
};

// Never destroyed: tensors with static lifetime may still free at exit.
Counters& counters(int device) {
  static Counters* all = new Counters[kMaxDevices];
  return all[device];
}

cudaMemPool_t pool_of(Device device) {
  cudaMemPool_t pool;
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, device.index), "cuda memory");
  return pool;
}

void require(Device device) {
  check(device.index >= 0 && device.index < std::min(device_count(), kMaxDevices), "cuda: there is no device ", device,
        " (", device_count(), " found)");
}

}  // namespace

void synchronize(Device device) {
  require(device);
  DeviceScope scope(device);
  check_cuda(cudaDeviceSynchronize(), "synchronize");
}

void* allocate(Device device, size_t bytes) {
  require(device);
  DeviceScope scope(device);
  Counters& c = counters(device.index);
  std::unique_lock lock(c.mutex);
  if (!c.ready) {  // freed memory stays in the pool
    uint64_t keep = UINT64_MAX;
    check_cuda(cudaMemPoolSetAttribute(pool_of(device), cudaMemPoolAttrReleaseThreshold, &keep), "cuda memory");
    c.ready = true;
  }
  void* data = nullptr;
  const cudaError_t status = cudaMallocAsync(&data, bytes, nullptr);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw OutOfMemory(concat(device, ": out of memory: wanted ", bytes, " bytes with ", c.stats.in_use, " in use"));
  }
  check_cuda(status, "cuda memory");
  c.stats.in_use += bytes;
  c.stats.peak = std::max(c.stats.peak, c.stats.in_use);
  ++c.stats.allocations;
  return data;
}

void free(Device device, void* data, size_t bytes) noexcept {
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(device.index);
  cudaFreeAsync(data, nullptr);
  cudaSetDevice(before);
  Counters& c = counters(device.index);
  std::unique_lock lock(c.mutex);
  c.stats.in_use -= bytes;
}

MemoryStats memory_stats(Device device) {
  require(device);
  Counters& c = counters(device.index);
  std::unique_lock lock(c.mutex);
  MemoryStats stats = c.stats;
  uint64_t reserved = 0;
  check_cuda(cudaMemPoolGetAttribute(pool_of(device), cudaMemPoolAttrReservedMemCurrent, &reserved), "cuda memory");
  stats.cached = reserved > stats.in_use ? reserved - stats.in_use : 0;
  return stats;
}

void reset_peak_memory(Device device) {
  require(device);
  Counters& c = counters(device.index);
  std::unique_lock lock(c.mutex);
  c.stats.peak = c.stats.in_use;
}

void empty_cache(Device device) {
  synchronize(device);
  check_cuda(cudaMemPoolTrimTo(pool_of(device), 0), "cuda memory");
}

}  // namespace weft::cuda
