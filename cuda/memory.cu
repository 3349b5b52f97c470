// Memory: the device's stream-ordered pool, a captured graph's arena, page-locked host memory, and copies between them.
#include <weft/cuda/state.cuh>

#include <bit>
#include <cstring>

namespace weft::cuda {

namespace {

cudaStream_t as_stream(void* handle) { return static_cast<cudaStream_t>(handle); }

cudaMemPool_t pool_of(Device device) {
  cudaMemPool_t pool;
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, device.index), "cuda memory");
  return pool;
}

bool too_large(size_t bytes) {
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess && bytes > total;
}

}  // namespace

// --- the pool --------------------------------------------------------------------------------------------------------

namespace {

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
    const cudaStream_t home = as_stream(taken_on), here = stream();
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

// --- a graph's arena -------------------------------------------------------------------------------------------------

namespace {

constexpr size_t kPiece = 512, kMiB = size_t{1} << 20;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// What to ask the pool for when a piece of this size is wanted: small pieces share blocks.
size_t block_for(size_t bytes) {
  if (bytes < kMiB) return 4 * kMiB;
  return bytes < 10 * kMiB ? 20 * kMiB : round_up(bytes, 2 * kMiB);
}

// Holds one piece; gives it back when the Storage goes.
struct Lease {
  std::shared_ptr<Arena> arena;
  void *data, *stream;
  ~Lease() { arena->give(data, stream); }
};

}  // namespace

void* Arena::own(size_t bytes) {
  void* data = take_from_pool(device_, bytes, state_of(device_).stream);
  blocks_.push_back({data, bytes});
  bytes_ += bytes;
  return data;
}

Block Arena::take(size_t bytes, void* stream) {
  bytes = round_up(std::max<size_t>(bytes, 1), kPiece);
  std::unique_lock lock(mutex_);
  auto at = best(bytes, stream);
  if (at == pieces_.end()) {
    const size_t size = block_for(bytes);
    at = pieces_.insert({static_cast<char*>(own(size)), {size, stream, false, true}}).first;
  }
  Piece& piece = at->second;
  if (piece.size > bytes) {
    pieces_.insert({at->first + bytes, {piece.size - bytes, stream, false, false}});
    piece.size = bytes;
  }
  piece.used = true;
  return {at->first, stream, std::make_shared<Lease>(shared_from_this(), at->first, stream)};
}

Arena::Pieces::iterator Arena::best(size_t bytes, void* stream) {
  auto found = pieces_.end();
  for (auto at = pieces_.begin(); at != pieces_.end(); ++at) {
    const Piece& p = at->second;
    if (p.used || p.stream != stream || p.size < bytes) continue;
    if (found == pieces_.end() || p.size < found->second.size) found = at;
  }
  return found;
}

void Arena::give(void* data, void* stream) {
  Capture* c = capturing();
  std::unique_lock lock(mutex_);
  // Only this thread's captured work is known to be in order with what comes next.
  if (!open_ || !c || c->arena.get() != this || override_stream(device_.index) != stream) return;
  auto at = pieces_.find(static_cast<char*>(data));
  at->second.used = false;
  merge(at);
}

// Joins a free piece with the free ones before and after it in the same block.
void Arena::merge(Pieces::iterator at) {
  auto joins = [](Pieces::iterator a, Pieces::iterator b) {
    return !a->second.used && !b->second.used && !b->second.first && a->second.stream == b->second.stream;
  };
  if (auto next = std::next(at); next != pieces_.end() && joins(at, next)) {
    at->second.size += next->second.size;
    pieces_.erase(next);
  }
  if (at != pieces_.begin()) {
    if (auto previous = std::prev(at); joins(previous, at)) {
      previous->second.size += at->second.size;
      pieces_.erase(at);
    }
  }
}

void Arena::adopt(void* data, size_t bytes, void* stream) {
  std::unique_lock lock(mutex_);
  blocks_.push_back({data, bytes});
  bytes_ += bytes;
  if (bytes >= kPiece) pieces_.insert({static_cast<char*>(data), {bytes / kPiece * kPiece, stream, false, true}});
}

// The last tensor and the graph are gone; replays may still run.
Arena::~Arena() {
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(device_.index);
  const cudaStream_t main = state_of(device_).stream;
  if (replayed) {
    cudaStreamWaitEvent(main, replayed);
    cudaEventDestroy(replayed);
  }
  for (const Taken& b : blocks_) give_to_pool(device_, b.data, b.bytes, main);
  cudaSetDevice(before);
}

// --- page-locked host memory -----------------------------------------------------------------------------------------

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
