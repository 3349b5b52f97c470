// Devices, memory and its allocator.
#pragma once

#include <weft/tensor/error.h>

#include <atomic>
#include <cstddef>
#include <memory>

namespace weft {

enum class DeviceType : uint8_t { cpu, cuda };

/// Where a tensor lives. Device::cpu(), Device::cuda(1); read from text by device_from_name("cuda:1").
struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  static constexpr Device cpu() { return {DeviceType::cpu, 0}; }
  static constexpr Device cuda(int index = 0) { return {DeviceType::cuda, index}; }
  bool is_cpu() const { return type == DeviceType::cpu; }
  bool is_cuda() const { return type == DeviceType::cuda; }
  bool operator==(const Device&) const = default;
};
void put(std::string& s, Device d);  ///< "cpu", "cuda:0"
/// From "cpu", "cuda" (number 0) or "cuda:1"; throws for anything else.
Device device_from_name(std::string_view name);

/// Where new tensors go when a call does not say: the CPU until set, for each thread. Reading files and text is not
/// meant: that stays on the CPU unless asked for. Throws where there is no such device.
Device default_device();
void set_default_device(Device device);
/// Sets it for a scope.
class DefaultDevice {
 public:
  explicit DefaultDevice(Device device) : before_(default_device()) { set_default_device(device); }
  ~DefaultDevice() { set_default_device(before_); }
  DefaultDevice(const DefaultDevice&) = delete;
  DefaultDevice& operator=(const DefaultDevice&) = delete;

 private:
  Device before_;
};

/// Owner of one block of memory. Views of a tensor share it; every in-place write raises its version.
class Storage {
 public:
  /// bytes of uninitialised memory, 64-byte aligned; throws OutOfMemory.
  Storage(Device device, size_t bytes);
  /// Borrowed memory (a mapped file): keep is held as long as the storage lives. read_only storage refuses in-place
  /// writes.
  Storage(void* data, size_t bytes, std::shared_ptr<void> keep, bool read_only);
  /// Page-locked host memory, for copies to and from GPUs that nobody waits for; kept for reuse when freed. Throws in a
  /// build without CUDA.
  static std::shared_ptr<Storage> pinned(size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool read_only() const { return read_only_; }
  bool is_pinned() const { return pinned_; }
  /// What else holds the memory, if anything does: the mapped file, the graph it belongs to, the page-locked block.
  const std::shared_ptr<void>& keep() const { return keep_; }
  uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Device device_;
  bool read_only_ = false, pinned_ = false;
  void* stream_ = nullptr;  // of a GPU's memory: the stream in whose order it was taken and goes back
  std::shared_ptr<void> keep_;
  std::atomic<uint32_t> version_{0};
};

/// Bytes handed out and held by one device's caching allocator.
struct MemoryStats {
  size_t in_use = 0;       ///< handed out now
  size_t peak = 0;         ///< the most that was in use since reset_peak_memory
  size_t cached = 0;       ///< freed blocks kept for reuse
  size_t allocations = 0;  ///< requests served since the start
};
MemoryStats memory_stats(Device device = Device::cpu());
void reset_peak_memory(Device device = Device::cpu());
/// Gives cached blocks back to the system.
void empty_cache(Device device = Device::cpu());
/// Requests that would take in_use past this many bytes throw OutOfMemory; 0 (the default) means no limit. CPU only.
void set_memory_limit(size_t bytes);

}  // namespace weft
