// Page-locked host memory, and copies between memories.
#include <weft/cuda/state.cuh>

#include <bit>
#include <cstring>

namespace weft::cuda {

namespace {

struct Pinned {
  void* data = nullptr;
  size_t size = 0;
  std::vector<std::pair<cudaStream_t, cudaEvent_t>> uses;  // the last copy on each stream that has used it

  void used_by(cudaStream_t stream) {
    for (const auto& [s, event] : uses) {
      if (s == stream) return check_cuda(cudaEventRecord(event, stream), "copy");
    }
    cudaEvent_t event;
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "copy");
    uses.emplace_back(stream, event);
    check_cuda(cudaEventRecord(event, stream), "copy");
  }
  bool idle() const {
    for (const auto& [s, event] : uses) {
      if (cudaEventQuery(event) != cudaSuccess) {
        cudaGetLastError();
        return false;
      }
    }
    return true;
  }
};

class PinnedCache {
 public:
  std::shared_ptr<Pinned> take(size_t bytes) {
    const size_t size = std::bit_ceil(std::max<size_t>(bytes, 4096));
    std::unique_lock lock(mutex_);
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (blocks_[i]->size != size || !blocks_[i]->idle()) continue;
      std::unique_ptr<Pinned> found = std::move(blocks_[i]);
      blocks_.erase(blocks_.begin() + static_cast<ptrdiff_t>(i));
      return own(std::move(found));
    }
    auto fresh = std::make_unique<Pinned>();
    fresh->size = size;
    const cudaError_t status = cudaHostAlloc(&fresh->data, size, cudaHostAllocPortable);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw OutOfMemory(concat("cpu: out of page-locked memory: wanted ", bytes, " bytes"));
    }
    check_cuda(status, "pin_memory");
    return own(std::move(fresh));
  }

 private:
  std::shared_ptr<Pinned> own(std::unique_ptr<Pinned> block) {
    return {block.release(), [this](Pinned* p) {
              std::unique_lock lock(mutex_);
              blocks_.emplace_back(p);
            }};
  }
  std::mutex mutex_;
  std::vector<std::unique_ptr<Pinned>> blocks_;
};

// Never destroyed, as the pool.
PinnedCache& pinned_cache() {
  static PinnedCache* cache = new PinnedCache;
  return *cache;
}

}  // namespace

Block allocate_pinned(size_t bytes) {
  check(device_count() > 0, "pin_memory: there is no GPU");
  auto block = pinned_cache().take(bytes);
  return {block->data, nullptr, block};
}

// --- copies between memories -----------------------------------------------------------------------------------------

namespace {

// Lets a device read and write another's memory directly where the hardware can; asked once a pair.
void connect(Device from, Device to) {
  static std::mutex mutex;
  static bool asked[kMaxDevices][kMaxDevices] = {};
  std::unique_lock lock(mutex);
  if (std::exchange(asked[from.index][to.index], true)) return;
  int can = 0;
  if (cudaDeviceCanAccessPeer(&can, to.index, from.index) == cudaSuccess && can) {
    cudaMemAccessDesc access = {};
    access.location.type = cudaMemLocationTypeDevice;
    access.location.id = to.index;
    access.flags = cudaMemAccessFlagsProtReadWrite;
    cudaMemPoolSetAccess(pool_of(from), &access, 1);
  }
  cudaGetLastError();
}

cudaStream_t stream_on(Device device) {
  DeviceScope scope(device);
  return stream();
}

void between_devices(const Place& from, const Place& to, size_t bytes) {
  refuse_capture("copy between devices");
  connect(from.device, to.device);
  const cudaStream_t source = stream_on(from.device), target = stream_on(to.device);
  {
    DeviceScope scope(from.device);
    order(source, target);
  }
  DeviceScope scope(to.device);
  check_cuda(cudaMemcpyPeerAsync(to.data, to.device.index, from.data, from.device.index, bytes, target), "copy");
  order(target, source);  // its memory may be freed or written next
}

// In a capture: bytes from pageable memory are those of now, in every replay.
void captured_upload(Capture& c, const Place& from, const Place& to, size_t bytes) {
  Place source = from;
  if (!source.pinned) {
    const Block staged = allocate_pinned(bytes);
    std::memcpy(staged.data, from.data, bytes);
    source = {staged.data, from.device, staged.keep};
  }
  c.arena->hold(source.pinned);
  check_cuda(cudaMemcpyAsync(to.data, source.data, bytes, cudaMemcpyHostToDevice, stream()), "copy");
}

}  // namespace

void transfer(const Place& from, const Place& to, size_t bytes, bool non_blocking) {
  if (bytes == 0) return;
  if (from.device.is_cuda() && to.device.is_cuda()) return between_devices(from, to, bytes);
  DeviceScope scope(to.device.is_cuda() ? to.device : from.device);
  const std::shared_ptr<void>& pinned = to.device.is_cuda() ? from.pinned : to.pinned;
  // The driver takes pageable memory over before it returns; page-locked memory is read when the copy's turn comes.
  const bool waits = to.device.is_cuda() ? pinned && !non_blocking : !pinned || !non_blocking;
  if (Capture* c = capturing()) {
    if (to.device.is_cuda()) return captured_upload(*c, from, to, bytes);
    if (waits) refuse_capture("copy to the host");
    c->arena->hold(pinned);
  }
  check_cuda(cudaMemcpyAsync(to.data, from.data, bytes, cudaMemcpyDefault, stream()), "copy");
  if (waits) return wait("copy");
  if (pinned && !capturing()) static_cast<Pinned*>(pinned.get())->used_by(stream());
}

}  // namespace weft::cuda
