// What the runtime's own files share: a device's state, and what this thread is capturing.
#pragma once

#include <weft/cuda/runtime.h>
#include <weft/cuda/common.cuh>

#include <atomic>
#include <bit>
#include <map>
#include <mutex>
#include <vector>

namespace weft::cuda {

inline constexpr int kMaxDevices = 16;

inline constexpr size_t kSmallest = 512, kLargestSmall = size_t{1} << 20;  // bytes of a block that SmallBlocks keeps

/// Freed blocks of one stream by size, a power of two: the next one of that size on the stream may take them without
/// asking the driver, since its work comes later in the stream's order.
struct SmallBlocks {
  std::vector<void*> of_size[12];
  std::vector<void*>& list(size_t size) { return of_size[std::bit_width(size / kSmallest) - 1]; }
};

struct DeviceState {
  std::mutex mutex;
  std::map<cudaStream_t, SmallBlocks> small;
  MemoryStats stats;
  std::atomic<bool> ready = false;
  cudaStream_t stream = nullptr;           // the one that all threads use unless told otherwise
  std::vector<cudaStream_t> idle_streams;  // of Stream objects that are gone
  int* fault_lock = nullptr;
  FaultReport* fault_report = nullptr;
};

/// The state of a device, made when it is first used; the device is the current one.
DeviceState& state_of(Device device);
DeviceState& current_state();
/// Throws where there is no such device.
void require(Device device);
/// The calling thread's stream on a device: nullptr stands for the device's own.
cudaStream_t& override_stream(int device);
/// A stream nobody else uses; back goes the handle, which stays valid: memory taken in its order must go back in it.
cudaStream_t borrow_stream(Device device);
void return_stream(Device device, cudaStream_t stream) noexcept;
/// What is asked of later from now on starts after all that was asked of earlier.
void order(cudaStream_t earlier, cudaStream_t later);

/// Memory of one graph, cut from large blocks of the pool: best fit, given back and used again in the stream's order as
/// long as the capture goes on. Afterwards every piece stays where it is, since replays write there.
class Arena : public std::enable_shared_from_this<Arena> {
 public:
  explicit Arena(Device device) : device_(device) {}
  ~Arena();
  void* own(size_t bytes);  ///< memory that is not handed out again
  Block take(size_t bytes, void* stream);
  void give(void* data, void* stream);
  /// A block of the pool that is freed during the capture: what was captured before may use it, what comes may reuse
  /// it.
  void adopt(void* data, size_t bytes, void* stream);
  void hold(std::shared_ptr<void> owner) { held_.push_back(std::move(owner)); }
  void close() { open_ = false; }
  size_t bytes() const { return bytes_; }
  cudaEvent_t replayed = nullptr;  // recorded after each replay

 private:
  struct Piece {
    size_t size;
    void* stream;
    bool used, first;  // first: nothing before it belongs to the same block
  };
  using Pieces = std::map<char*, Piece>;
  Pieces::iterator best(size_t bytes, void* stream);
  void merge(Pieces::iterator at);

  Device device_;
  std::mutex mutex_;
  bool open_ = true;
  Pieces pieces_;
  struct Taken {
    void* data;
    size_t bytes;
  };
  std::vector<Taken> blocks_;
  std::vector<std::shared_ptr<void>> held_;
  size_t bytes_ = 0;
};

/// A number that is written before each replay.
struct Slot {
  alignas(16) unsigned char value[32];
  std::function<void(void*)> next;
};

/// A generator that a captured step draws from: its launches use the slot, which holds where the step begins.
struct Draws {
  Generator* generator;
  Generator::State start;  // at the capture
  uint64_t used = 0;       // counters a step
  const Generator::State* slot = nullptr;
};

struct Capture {
  Device device;
  std::shared_ptr<Arena> arena;
  unsigned char* slot_memory = nullptr;  // kMaxSlots of them, on the device
  std::vector<Slot> slots;
  std::vector<Draws> draws;
};
inline constexpr size_t kSlotBytes = sizeof(Slot::value), kMaxSlots = 1024;

/// What the calling thread is capturing; nullptr where it is not.
Capture*& capturing();
/// Throws "op: waits for the device, ..." in a capture.
void refuse_capture(const char* op);

cudaMemPool_t pool_of(Device device);
/// From the pool in the order of a stream, counted; trims the pool and tries once more before it throws OutOfMemory.
void* take_from_pool(Device device, size_t bytes, cudaStream_t stream);
void give_to_pool(Device device, void* data, size_t bytes, cudaStream_t stream) noexcept;

}  // namespace weft::cuda
