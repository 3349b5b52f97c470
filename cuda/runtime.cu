#include <weft/cuda/runtime.h>
#include <weft/cuda/common.cuh>

#include <atomic>
#include <cstring>
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
  std::atomic<bool> ready = false;
  cudaStream_t stream = nullptr;
  int* fault_lock = nullptr;
  FaultReport* fault_report = nullptr;
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

// The stream, the memory pool and the place for fault reports, made when a device is first used. It is the current one.
Counters& prepared(Device device) {
  Counters& c = counters(device.index);
  if (c.ready.load(std::memory_order_acquire)) return c;
  std::unique_lock lock(c.mutex);
  if (c.ready) return c;
  uint64_t keep = UINT64_MAX;  // freed memory stays in the pool
  check_cuda(cudaMemPoolSetAttribute(pool_of(device), cudaMemPoolAttrReleaseThreshold, &keep), "cuda memory");
  check_cuda(cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking), "stream");
  check_cuda(cudaMalloc(&c.fault_lock, sizeof(int)), "cuda memory");
  check_cuda(cudaMemset(c.fault_lock, 0, sizeof(int)), "cuda memory");
  check_cuda(cudaHostAlloc(&c.fault_report, sizeof(FaultReport), cudaHostAllocPortable), "cuda memory");
  *c.fault_report = {};
  c.ready.store(true, std::memory_order_release);
  return c;
}

Counters& prepared() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "device");
  return prepared(Device::cuda(device));
}

void require(Device device) {
  check(device.index >= 0 && device.index < std::min(device_count(), kMaxDevices), "cuda: there is no device ", device,
        " (", device_count(), " found)");
}

}  // namespace

cudaStream_t stream() { return prepared().stream; }

const void* replay_slot(const void*, size_t, std::function<void(void*)>) { return nullptr; }
PhiloxAt philox_at(Generator::State at) { return {{at, nullptr}, 0}; }

Fault fault(const char* op, int64_t dim, int64_t size, const char* text) {
  Counters& c = prepared();
  return {c.fault_lock, c.fault_report, op, text, dim, size};
}

void check_faults() {
  Counters& c = prepared();
  if (!c.fault_report->raised) return;
  const FaultReport r = *c.fault_report;
  *c.fault_report = {};
  check_cuda(cudaMemsetAsync(c.fault_lock, 0, sizeof(int), c.stream), "faults");
  std::string text = r.text;
  for (const auto& [name, value] : {std::pair{"{index}", r.index}, {"{dim}", r.dim}, {"{size}", r.size}}) {
    if (const size_t at = text.find(name); at != std::string::npos)
      text.replace(at, std::strlen(name), std::to_string(value));
  }
  fail(r.op, ": ", text);
}

void wait(const char* op) {
  check_cuda(cudaStreamSynchronize(stream()), op);
  check_faults();
}

void synchronize(Device device) {
  require(device);
  DeviceScope scope(device);
  check_cuda(cudaDeviceSynchronize(), "synchronize");
  check_faults();
}

void* allocate(Device device, size_t bytes) {
  require(device);
  DeviceScope scope(device);
  Counters& c = prepared(device);
  std::unique_lock lock(c.mutex);
  void* data = nullptr;
  const cudaError_t status = cudaMallocAsync(&data, bytes, c.stream);
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
  Counters& c = counters(device.index);
  cudaFreeAsync(data, c.stream);
  cudaSetDevice(before);
  std::unique_lock lock(c.mutex);
  c.stats.in_use -= bytes;
}

MemoryStats memory_stats(Device device) {
  require(device);
  DeviceScope scope(device);
  Counters& c = prepared(device);
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
