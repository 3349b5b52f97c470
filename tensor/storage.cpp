// The CPU allocator keeps freed blocks by size class, so that a training step after the first asks the system for
// nothing and touches no fresh page. Classes are four steps an octave: at most 25 % of a block is unused.
#include <weft/tensor/storage.h>
#ifdef WEFT_CUDA
#include <weft/cuda/runtime.h>
#endif

#include <bit>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace weft {

void put(std::string& s, Device d) {
  if (d.is_cpu()) return put(s, "cpu");
  put(s, "cuda:");
  put(s, d.index);
}

Device device_from_name(std::string_view name) {
  if (name == "cpu") return Device::cpu();
  if (name == "cuda") return Device::cuda();
  if (name.size() == 6 && name.starts_with("cuda:") && name[5] >= '0' && name[5] <= '9')
    return Device::cuda(name[5] - '0');
  fail("unknown device '", name, "': expected cpu, cuda or cuda:N");
}

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMaxCached = size_t{4} << 30;  // freed memory beyond this goes back to the system at once

size_t size_class(size_t bytes) {
  if (bytes <= 256) return std::max<size_t>((bytes + 63) & ~size_t{63}, 64);
  const size_t step = std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) / step * step;
}

class CpuAllocator {
 public:
  void* allocate(size_t bytes) {
    const size_t size = size_class(bytes);
    std::unique_lock lock(mutex_);
    if (limit_ && stats_.in_use + size > limit_) {
      throw OutOfMemory(concat("cpu: out of memory: wanted ", bytes, " bytes with ", stats_.in_use,
                               " in use and a limit of ", limit_));
    }
    void* p = nullptr;
    if (auto it = free_.find(size); it != free_.end() && !it->second.empty()) {
      p = it->second.back();
      it->second.pop_back();
      stats_.cached -= size;
    } else if (!(p = std::aligned_alloc(kAlignment, size))) {
      release_cache();
      if (!(p = std::aligned_alloc(kAlignment, size))) {
        throw OutOfMemory(concat("cpu: out of memory: wanted ", bytes, " bytes with ", stats_.in_use, " in use"));
      }
    }
    stats_.in_use += size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    ++stats_.allocations;
    return p;
  }

  void free(void* p, size_t bytes) {
    const size_t size = size_class(bytes);
    std::unique_lock lock(mutex_);
    stats_.in_use -= size;
    if (stats_.cached + size > kMaxCached) {
      std::free(p);
      return;
    }
    free_[size].push_back(p);
    stats_.cached += size;
  }

  void empty() {
    std::unique_lock lock(mutex_);
    release_cache();
  }
  MemoryStats stats() {
    std::unique_lock lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    std::unique_lock lock(mutex_);
    stats_.peak = stats_.in_use;
  }
  void set_limit(size_t bytes) {
    std::unique_lock lock(mutex_);
    limit_ = bytes;
  }

 private:
  void release_cache() {
    for (auto& [size, blocks] : free_) {
      for (void* p : blocks) std::free(p);
      blocks.clear();
    }
    stats_.cached = 0;
  }

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> free_;
  MemoryStats stats_;
  size_t limit_ = 0;
};

// Never destroyed: tensors with static lifetime may still free into it at exit.
CpuAllocator& allocator() {
  static CpuAllocator* a = new CpuAllocator;
  return *a;
}

thread_local Device t_default_device;

#ifndef WEFT_CUDA
[[noreturn]] void no_cuda() {
  fail("this build of weft has no CUDA: configure with the preset 'cuda' (-DWEFT_CUDA=ON)");
}
#endif

}  // namespace

Device default_device() { return t_default_device; }
void set_default_device(Device device) {
#ifdef WEFT_CUDA
  check(device.is_cpu() || (device.index >= 0 && device.index < cuda::device_count()),
        "set_default_device: there is no device ", device, " (", cuda::device_count(), " found)");
#else
  if (!device.is_cpu()) no_cuda();
#endif
  t_default_device = device;
}

Storage::Storage(Device device, size_t bytes) : bytes_(bytes), device_(device) {
  check(bytes < (size_t{1} << 62), "storage: ", bytes, " bytes are too many");
  if (bytes == 0) return;
  if (device.is_cpu()) {
    data_ = allocator().allocate(bytes);
  } else {
#ifdef WEFT_CUDA
    cuda::Block block = cuda::allocate(device, bytes);
    data_ = block.data, stream_ = block.stream, keep_ = std::move(block.keep);
#else
    no_cuda();
#endif
  }
}

Storage::Storage(void* data, size_t bytes, std::shared_ptr<void> keep, bool read_only)
    : data_(data), bytes_(bytes), read_only_(read_only), keep_(std::move(keep)) {}

std::shared_ptr<Storage> Storage::pinned(size_t bytes) {
#ifdef WEFT_CUDA
  cuda::Block block = cuda::allocate_pinned(bytes);
  auto storage = std::make_shared<Storage>(block.data, bytes, std::move(block.keep), false);
  storage->pinned_ = true;
  return storage;
#else
  static_cast<void>(bytes);
  no_cuda();
#endif
}

Storage::~Storage() {
  if (keep_ || !data_) return;
  if (device_.is_cpu()) allocator().free(data_, bytes_);
#ifdef WEFT_CUDA
  else
    cuda::free(device_, data_, bytes_, stream_);
#endif
}

#ifdef WEFT_CUDA
MemoryStats memory_stats(Device d) { return d.is_cpu() ? allocator().stats() : cuda::memory_stats(d); }
void reset_peak_memory(Device d) { d.is_cpu() ? allocator().reset_peak() : cuda::reset_peak_memory(d); }
void empty_cache(Device d) { d.is_cpu() ? allocator().empty() : cuda::empty_cache(d); }
#else
MemoryStats memory_stats(Device d) { return d.is_cpu() ? allocator().stats() : (no_cuda(), MemoryStats{}); }
void reset_peak_memory(Device d) { d.is_cpu() ? allocator().reset_peak() : no_cuda(); }
void empty_cache(Device d) { d.is_cpu() ? allocator().empty() : no_cuda(); }
#endif
void set_memory_limit(size_t bytes) { allocator().set_limit(bytes); }

}  // namespace weft
